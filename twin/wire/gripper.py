"""The gripper server, protocol 3: the hand's fingers, which hold what they touch."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np

from cell.motion.panda import OPENING_MAX_M
from twin.wire import structs
from twin.wire.plant import ServedWorld
from twin.wire.session import Session
from twin.wire.structs import Gripped, GripperCall

_STATE_MS = 33
# Both fingers touch for so long before the grasp counts; see `twin.arm`.
_FIRM_MS = 5
_REACHED_M = 2e-4
_STILL_M_MS = 2e-6
_STILL_MS = 100
_FORCE_N = 20.0
# The fingers are no faster, whatever a client asks for.
_SPEED_MAX_M_S = 0.1
_ROOM_C = 25


class Hand:
    """Speaks for the hand; a context manager."""

    def __init__(self, host: str, world: ServedWorld) -> None:
        self._world = world
        self._session = Session(
            host,
            structs.GRIPPER_PORT,
            header=structs.GRIPPER_HEADER,
            requests=structs.GRIPPER_REQUESTS,
            answer=self._answer,
            gone=self._abort,
        )
        self._running: tuple[int, int, Callable[[], Gripped | None]] | None = None
        self._connected = False
        self._grasped = False
        self._still_ms = self._touched_ms = 0
        self._width = float(world.fingers().sum())

    def __enter__(self) -> Self:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)

    @property
    def working(self) -> bool:
        """Whether the fingers are on their way."""
        return self._running is not None

    def poll(self) -> None:
        """Take requests."""
        self._session.poll()

    def publish(self, message_id: int) -> None:
        """Send the state, thirty times a second of the robot's time."""
        if message_id % _STATE_MS:
            return
        state = np.zeros((), structs.GRIPPER_STATE)
        state["message_id"] = message_id % 2**32
        state["width"], state["max_width"] = self._world.fingers().sum(), OPENING_MAX_M
        state["is_grasped"], state["temperature"] = self._grasped and self._world.gripped, _ROOM_C
        self._session.send_state(state.tobytes())

    def watch(self) -> None:
        """Look where the fingers are after a millisecond, and answer when they have arrived."""
        width = float(self._world.fingers().sum())
        self._still_ms = self._still_ms + 1 if abs(width - self._width) < _STILL_M_MS else 0
        self._width = width
        if self._grasped and not self._world.gripped:
            # It slipped out, and the fingers still press.
            self._grasped = False
            self._drive(0.0, 0.05, _FORCE_N)
        if self._running is None:
            return
        call, number, done = self._running
        status = done()
        if status is not None:
            self._running = None
            self._reply(call, number, status)

    def lose(self) -> None:
        """Let the part slip out."""
        self._world.let_go()

    def _answer(self, call: int, number: int, request: np.void) -> None:
        if call == GripperCall.CONNECT:
            right = int(request["version"]) == structs.GRIPPER_VERSION
            self._reply(call, number, 0 if right else 1, np.uint16(structs.GRIPPER_VERSION).tobytes())
            if right:
                self._connected = True
                self._session.stream_to(int(request["udp_port"]))
            return
        if not self._connected:
            self._session.hang_up()
            return
        self._interrupt()
        if call == GripperCall.STOP:
            self._world.drive_fingers(self._world.fingers(), force_n=_FORCE_N)
            self._reply(call, number, Gripped.SUCCESS)
            return
        done = self._start(call, request)
        if done is None:
            self._reply(call, number, Gripped.FAIL)
            return
        self._running = call, number, done
        self._still_ms = self._touched_ms = 0

    def _start(self, call: int, request: np.void) -> Callable[[], Gripped | None] | None:
        """Set the fingers going; return what tells how it ended, or None when it cannot be."""
        if call == GripperCall.HOMING:
            self._let_go()
            self._drive(OPENING_MAX_M, 0.05, _FORCE_N)
            return lambda: self._arrived(OPENING_MAX_M)
        width, speed = float(request["width"]), float(request["speed"])
        if not (0 <= width <= OPENING_MAX_M and speed > 0):
            return None
        speed = min(speed, _SPEED_MAX_M_S)
        if call == GripperCall.MOVE:
            self._let_go()
            self._drive(width, speed, _FORCE_N)
            return lambda: self._arrived(width)
        inner, outer, force = float(request["inner"]), float(request["outer"]), float(request["force"])
        if not (inner >= 0 and outer >= 0 and 0 < force <= 140):
            return None
        if not self._world.gripped:
            self._drive(0.0, speed, force)
        return lambda: self._closed(width - inner, width + outer, force)

    def _arrived(self, width: float) -> Gripped | None:
        if abs(self._width - width) < _REACHED_M:
            return Gripped.SUCCESS
        return Gripped.UNSUCCESSFUL if self._still_ms >= _STILL_MS else None

    def _closed(self, low: float, high: float, force: float) -> Gripped | None:
        """Tell whether the fingers hold something as wide as was asked for."""
        if not self._world.gripped:
            touched = all(self._world.finger_contacts())
            self._touched_ms = self._touched_ms + 1 if touched else 0
            if self._touched_ms < _FIRM_MS:
                return Gripped.UNSUCCESSFUL if self._still_ms >= _STILL_MS or self._width < 1e-3 else None
            self._world.grip(force)
        self._world.press(force)
        self._world.drive_fingers(self._world.fingers(), force_n=force)
        self._grasped = low < self._width < high
        return Gripped.SUCCESS if self._grasped else Gripped.UNSUCCESSFUL

    def _let_go(self) -> None:
        self._grasped = False
        self._world.let_go()

    def _drive(self, width: float, speed: float, force: float) -> None:
        self._world.drive_fingers(np.full(2, width / 2), force_n=force, speed_m_s=speed / 2)

    def _interrupt(self) -> None:
        """Tell whoever waits that his command was aborted."""
        if self._running is not None:
            call, number, _ = self._running
            self._running = None
            self._reply(call, number, Gripped.ABORTED)

    def _abort(self) -> None:
        self._connected, self._running = False, None

    def _reply(self, call: int, number: int, status: int, content: bytes = b"") -> None:
        self._session.reply(call, number, np.uint16(status).tobytes() + content)
