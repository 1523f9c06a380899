"""Parts through the cell with a verdict each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from cell.cycle import Bin, Cycle, Passage
from cell.fingerprint import refuse_mismatch
from cell.interfaces import DeviceError, Frame, Weighing
from cell.line import copies_for, run_line
from cell.records import Records
from cell.results import Evidence, InspectedPart
from cell.scoring import ScoringProcess
from cell.setup import Cell, Order, open_cell
from cell.timeline import scoring_steps
from cell.verdict import Verdict, judge
from detection import InspectorInfo
from detection.decisions import reaches

if TYPE_CHECKING:
    from detection import ViewScore

_EVIDENCE_SIDE = 512


def inspect(order: Order, model: Path, records: str) -> Iterator[InspectedPart]:
    """Inspect the parts of an order, in order; each is on record before it is let go over its bin.

    Parameters
    ----------
    order : Order
        Which parts, on which cell.
    model : Path
        Folder that `train` wrote.
    records : str
        URL of the database.

    Raises
    ------
    ModelMismatchError
        The model was made for something else; nothing has moved.
    CellError
        The line stopped; the part at which it did came out as ``recheck`` before.
    """
    threads = max(1, (os.cpu_count() or 1) // copies_for(order))
    work = partial(_inspect_parts, model=model, records=records, threads=threads)
    InspectorInfo.load(model)  # what is no model leaves no database behind
    # Opened here first: one process makes the database, and copies of the cell find it made.
    with Records(records, cell=str(order.cell.path), model=str(model)):
        yield from run_line(order, work)


def _inspect_parts(order: Order, model: Path, records: str, threads: int) -> Iterator[InspectedPart]:
    inspector = InspectorInfo.load(model)
    with open_cell(order) as cell:
        refuse_mismatch(inspector, cell, str(model))
        with (
            Records(records, cell=str(order.cell.path), model=str(model)) as book,
            ScoringProcess(model, threads=threads) as scoring,
        ):
            cycle = Cycle(cell)
            cycle.prepare()
            for _ in order.numbers:
                yield from _inspect_part(cell, cycle, inspector, scoring, book)


def _inspect_part(
    cell: Cell, cycle: Cycle, inspector: InspectorInfo, scoring: ScoringProcess, book: Records
) -> Iterator[InspectedPart]:
    frames: dict[str, Frame] = {}
    inspected: InspectedPart | None = None
    row = 0

    def keep(view: str, frame: Frame, mask: NDArray[np.bool_] | None) -> None:
        frames[view] = frame
        scoring.submit(view, _rgb(frame.image), mask)

    def conclude(weighing: Weighing | None, faults: tuple[str, ...]) -> InspectedPart:
        """Judge with the scores that are there, and put the verdict on record."""
        nonlocal row
        waited = perf_counter()
        scores, problems = scoring.collect()
        cell.clock.computed(perf_counter() - waited)
        values = {view: score.score for view, score in scores.items()}
        complete = set(inspector.views) == set(values)
        decision = inspector.decide(values) if complete else None
        verdict = judge(weighing, (*faults, *problems), cell.part.view_names, values, decision, cell.part.mass)
        over = tuple(v for v, s in scores.items() if reaches(s.score, inspector.threshold))
        concluded = InspectedPart(
            ticket=ticket,
            verdict=verdict,
            scores=values,
            views_over=over,
            threshold=inspector.threshold,
            weighing=weighing,
            cycle_s=None,
            frames={view: frame.number for view, frame in frames.items()},
            evidence=tuple(_evidence(frames[v], scores[v]) for v in over) if verdict.bin != "ok" else (),
        )
        row = book.add(concluded)
        return concluded

    def choose(passage: Passage) -> Bin:
        nonlocal inspected
        inspected = conclude(passage.weighing, passage.faults)
        return inspected.verdict.bin

    ticket = cell.source.next()
    try:
        *_, cycle_s = cycle.run(ticket, on_frame=keep, choose_bin=choose)
    except DeviceError as error:
        if inspected is None:
            yield conclude(None, (str(error),))
        else:
            # It was judged but did not reach its bin: nobody knows where it lies now, so the verdict falls.
            inspected = replace(inspected, verdict=Verdict("recheck", (str(error), *inspected.verdict.reasons)))
            book.finish(row, inspected)
            yield inspected
        raise
    assert inspected is not None
    steps = (*cycle.steps, *scoring_steps(cycle.steps, scoring.seconds))
    inspected = replace(inspected, cycle_s=cycle_s, steps=steps)
    book.finish(row, inspected)
    yield inspected


def _evidence(frame: Frame, score: ViewScore) -> Evidence:
    square = score.geometry.square(_rgb(frame.image))
    size = min(len(square), _EVIDENCE_SIDE)
    picture = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    return Evidence(frame.number, np.asarray(picture, np.uint8), score)


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a camera's picture with three channels."""
    return image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
