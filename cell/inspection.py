"""Parts through the cell with a verdict each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from cell.cycle import Bin, Cycle, Passage
from cell.fingerprint import refuse_mismatch
from cell.interfaces import DeviceError, Frame, PartTicket, Weighing
from cell.line import copies_for, run_line
from cell.scoring import ScoringProcess
from cell.setup import Cell, Order, open_cell
from cell.verdict import Verdict, judge
from detection import InspectorInfo
from detection.decisions import reaches

if TYPE_CHECKING:
    from detection import ViewScore

_EVIDENCE_SIDE = 512


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


def inspect(order: Order, model: Path) -> Iterator[InspectedPart]:
    """Inspect the parts of an order, in order.

    Raises
    ------
    ModelMismatchError
        The model was made for something else; nothing has moved.
    DeviceError
        The line stopped; the part at which it did came out as ``recheck`` before.
    """
    threads = max(1, (os.cpu_count() or 1) // copies_for(order))
    yield from run_line(order, partial(_inspect_parts, model=model, threads=threads))


def _inspect_parts(order: Order, model: Path, threads: int) -> Iterator[InspectedPart]:
    inspector = InspectorInfo.load(model)
    with open_cell(order) as cell:
        refuse_mismatch(inspector.made_for, cell, str(model))
        with ScoringProcess(model, threads=threads) as scoring:
            cycle = Cycle(cell)
            cycle.prepare()
            for _ in order.numbers:
                yield from _inspect_part(cell, cycle, inspector, scoring)


def _inspect_part(
    cell: Cell, cycle: Cycle, inspector: InspectorInfo, scoring: ScoringProcess
) -> Iterator[InspectedPart]:
    frames: dict[str, Frame] = {}
    scores: dict[str, ViewScore] = {}
    verdict: Verdict | None = None

    def keep(view: str, frame: Frame) -> None:
        frames[view] = frame
        scoring.submit(view, _rgb(frame.image))

    def choose(passage: Passage) -> Bin:
        nonlocal scores, verdict
        waited = perf_counter()
        scores = scoring.collect()
        cell.clock.computed(perf_counter() - waited)
        values = {view: score.score for view, score in scores.items()}
        complete = set(inspector.views) == set(values)
        decision = inspector.decide(values) if complete else None
        verdict = judge(passage, inspector.views, values, decision, cell.part.mass)
        return verdict.bin

    ticket = cell.source.next()
    passage: Passage | None = None
    cycle_s: float | None = None
    stopped: DeviceError | None = None
    try:
        passage, _, cycle_s = cycle.run(ticket, on_frame=keep, choose_bin=choose)
    except DeviceError as error:
        stopped = error
        scores = scores or scoring.collect()
        verdict = Verdict("recheck", (str(error),))
    assert verdict is not None
    over = tuple(v for v, s in scores.items() if reaches(s.score, inspector.threshold))
    yield InspectedPart(
        ticket=ticket,
        verdict=verdict,
        scores={view: score.score for view, score in scores.items()},
        views_over=over,
        threshold=inspector.threshold,
        weighing=passage.weighing if passage else None,
        cycle_s=cycle_s,
        frames={view: frame.number for view, frame in frames.items()},
        evidence=tuple(_evidence(frames[v], scores[v]) for v in over) if verdict.bin != "ok" else (),
    )
    if stopped is not None:
        raise stopped


def _evidence(frame: Frame, score: ViewScore) -> Evidence:
    square = score.geometry.square(_rgb(frame.image))
    size = min(len(square), _EVIDENCE_SIDE)
    picture = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    return Evidence(frame.number, np.asarray(picture, np.uint8), score)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a camera's picture with three channels."""
    return image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
