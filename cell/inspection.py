"""Parts through the cell with a verdict each."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from cell.cycle import Bin, Cycle, Passage
from cell.fingerprint import refuse_mismatch
from cell.interfaces import DeviceError, Frame, Weighing
from cell.line import copies_for, run_line
from cell.records.address import Address
from cell.records.candidates import require_approval
from cell.records.database import Database
from cell.records.drift import DriftWatch
from cell.records.line import LineRecords
from cell.records.recovery import close_interrupted, find_interrupted
from cell.records.release import require_release
from cell.records.retention import prune
from cell.records.run import Run
from cell.replay import RecordedFrame, RecordedTicket
from cell.results import Evidence, InspectedPart
from cell.scoring import ScoringProcess
from cell.setup import Cell, Order, open_cell
from cell.start import Clear, Confirm, refuse_uncleared, refuse_unconfirmed
from cell.timeline import scoring_steps
from cell.verdict import Verdict, judge
from detection import InspectorInfo
from detection.decisions import reaches

if TYPE_CHECKING:
    from detection import ViewScore

_EVIDENCE_SIDE = 512
_PRUNED_AFTER = 50


LayIn = Callable[[int], None]
"""Told the number of a known part before it is presented."""

Watch = Callable[[Cell], Cell]
"""Gets the connected cell and returns the one that is used, with devices that tell or refuse more."""


class Scoring(Protocol):
    """Scores pictures beside the motion; see `ScoringProcess`."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """How long each picture of the last collection took, by view."""
        ...

    def submit(self, view: str, image: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> None:
        """Hand a picture over."""
        ...

    def collect(self) -> tuple[dict[str, ViewScore], tuple[str, ...]]:
        """Wait for the scores, and the reasons of those that are missing."""
        ...


def inspect(
    order: Order,
    model: Path,
    records: str,
    *,
    clear: Clear = refuse_uncleared,
    confirm: Confirm = refuse_unconfirmed,
    lay_in: LayIn | None = None,
    watch: Watch | None = None,
) -> Generator[InspectedPart, None, None]:
    """Inspect the parts of an order, in order; each is on record before it is let go over its bin.

    Parameters
    ----------
    order : Order
        Which parts, on which cell.
    model : Path
        Folder that `train` wrote.
    records : str
        Address of the records (`cell.records.address`).
    clear : callable
        Asked before anything moves, where an interrupted line left parts, which become ``recheck``; and where hand
        or scale are not empty. Copies of the cell ask in their own processes.
    confirm : callable
        See `cell.cycle.Cycle.prepare`.
    lay_in : callable, optional
        For a challenge: told each part's number before it is presented. Without it the line must be released, where
        the cell file asks for that.
    watch : callable, optional
        Stands between the cycle and the devices; importable where the cell file allows several copies.

    Raises
    ------
    ModelMismatchError
        The model was made for something else; nothing has moved.
    CellError
        The line is not released, or the model is a candidate that is not, and nothing has moved; or the line
        stopped, and the part at which it did came out as ``recheck`` before.
    """
    threads = max(1, (os.cpu_count() or 1) // copies_for(order))
    work = partial(
        _inspect_parts,
        model=model,
        records=records,
        threads=threads,
        clear=clear,
        confirm=confirm,
        lay_in=lay_in,
        watch=watch,
        released=True,
    )
    InspectorInfo.load(model)  # what is no model leaves no database behind
    # Opened here first: one process makes the database, and copies of the cell find it made.
    with Database(Address.parse(records), create=True) as database:
        left = find_interrupted(database)
        if left:
            close_interrupted(database, left, cleared_by=clear([str(part) for part in left]))
        drift = DriftWatch(database)
        rule = order.cell.content.retention
        for number, part in enumerate(run_line(order, work), start=1):
            yield replace(part, alarms=drift.update())
            if rule is not None and number % _PRUNED_AFTER == 0:
                prune(database, rule)
        if rule is not None:
            prune(database, rule)


def inspect_known_again(order: Order, model: Path, records: str) -> Generator[InspectedPart, None, None]:
    """Inspect recorded parts of known truth with a candidate, which nobody has released yet.

    Parameters
    ----------
    order : Order
        On a cell that plays them back (`cell.replay`): nothing real moves.
    model, records
        See `inspect`. Nothing else of the records is touched: a line may be writing beside.
    """
    yield from _inspect_parts(
        order,
        model=model,
        records=records,
        threads=1,
        clear=refuse_uncleared,
        confirm=refuse_unconfirmed,
        lay_in=_played_back,
        watch=None,
        released=False,
    )


def _played_back(number: int) -> None:
    """Do nothing: the recording presents the part."""


def _inspect_parts(
    order: Order,
    model: Path,
    records: str,
    threads: int,
    clear: Clear,
    confirm: Confirm,
    lay_in: LayIn | None,
    watch: Watch | None,
    released: bool,
) -> Generator[InspectedPart, None, None]:
    inspector = InspectorInfo.load(model)
    with open_cell(order) as connected:
        cell = connected if watch is None else watch(connected)
        refuse_mismatch(inspector, cell, str(model))
        run, hours = Run.of(order, cell, model), cell.file.release_hours
        if released and inspector.extends is not None:
            with Database(Address.parse(records)) as database:
                require_approval(database, run.inspector)
        if lay_in is not None:
            run = run.as_challenge()
        elif hours is not None:
            with Database(Address.parse(records)) as database:
                require_release(database, run, hours)
        with (
            LineRecords(records, run) as book,
            ScoringProcess(model, threads=threads) as scoring,
        ):
            cycle = Cycle(cell)

            def note(found: Sequence[str]) -> str:
                who = clear(found)
                book.cleared(found, who)
                return who

            cycle.prepare(clear=note, confirm=confirm)
            for number in order.numbers:
                if lay_in is not None:
                    lay_in(number)
                yield from inspect_part(cell, cycle, inspector, scoring, book)
                scoring.require_alive()


def inspect_part(
    cell: Cell, cycle: Cycle, inspector: InspectorInfo, scoring: Scoring, book: LineRecords
) -> Iterator[InspectedPart]:
    """Inspect the next part of a prepared cycle.

    Yields
    ------
    InspectedPart
        Once; a `DeviceError` that stops the line is raised after it.

    Raises
    ------
    CellError
        The part could not be recorded; it was not let go over a bin.
    """
    frames: dict[str, Frame] = {}
    inspected: InspectedPart | None = None

    def keep(view: str, frame: Frame, mask: NDArray[np.bool_] | None) -> None:
        if isinstance(frame, RecordedFrame):
            mask = frame.mask  # what was masked then
        frames[view] = frame
        book.keep(view, frame, mask)
        scoring.submit(view, as_rgb(frame.image), mask)

    def conclude(weighing: Weighing | None, faults: tuple[str, ...]) -> InspectedPart:
        """Judge with the scores that are there, and put the verdict on record."""
        waited = perf_counter()
        scores, problems = scoring.collect()
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
        for fault in (*faults, *problems):
            book.fault(fault)
        book.judge(concluded)
        cell.clock.computed(perf_counter() - waited)
        return concluded

    def choose(passage: Passage) -> Bin:
        nonlocal inspected
        inspected = conclude(passage.weighing, passage.faults)
        return inspected.verdict.bin

    try:
        ticket = cell.source.next()
    except DeviceError as error:
        book.fault(str(error))
        raise
    book.begin(ticket, audits=ticket.audits if isinstance(ticket, RecordedTicket) else None)
    try:
        _, target, cycle_s = cycle.run(ticket, on_frame=keep, choose_bin=choose)
    except DeviceError as error:
        if inspected is None:
            inspected = conclude(None, (str(error),))
        else:
            # It was judged but did not reach its bin: nobody knows where it lies now, so the verdict falls.
            inspected = replace(inspected, verdict=Verdict("recheck", (str(error), *inspected.verdict.reasons)))
            book.fault(str(error))
        book.end(inspected, bin=None, fault=str(error))
        yield inspected
        raise
    assert inspected is not None
    steps = (*cycle.steps, *scoring_steps(cycle.steps, scoring.seconds))
    inspected = replace(inspected, cycle_s=cycle_s, steps=steps)
    book.end(inspected, bin=target)
    yield inspected


def _evidence(frame: Frame, score: ViewScore) -> Evidence:
    square = score.geometry.square(as_rgb(frame.image))
    size = min(len(square), _EVIDENCE_SIDE)
    picture = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    return Evidence(frame.number, np.asarray(picture, np.uint8), score)


def as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a camera's picture with three channels."""
    return image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
