"""The robot's state, as it is sent each millisecond."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cell.motion.panda import TCP_M
from twin.wire.limits import Thresholds
from twin.wire.plant import Plant
from twin.wire.structs import ROBOT_STATE, Fault

# The Franka hand: turned by -45° about the flange; mass, centre and inertia as its data sheet says.
_HAND_KG, _HAND_CENTRE_M = 0.73, (-0.01, 0.0, 0.03)
_HAND_INERTIA = np.diag([0.001, 0.0025, 0.0017]).reshape(9)
_GRAVITY = (0.0, 0.0, -9.81)


def _hand() -> NDArray[np.float64]:
    c = np.sqrt(0.5)
    return np.array([[c, c, 0, 0], [-c, c, 0, 0], [0, 0, 1, TCP_M], [0, 0, 0, 1]]).T.reshape(16)


class StateWriter:
    """Fills the state from the plant."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._state = np.zeros((), ROBOT_STATE)
        state = self._state
        state["F_T_NE"] = _hand()
        state["NE_T_EE"] = state["EE_T_K"] = np.eye(4).reshape(16)
        state["m_ee"], state["F_x_Cee"], state["I_ee"] = _HAND_KG, _HAND_CENTRE_M, _HAND_INERTIA
        state["O_ddP_O"] = _GRAVITY
        self._tau_j = plant.tau_j
        self._frames()

    def set_frame(self, name: Literal["NE_T_EE", "EE_T_K"], pose: NDArray[np.float64]) -> None:
        """Change where the end effector (16,) or the stiffness frame (16,) is."""
        self._state[name] = pose
        self._frames()

    def raise_error(self, fault: Fault) -> None:
        """Say that this has happened, as an error and as what ended the last motion."""
        self._state["errors"][fault] = self._state["reflex_reason"][fault] = True

    def clear_errors(self) -> None:
        """Say that nothing is wrong any more."""
        self._state["errors"] = self._state["reflex_reason"] = False

    def state(
        self, message_id: int, mode: int, controller: int, generator: int, rate: float, thresholds: Thresholds
    ) -> bytes:
        """Return the datagram."""
        plant, state = self._plant, self._state
        ee = state["F_T_EE"]
        pose = plant.model.end_effector(plant.q, ee)
        jacobian = plant.model.jacobian(plant.q, ee)
        target = plant.target
        moving = plant.drive == "impedance"
        state["message_id"] = message_id
        state["O_T_EE"] = pose
        state["O_T_EE_d"] = state["O_T_EE_c"] = plant.model.end_effector(target.q, ee) if moving else pose
        state["m_load"], state["F_x_Cload"], state["I_load"] = (
            plant.load.mass_kg,
            plant.load.centre_m,
            plant.load.inertia,
        )
        state["elbow"] = state["elbow_d"] = state["elbow_c"] = plant.q[2], 1.0 if plant.q[3] >= 0 else -1.0
        state["tau_J"], state["tau_J_d"] = plant.tau_j, plant.tau_d
        state["dtau_J"] = (plant.tau_j - self._tau_j) / 0.001
        self._tau_j = plant.tau_j
        state["q"] = state["theta"] = plant.q
        state["dq"] = state["dtheta"] = plant.dq
        state["q_d"], state["dq_d"] = (target.q, target.dq) if moving else (plant.q, np.zeros(7))
        state["ddq_d"] = 0.0
        state["O_dP_EE_d"] = state["O_dP_EE_c"] = jacobian @ np.asarray(state["dq_d"])
        touched, hit = thresholds.touched(plant), thresholds.hit(plant)
        state["joint_contact"], state["cartesian_contact"] = touched
        state["joint_collision"], state["cartesian_collision"] = hit
        state["tau_ext_hat_filtered"], state["O_F_ext_hat_K"] = plant.tau_ext, plant.wrench
        to_tool = pose.reshape(4, 4)[:3, :3]
        state["K_F_ext_hat_K"] = np.concatenate([to_tool @ plant.wrench[:3], to_tool @ plant.wrench[3:]])
        state["motion_generator_mode"], state["controller_mode"], state["robot_mode"] = generator, controller, mode
        state["control_command_success_rate"] = rate
        return state.tobytes()

    def _frames(self) -> None:
        hand, end = (self._state[name].reshape(4, 4).T for name in ("F_T_NE", "NE_T_EE"))
        self._state["F_T_EE"] = (hand @ end).T.reshape(16)
        self._plant.flange_to_ee = self._state["F_T_EE"].copy()
