"""Devices that tell what they do and do no more once a person asked for a stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cell.interfaces import Arm, Frame, JointTrajectory, PartSource, PartTicket, ReflexStop, Scale, Weighing
from cell.setup import Cell
from cell.web.snapshot import Doing

Tell = Callable[[Doing, str], None]
"""Gets what is done, and where or of which view."""


class Stop:
    """A stop that a person may ask for while the arm moves.

    Not an emergency stop: it goes the same way as all other commands, through software.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._moving: Arm | None = None

    def ask(self) -> None:
        """Stop the arm where it moves, and refuse further motions; from another thread, again until it is noticed."""
        self._asked.set()
        moving = self._moving
        if moving is not None:
            moving.stop()

    @property
    def asked(self) -> bool:
        """Whether it was asked for."""
        return self._asked.is_set()

    @contextmanager
    def over(self, arm: Arm, doing: str) -> Iterator[None]:
        """Let an arm move, and stop it when that is asked for; raises `ReflexStop` where it was asked for before."""
        if self._asked.is_set():
            raise ReflexStop("arm", doing, "it was stopped", "look at the cell and acknowledge")
        self._moving = arm
        try:
            yield
        finally:
            self._moving = None


class _Told:
    """Hands everything on that it does not tell about."""

    def __init__(self, device: Any, tell: Tell) -> None:
        self._device = device
        self._tell = tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)


class _ToldArm(_Told):
    def __init__(self, device: Arm, tell: Tell, stop: Stop) -> None:
        super().__init__(device, tell)
        self._stop = stop

    def follow(self, trajectory: JointTrajectory) -> float | None:
        self._tell("moving", trajectory.goal)
        with self._stop.over(self._device, f"moving to {trajectory.goal}"):
            in_time: float | None = self._device.follow(trajectory)
        return in_time


class _ToldCamera(_Told):
    def capture(self) -> Frame:
        frame: Frame = self._device.capture()
        self._tell("picture", "")
        return frame


class _ToldScale(_Told):
    def __init__(self, device: Scale, tell: Tell, weighed: Callable[[float], None]) -> None:
        super().__init__(device, tell)
        self._weighed = weighed

    def weigh(self) -> Weighing:
        self._tell("weighing", "")
        weighing: Weighing = self._device.weigh()
        self._weighed(weighing.mass_g)
        return weighing


class _ToldSource(_Told):
    def __init__(self, device: PartSource, tell: Tell, came: Callable[[PartTicket], None]) -> None:
        super().__init__(device, tell)
        self._came = came

    def next(self) -> PartTicket:
        self._tell("feeder", "")
        ticket: PartTicket = self._device.next()
        self._came(ticket)
        return ticket


def watched(
    cell: Cell,
    *,
    stop: Stop,
    tell: Tell,
    came: Callable[[PartTicket], None],
    weighed: Callable[[float], None],
) -> Cell:
    """Return the same cell with devices that tell what they do, and an arm that `stop` stops."""
    told: dict[str, Any] = {
        "arm": _ToldArm(cell.arm, tell, stop),
        "camera": _ToldCamera(cell.camera, tell),
        "scale": _ToldScale(cell.scale, tell, weighed),
        "source": _ToldSource(cell.source, tell, came),
    }
    return replace(cell, **told)
