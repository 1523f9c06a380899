"""What a line tells about itself while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ready", "starting", "running", "pausing", "paused", "stopping", "held", "gone"]
"""`held`: nothing moves before a person acknowledged; `gone`: the line's process has ended."""

Command = Literal["start", "pause", "resume", "stop", "acknowledge"]

ALLOWED: dict[State, tuple[Command, ...]] = {
    "ready": ("start",),
    "starting": ("stop",),
    "running": ("pause", "stop"),
    "pausing": ("resume", "stop"),
    "paused": ("resume", "stop"),
    "stopping": (),
    "held": ("acknowledge",),
    "gone": (),
}
"""Which commands make sense in which state."""

Doing = Literal["", "feeder", "moving", "picture", "weighing", "judging"]


@dataclass(frozen=True)
class Snapshot:
    """The line at one moment.

    Attributes
    ----------
    state : State
    message : str
        Why it is held or gone; else empty.
    part_id : str or None
        The part at hand.
    doing : Doing
        What the cell does with it, and `at` where or of which view.
    at : str
    taken : tuple of str
        Views of the part whose pictures are taken.
    mass_g : float or None
        Its mass, once it was weighed.
    alarms : tuple of str
        Control charts that left their limits since the process started.
    finished : int
        Parts that ended since the process started: where this changes, the records have.
    """

    state: State = "ready"
    message: str = ""
    part_id: str | None = None
    doing: Doing = ""
    at: str = ""
    taken: tuple[str, ...] = ()
    mass_g: float | None = None
    alarms: tuple[str, ...] = ()
    finished: int = 0
