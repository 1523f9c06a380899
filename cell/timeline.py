"""What a cycle's time went into, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from cell.interfaces import Clock

StepKind = Literal["motion", "gripper", "settling", "capture", "transfer", "weighing", "scoring", "waiting"]
ROBOT_KINDS: tuple[StepKind, ...] = ("motion", "gripper", "settling", "capture", "transfer")


@dataclass(frozen=True)
class Step:
    """Something that took time: what kind, what about, and when on the cell's time line, in seconds.

    Of a motion, `in_time` is what `cell.interfaces.Arm.follow` returned.
    """

    kind: StepKind
    name: str
    start_s: float
    end_s: float
    in_time: float | None = None


class Timeline:
    """Records the steps of a cycle as they happen.

    Parameters
    ----------
    clock : Clock
        Of the cell; steps count from the construction.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._origin_s = clock.now()
        self._steps: list[Step] = []

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was recorded, in the order in which it ended."""
        return tuple(self._steps)

    def now(self) -> float:
        """Return the seconds since the start."""
        return self._clock.now() - self._origin_s

    @contextmanager
    def step(self, kind: StepKind, name: str) -> Iterator[None]:
        """Record what happens inside, an error included."""
        start = self.now()
        try:
            yield
        finally:
            self.add(kind, name, start, self.now())

    def add(self, kind: StepKind, name: str, start_s: float, end_s: float, *, in_time: float | None = None) -> None:
        """Record a step whose times are known."""
        self._steps.append(Step(kind, name, start_s, end_s, in_time))


def robot_time(steps: Sequence[Step]) -> float | None:
    """Return the seconds from the first grasp to the release over the bin, without weighing and waiting.

    None where the cycle did not come that far.
    """
    handling = [step for step in steps if step.kind == "gripper"]
    # Take, put on the scale, take again, let go.
    if len(handling) < 4:
        return None
    start, end = handling[0].start_s, handling[-1].end_s
    aside = sum(step.end_s - step.start_s for step in steps if step.kind in ("weighing", "waiting"))
    return end - start - aside


def scoring_steps(steps: Sequence[Step], seconds: Mapping[str, float]) -> tuple[Step, ...]:
    """Lay the scoring of pictures beside the motion.

    Parameters
    ----------
    steps : sequence of Step
        Of a cycle, its pictures among them.
    seconds : mapping of str to float
        How long each picture was worked on, by view, in the order in which they were handed over.

    Notes
    -----
    One process takes the pictures in turn: each begins when it was delivered or when the one before it is done.
    In a twin the cell's time is simulated and computing is measured, so this is where it would lie on a real line.
    """
    delivered = {step.name: step.end_s for step in steps if step.kind in ("capture", "transfer")}
    laid = []
    free = 0.0
    for view, took in seconds.items():
        start = max(free, delivered[view])
        free = start + took
        laid.append(Step("scoring", view, start, free))
    return tuple(laid)
