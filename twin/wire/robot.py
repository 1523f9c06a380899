"""The robot server, protocol 5: sessions, motions, refusals, and the lock-step with the client's control loop."""

from __future__ import annotations

import select
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cell.motion.panda import Q_MAX, Q_MIN, V_MAX
from twin.wire import structs
from twin.wire.limits import Thresholds, broken_limit
from twin.wire.plant import Load, Plant
from twin.wire.session import Session
from twin.wire.state import StateWriter
from twin.wire.structs import Answer, Fault, Moved, RobotCall, RobotMode

# As the control unit does: so many states in a row without a command end the motion.
_LOST_IN_A_ROW = 20
_RATE_OVER = 100
_GENERATORS = (structs.JOINT_POSITION, structs.JOINT_VELOCITY)
_CONTROLLERS = (structs.JOINT_IMPEDANCE, structs.EXTERNAL)


class Robot:
    """Speaks for the arm; a context manager.

    Parameters
    ----------
    host : str
        Address to listen on; the port is the protocol's.
    plant : Plant
    library : Path
        The model library that clients get.
    deadline_s : float
        How long a state waits for its command. One that comes later counts as lost, and the last is repeated.
    """

    def __init__(self, host: str, plant: Plant, library: Path, *, deadline_s: float) -> None:
        self._plant = plant
        self._library = library.read_bytes()
        self._deadline_s = deadline_s
        self._session = Session(
            host,
            structs.ROBOT_PORT,
            header=structs.ROBOT_HEADER,
            requests=structs.ROBOT_REQUESTS,
            answer=self._answer,
            gone=self._gone,
        )
        self.mode = RobotMode.IDLE
        self.thresholds = Thresholds()
        self._writer = StateWriter(plant)
        self._motion: int | None = None
        self._modes = structs.OTHER, 0
        self._commanded = False
        self._accepted = 0  # the first state of this motion
        self._lost = 0
        self._in_time: deque[bool] = deque(maxlen=_RATE_OVER)
        self._message_id = 0
        self._connected = False
        self.motions, self.states, self.answered = 0, 0, 0

    def __enter__(self) -> Self:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)

    @property
    def moving(self) -> bool:
        """Whether a client's motion runs."""
        return self._motion is not None

    def poll(self) -> None:
        """Take requests."""
        self._session.poll()

    def publish(self, message_id: int) -> None:
        """Send the state of this millisecond."""
        self._message_id = message_id
        controller, generator = self._modes
        rate = sum(self._in_time) / len(self._in_time) if self._in_time and self.moving else 0.0
        self._session.send_state(
            self._writer.state(message_id, self.mode, controller, generator, rate, self.thresholds)
        )

    def listen(self) -> None:
        """Wait for the command that answers the newest state, and obey it.

        Before the first command of a motion nobody waits: a client only reads until it has seen the new mode.
        """
        command = self._newest_command(self._deadline_s if self._commanded else 0.0)
        if self._motion is None:
            return
        if self._commanded:
            self.states += 1
            self._in_time.append(command is not None)
        if command is None:
            self._lost = self._lost + 1 if self._commanded else 0
            if self._lost >= _LOST_IN_A_ROW:
                self.abort(Fault.COMMUNICATION)
            return
        self._commanded, self._lost = True, 0
        self.answered += 1
        self._obey(command)

    def watch(self) -> None:
        """End the motion when a limit is broken or something is in the way."""
        if self._motion is None:
            return
        broken = broken_limit(self._plant, self.thresholds)
        if broken is not None:
            self.abort(broken)

    def abort(self, fault: Fault) -> None:
        """End the motion by a reflex; the robot moves again after error recovery."""
        self._writer.raise_error(fault)
        self.mode = RobotMode.REFLEX
        self._finish(Moved.REFLEX, yielding=fault in (Fault.JOINT_REFLEX, Fault.CARTESIAN_REFLEX))

    def press_stop(self) -> None:
        """Do what the external activation device does."""
        self.mode = RobotMode.USER_STOPPED
        self._finish(Moved.EMERGENCY)

    def release_stop(self) -> None:
        """Let it go again."""
        if self.mode is RobotMode.USER_STOPPED:
            self.mode = RobotMode.IDLE

    def drop_client(self) -> None:
        """Lose the connection, as when the cable is pulled."""
        self._session.hang_up()

    def _newest_command(self, within_s: float) -> np.void | None:
        """Return the command that answers the newest state, or None when it does not come in time."""
        until, newest = time.perf_counter() + within_s, None
        while True:
            try:
                heard = self._session.datagrams.recv(4096)
            except BlockingIOError:
                heard = None
            if heard is None:
                left = until - time.perf_counter()
                if newest is not None or left <= 0 or self._session.client is None:
                    return newest
                select.select([self._session.datagrams, self._session.client], [], [], left)
                self._session.poll()
                if self._motion is None:
                    return None
                continue
            if len(heard) == structs.ROBOT_COMMAND.itemsize:
                command = np.frombuffer(heard, structs.ROBOT_COMMAND)[0]
                # What still comes for the motion before would follow on torques that are no more.
                answers = int(command["message_id"])
                first = self._accepted if not self._commanded else self._message_id
                if first <= answers <= self._message_id:
                    newest = command

    def _obey(self, command: np.void) -> None:
        plant = self._plant
        if command["motion_generation_finished"]:
            self._finish(Moved.SUCCESS)
            return
        values = np.concatenate([command["tau_J_d"], command["q_c"], command["dq_c"]])
        if not np.isfinite(values).all():
            self._finish(Moved.INPUT_ERROR)
            return
        controller, generator = self._modes
        if controller == structs.EXTERNAL:
            fault = self.thresholds.torque_fault(command["tau_J_d"], plant.tau_d)
            if fault is not None:
                self.abort(fault)
                return
            plant.tau_d = command["tau_J_d"].copy()
        else:
            self._steer(command, generator - 1)

    def _steer(self, command: np.void, generator: int) -> None:
        """Set what the robot's own controller follows."""
        target = self._plant.target
        if generator == structs.JOINT_POSITION:
            q = command["q_c"].copy()
            dq = (q - target.q) / 0.001
        else:
            dq = command["dq_c"].copy()
            q = target.q + 0.001 * dq
        if ((q < Q_MIN) | (q > Q_MAX)).any():
            self.abort(Fault.GENERATOR_POSITION_LIMITS)
        elif (np.abs(dq) > V_MAX * 1.05).any():
            first = generator == structs.JOINT_POSITION and self.answered == 1
            self.abort(Fault.START_POSE_INVALID if first else Fault.GENERATOR_VELOCITY_LIMITS)
        else:
            target.q, target.dq = q, dq

    def _answer(self, call: int, number: int, request: np.void) -> None:
        """Answer a request; see `RobotCall`."""
        if call == RobotCall.CONNECT:
            self._connect(number, request)
        elif not self._connected:
            self._session.hang_up()
        elif call == RobotCall.MOVE:
            self._move(number, request)
        elif call == RobotCall.STOP_MOVE:
            was_moving = self.moving
            self._finish(Moved.PREEMPTED)
            self._reply(call, number, Answer.SUCCESS if was_moving else Answer.NOT_POSSIBLE)
        elif call == RobotCall.LOAD_MODEL_LIBRARY:
            ours = (int(request["architecture"]), int(request["system"])) == (0, 0)
            self._reply(call, number, 0 if ours else 1, self._library if ours else b"")
        elif call == RobotCall.AUTOMATIC_ERROR_RECOVERY:
            possible = not self.moving and self.mode is not RobotMode.USER_STOPPED
            if possible:
                self._writer.clear_errors()
                self.mode = RobotMode.IDLE
                self._plant.hold()
            self._reply(call, number, Answer.SUCCESS if possible else Answer.NOT_POSSIBLE)
        elif call == RobotCall.GET_CARTESIAN_LIMIT:
            # There is none: a world without size, and a frame that is the base's.
            self._reply(call, number, 0, np.concatenate([np.zeros(3), np.eye(4).reshape(16)]).tobytes() + b"\0")
        else:
            self._reply(call, number, Answer.NOT_POSSIBLE if self.moving else self._set(call, request))

    def _connect(self, number: int, request: np.void) -> None:
        right = int(request["version"]) == structs.ROBOT_VERSION
        version = np.uint16(structs.ROBOT_VERSION).tobytes()
        self._reply(RobotCall.CONNECT, number, 0 if right else 1, version)
        if right:
            self._connected = True
            self._session.stream_to(int(request["udp_port"]))

    def _move(self, number: int, request: np.void) -> None:
        controller, generator = int(request["controller_mode"]), int(request["motion_generator_mode"])
        if controller not in range(3) or generator not in range(4):
            refusal: Moved | None = Moved.INVALID_ARGUMENT
        elif (
            self.moving
            or self.mode is not RobotMode.IDLE
            or controller not in _CONTROLLERS
            or generator not in _GENERATORS
        ):
            refusal = Moved.NOT_POSSIBLE
        else:
            refusal = None
        if refusal is not None:
            self._reply(RobotCall.MOVE, number, refusal)
            return
        self._motion = number
        self.mode = RobotMode.MOVE
        self._modes = controller, generator + 1
        self._commanded, self._lost, self._accepted = False, 0, self._message_id + 1
        self.states = self.answered = 0
        self._in_time.clear()
        self._writer.clear_errors()
        self._plant.follow("torque" if controller == structs.EXTERNAL else "impedance")
        self._reply(RobotCall.MOVE, number, Moved.STARTED)

    def _finish(self, how: Moved, *, yielding: bool = False) -> None:
        """End the motion, if one runs, and say how."""
        motion, self._motion = self._motion, None
        if motion is None:
            return
        self._modes = structs.OTHER, 0
        if self.mode is RobotMode.MOVE:
            self.mode = RobotMode.IDLE
        self.motions += 1
        self._plant.hold(yielding=yielding)
        self._plant.world.arrived()
        self._reply(RobotCall.MOVE, motion, how)

    def _set(self, call: int, request: np.void) -> Answer:
        """Take a setting, or refuse it."""
        values = [np.asarray(request[name], np.float64) for name in request.dtype.names or ()]
        if not all(np.isfinite(value).all() for value in values):
            return Answer.INVALID_ARGUMENT
        if call in (RobotCall.SET_EE_TO_K, RobotCall.SET_NE_TO_EE):
            if not _is_pose(values[0]):
                return Answer.INVALID_ARGUMENT
            self._writer.set_frame("EE_T_K" if call == RobotCall.SET_EE_TO_K else "NE_T_EE", values[0])
        elif call == RobotCall.SET_LOAD:
            mass, centre, inertia = values
            if mass < 0:
                return Answer.INVALID_ARGUMENT
            self._plant.load = Load(float(mass), centre.copy(), inertia.copy())
        elif call == RobotCall.SET_COLLISION_BEHAVIOR:
            if any((value <= 0).any() for value in values):
                return Answer.INVALID_ARGUMENT
            self.thresholds = Thresholds(*(value.copy() for value in values))
        elif call == RobotCall.SET_JOINT_IMPEDANCE:
            if (values[0] <= 0).any():
                return Answer.INVALID_ARGUMENT
            self._plant.stiffness = values[0].copy()
        return Answer.SUCCESS

    def _reply(self, call: int, number: int, status: int, content: bytes = b"") -> None:
        self._session.reply(call, number, bytes([status]) + content)

    def _gone(self) -> None:
        self._connected = False
        self._finish(Moved.ABORTED)


def _is_pose(columns: NDArray[np.float64]) -> bool:
    pose = columns.reshape(4, 4).T
    turn = pose[:3, :3]
    whole = np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) and np.linalg.det(turn) > 0
    return bool(whole and np.allclose(pose[3], (0, 0, 0, 1), atol=1e-6))
