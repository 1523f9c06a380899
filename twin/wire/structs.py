"""What goes over the wire of the Franka Control Interface, as data: packed, little-endian, matrices by columns.

Source: libfranka-common at e6aa0fc (robot protocol 5, gripper protocol 3), which libfranka 0.9.2 pins.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

ROBOT_PORT, GRIPPER_PORT = 1337, 1338
ROBOT_VERSION, GRIPPER_VERSION = 5, 3

ROBOT_HEADER = np.dtype([("command", "<u4"), ("id", "<u4"), ("size", "<u4")])
GRIPPER_HEADER = np.dtype([("command", "<u2"), ("id", "<u4"), ("size", "<u4")])

N_ERRORS = 41

ROBOT_STATE = np.dtype(
    [
        ("message_id", "<u8"),
        *((name, "<f8", 16) for name in ("O_T_EE", "O_T_EE_d", "F_T_EE", "EE_T_K", "F_T_NE", "NE_T_EE")),
        ("m_ee", "<f8"),
        ("I_ee", "<f8", 9),
        ("F_x_Cee", "<f8", 3),
        ("m_load", "<f8"),
        ("I_load", "<f8", 9),
        ("F_x_Cload", "<f8", 3),
        ("elbow", "<f8", 2),
        ("elbow_d", "<f8", 2),
        *((name, "<f8", 7) for name in ("tau_J", "tau_J_d", "dtau_J", "q", "q_d", "dq", "dq_d", "ddq_d")),
        ("joint_contact", "<f8", 7),
        ("cartesian_contact", "<f8", 6),
        ("joint_collision", "<f8", 7),
        ("cartesian_collision", "<f8", 6),
        ("tau_ext_hat_filtered", "<f8", 7),
        ("O_F_ext_hat_K", "<f8", 6),
        ("K_F_ext_hat_K", "<f8", 6),
        ("O_dP_EE_d", "<f8", 6),
        ("O_ddP_O", "<f8", 3),
        ("elbow_c", "<f8", 2),
        ("delbow_c", "<f8", 2),
        ("ddelbow_c", "<f8", 2),
        ("O_T_EE_c", "<f8", 16),
        ("O_dP_EE_c", "<f8", 6),
        ("O_ddP_EE_c", "<f8", 6),
        ("theta", "<f8", 7),
        ("dtheta", "<f8", 7),
        ("motion_generator_mode", "u1"),
        ("controller_mode", "u1"),
        ("errors", "?", N_ERRORS),
        ("reflex_reason", "?", N_ERRORS),
        ("robot_mode", "u1"),
        ("control_command_success_rate", "<f8"),
    ]
)

ROBOT_COMMAND = np.dtype(
    [
        ("message_id", "<u8"),
        ("q_c", "<f8", 7),
        ("dq_c", "<f8", 7),
        ("O_T_EE_c", "<f8", 16),
        ("O_dP_EE_c", "<f8", 6),
        ("elbow_c", "<f8", 2),
        ("valid_elbow", "?"),
        ("motion_generation_finished", "?"),
        ("tau_J_d", "<f8", 7),
    ]
)

GRIPPER_STATE = np.dtype(
    [
        ("message_id", "<u4"),
        ("width", "<f8"),
        ("max_width", "<f8"),
        ("is_grasped", "?"),
        ("temperature", "<u2"),
    ]
)


class RobotCall(IntEnum):
    """Commands of the robot server."""

    CONNECT = 0
    MOVE = 1
    STOP_MOVE = 2
    GET_CARTESIAN_LIMIT = 3
    SET_COLLISION_BEHAVIOR = 4
    SET_JOINT_IMPEDANCE = 5
    SET_CARTESIAN_IMPEDANCE = 6
    SET_GUIDING_MODE = 7
    SET_EE_TO_K = 8
    SET_NE_TO_EE = 9
    SET_LOAD = 10
    SET_FILTERS = 11
    AUTOMATIC_ERROR_RECOVERY = 12
    LOAD_MODEL_LIBRARY = 13


ROBOT_REQUESTS = {
    RobotCall.CONNECT: np.dtype([("version", "<u2"), ("udp_port", "<u2")]),
    RobotCall.MOVE: np.dtype(
        [
            ("controller_mode", "<u4"),
            ("motion_generator_mode", "<u4"),
            ("path_deviation", "<f8", 3),
            ("goal_deviation", "<f8", 3),
        ]
    ),
    RobotCall.STOP_MOVE: np.dtype([]),
    RobotCall.GET_CARTESIAN_LIMIT: np.dtype([("limit", "<i4")]),
    RobotCall.SET_COLLISION_BEHAVIOR: np.dtype(
        [
            *(
                (f"{bound}_torque_{phase}", "<f8", 7)
                for phase in ("acceleration", "nominal")
                for bound in ("lower", "upper")
            ),
            *(
                (f"{bound}_force_{phase}", "<f8", 6)
                for phase in ("acceleration", "nominal")
                for bound in ("lower", "upper")
            ),
        ]
    ),
    RobotCall.SET_JOINT_IMPEDANCE: np.dtype([("stiffness", "<f8", 7)]),
    RobotCall.SET_CARTESIAN_IMPEDANCE: np.dtype([("stiffness", "<f8", 6)]),
    RobotCall.SET_GUIDING_MODE: np.dtype([("free", "?", 6), ("elbow", "?")]),
    RobotCall.SET_EE_TO_K: np.dtype([("pose", "<f8", 16)]),
    RobotCall.SET_NE_TO_EE: np.dtype([("pose", "<f8", 16)]),
    RobotCall.SET_LOAD: np.dtype([("mass", "<f8"), ("centre", "<f8", 3), ("inertia", "<f8", 9)]),
    RobotCall.SET_FILTERS: np.dtype([("cutoff", "<f8", 5)]),
    RobotCall.AUTOMATIC_ERROR_RECOVERY: np.dtype([]),
    RobotCall.LOAD_MODEL_LIBRARY: np.dtype([("architecture", "u1"), ("system", "u1")]),
}


class Moved(IntEnum):
    """How the robot answers `RobotCall.MOVE`."""

    SUCCESS = 0
    STARTED = 1
    PREEMPTED = 2
    NOT_POSSIBLE = 3
    SINGULAR_START = 4
    INVALID_ARGUMENT = 5
    REFLEX = 6
    EMERGENCY = 7
    INPUT_ERROR = 8
    ABORTED = 9


class Answer(IntEnum):
    """How the robot answers everything else."""

    SUCCESS = 0
    NOT_POSSIBLE = 1
    INVALID_ARGUMENT = 2


class RobotMode(IntEnum):
    """What the robot says it is doing."""

    OTHER = 0
    IDLE = 1
    MOVE = 2
    GUIDING = 3
    REFLEX = 4
    USER_STOPPED = 5
    RECOVERY = 6


# Controller modes of a Move request; the state uses the same numbers, and OTHER when none runs.
JOINT_IMPEDANCE, CARTESIAN_IMPEDANCE, EXTERNAL, OTHER = range(4)
# Motion generator modes of a Move request; the state counts one more and says 0 when none runs.
JOINT_POSITION, JOINT_VELOCITY, CARTESIAN_POSITION, CARTESIAN_VELOCITY = range(4)


class Fault(IntEnum):
    """Bits of `errors` and `reflex_reason` that this server sets."""

    JOINT_POSITION_LIMITS = 0
    JOINT_VELOCITY = 3
    JOINT_REFLEX = 6
    CARTESIAN_REFLEX = 7
    START_POSE_INVALID = 11
    GENERATOR_POSITION_LIMITS = 12
    GENERATOR_VELOCITY_LIMITS = 13
    COMMUNICATION = 25
    TORQUE_DISCONTINUITY = 32
    TORQUE_RANGE = 34


class GripperCall(IntEnum):
    """Commands of the gripper server."""

    CONNECT = 0
    HOMING = 1
    GRASP = 2
    MOVE = 3
    STOP = 4


GRIPPER_REQUESTS = {
    GripperCall.CONNECT: np.dtype([("version", "<u2"), ("udp_port", "<u2")]),
    GripperCall.HOMING: np.dtype([]),
    GripperCall.GRASP: np.dtype([(name, "<f8") for name in ("width", "inner", "outer", "speed", "force")]),
    GripperCall.MOVE: np.dtype([("width", "<f8"), ("speed", "<f8")]),
    GripperCall.STOP: np.dtype([]),
}


class Gripped(IntEnum):
    """How the gripper answers."""

    SUCCESS = 0
    FAIL = 1
    UNSUCCESSFUL = 2
    ABORTED = 3
