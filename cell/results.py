"""What an inspection found out about a part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import PartTicket, Weighing
from cell.timeline import Step
from cell.verdict import Verdict

if TYPE_CHECKING:
    from detection import ViewScore


@dataclass(frozen=True)
class Evidence:
    """A picture that spoke against a part.

    Attributes
    ----------
    frame : int
        Its number.
    picture : (S, S, 3) uint8
        The square that was scored, RGB, at most 512 pixels wide.
    score : ViewScore
        Score, heatmap and where in the frame the square lies.
    """

    frame: int
    picture: NDArray[np.uint8]
    score: ViewScore


@dataclass(frozen=True)
class InspectedPart:
    """Everything that an inspection found out about one part.

    Attributes
    ----------
    ticket : PartTicket
    verdict : Verdict
    scores : mapping of str to float
        By view.
    views_over : tuple of str
        The views whose score reaches the threshold.
    threshold : float
    weighing : Weighing or None
    cycle_s : float or None
        The cell's time for the part; None when the cycle did not come to its end.
    frames : mapping of str to int
        Frame number by view.
    evidence : tuple of Evidence
        For a part that is not ok: the pictures that reached the threshold.
    alarms : tuple of str
        Control charts that left their limits with this part.
    steps : tuple of Step
        What the cycle's time went into; empty when the cycle did not come to its end.
    """

    ticket: PartTicket
    verdict: Verdict
    scores: Mapping[str, float]
    views_over: tuple[str, ...]
    threshold: float
    weighing: Weighing | None
    cycle_s: float | None
    frames: Mapping[str, int]
    evidence: tuple[Evidence, ...]
    alarms: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
