"""What a line writes while it inspects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from cell.cycle import Bin
from cell.interfaces import CellError, Frame, PartTicket
from cell.records.address import Address
from cell.records.archive import Archive, StoredView
from cell.records.chain import append
from cell.records.database import Database
from cell.records.locks import RunLock
from cell.records.marks import MarkStore
from cell.records.pictures import PictureStore
from cell.records.run import Run
from cell.records.schema import (
    HAND_AND_SCALE_EMPTY,
    DecisionRecord,
    EndingRecord,
    FaultRecord,
    InspectionRecord,
    PictureRecord,
    VerdictRecord,
    ViewRecord,
)
from cell.results import InspectedPart


@dataclass
class _UnderWay:
    """The part at hand: its entry, and what the frames handed over say of themselves, without their pictures."""

    entry: int
    frames: dict[str, dict[str, Any]] = field(default_factory=dict)


class LineRecords:
    """The records of one run of a line; a context manager.

    A part goes `begin` → `keep` each picture → `judge` → `end`. Each of them but `keep` is on the disk when it
    returns.

    Parameters
    ----------
    address : str
        See `Address`.
    run : Run
        What the parts are inspected with.

    Notes
    -----
    Every method raises `CellError` when it cannot record what it is given: then the part must not go into a bin.
    """

    def __init__(self, address: str, run: Run) -> None:
        self._address = Address.parse(address)
        self._run = run
        self._part: _UnderWay | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._database = stack.enter_context(Database(self._address, create=True))
            self._store = PictureStore(self._address.pictures)
            self._marks = MarkStore(self._address.pictures)
            try:
                self._store.create()
                self._marks.create()
                with self._database.writing() as session:
                    self._entry = append(session, self._run.record(session))
                stack.callback(RunLock(self._address.pictures, self._entry).release)
            except OSError as error:
                raise CellError(f"{self._address.pictures}: cannot be written: {error.strerror or error}") from error
            self._archive = stack.enter_context(Archive(self._store))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def begin(self, ticket: PartTicket, *, audits: str | None = None) -> None:
        """Record that a part lies at the feeder, before anything moves.

        Parameters
        ----------
        ticket : PartTicket
        audits : str, optional
            Hash of the inspection whose pictures are played back.
        """
        row = InspectionRecord(
            run=self._entry,
            part_id=ticket.part_id,
            lot=ticket.lot,
            cavity=ticket.cavity,
            shot=ticket.shot,
            declared=ticket.label,
            audits=audits,
        )
        with self._database.writing() as session:
            self._part = _UnderWay(append(session, row))

    def keep(self, view: str, frame: Frame, mask: NDArray[np.bool_] | None) -> None:
        """Hand over a picture and what was masked in it; it is stored beside the motion."""
        self._at_hand.frames[view] = {
            "serial": frame.serial,
            "frame": int(frame.number),
            "taken_s": float(frame.timestamp_s),
            "exposure_us": float(frame.exposure_us),
            "retries": frame.retries,
        }
        self._archive.submit(view, frame, mask)

    def judge(self, part: InspectedPart) -> int:
        """Record the verdict, after all pictures are stored, and return the entry of the inspection."""
        at_hand = self._at_hand
        stored = self._archive.collect()
        row = VerdictRecord(
            inspection=at_hand.entry,
            verdict=part.verdict.bin,
            reasons=list(part.verdict.reasons),
            threshold=_finite(part.threshold),
            mass_g=_finite(part.weighing.mass_g) if part.weighing else None,
            mass_stable=bool(part.weighing.stable) if part.weighing else None,
            views=[
                ViewRecord(
                    place=place,
                    view=view,
                    **frame,
                    score=_finite(part.scores.get(view)),
                    picture=stored[view].picture.hash,
                    mask=None if (mask := stored[view].mask) is None else mask.hash,
                )
                for place, (view, frame) in enumerate(at_hand.frames.items())
            ],
        )
        with self._database.writing() as session:
            self._name_pictures(session, stored)
            append(session, row)
        return at_hand.entry

    def end(self, part: InspectedPart, *, bin: Bin | None, fault: str | None = None) -> None:
        """Record how the cycle ended: the bin that the part was let go over, or None with the fault."""
        inspection = self._at_hand.entry
        marks, failed = None, None
        try:
            # The arm is home: what people only look at delays no part.
            marks = self._marks.put(inspection, part.evidence, threshold=part.threshold)
        except OSError as error:
            failed = error  # it must not cost the ending, too
        row = EndingRecord(
            inspection=inspection,
            verdict=part.verdict.bin,
            bin=bin,
            cycle_s=_finite(part.cycle_s),
            fault=fault,
            marks=marks,
            in_time=[[step.name, step.in_time] for step in part.steps if step.in_time is not None] or None,
        )
        with self._database.writing() as session:
            append(session, row)
        if failed is not None:
            raise CellError(f"{self._address.pictures}: cannot be written: {failed.strerror or failed}") from failed
        self._part = None

    def fault(self, message: str) -> None:
        """Record something that went wrong, with the part at hand if there is one."""
        row = FaultRecord(run=self._entry, inspection=self._part.entry if self._part else None, message=message)
        with self._database.writing() as session:
            append(session, row)

    def cleared(self, found: Sequence[str], who: str) -> None:
        """Record that a person saw to it that hand and scale are empty, before the first part."""
        with self._database.writing() as session:
            append(
                session,
                DecisionRecord(
                    inspection=None, subject="cleared", decided=HAND_AND_SCALE_EMPTY, who=who, why="; ".join(found)
                ),
            )

    @property
    def _at_hand(self) -> _UnderWay:
        assert self._part is not None, "begin() comes first"
        return self._part

    def _name_pictures(self, session: Session, stored: dict[str, StoredView]) -> None:
        """Make the rows of the files. None may have gone since it was stored, as a twin of one that a rule let go."""
        pictures = {p.hash: p for view in stored.values() for p in (view.picture, view.mask) if p is not None}
        for digest, picture in pictures.items():
            if not self._store.path(digest).is_file():
                raise FileNotFoundError(f"{self._store.path(digest)} is gone before it was named")
            row = session.get(PictureRecord, digest)
            if row is None:
                session.add(PictureRecord(hash=digest, bytes=picture.bytes, removed=None))
            else:
                row.removed = None
        session.flush()


def _finite(value: float | None) -> float | None:
    """Return a number that every database can store; one that is none stays in the reasons."""
    return float(value) if value is not None and math.isfinite(value) else None
