"""What people ask of records."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session, aliased, selectinload

from cell.interfaces import CellError
from cell.records.chain import append
from cell.records.database import Database
from cell.records.drift import SECTION_STARTS
from cell.records.schema import (
    HAND_AND_SCALE_EMPTY,
    AlarmRecord,
    DecisionRecord,
    EndingRecord,
    Entry,
    FaultRecord,
    InspectionRecord,
    RunRecord,
    VerdictRecord,
)

_CHUNK = 500


@dataclass(frozen=True)
class Inspection:
    """One inspection with what belongs to it; `verdict` and `ending` are None while they are not on record."""

    part: InspectionRecord
    begun: Entry
    run: RunRecord
    verdict: VerdictRecord | None
    ending: EndingRecord | None

    @property
    def stands(self) -> str:
        """The verdict as it stands: ``under way`` before there is one."""
        if self.ending is not None:
            return self.ending.verdict
        return "under way" if self.verdict is None else self.verdict.verdict


def _inspections() -> Select[InspectionRecord, Entry, RunRecord, VerdictRecord, EndingRecord]:
    return (
        select(InspectionRecord, Entry, RunRecord, VerdictRecord, EndingRecord)
        .join(Entry, Entry.number == InspectionRecord.entry)
        .join(RunRecord, RunRecord.entry == InspectionRecord.run)
        .outerjoin(VerdictRecord, VerdictRecord.inspection == InspectionRecord.entry)
        .outerjoin(EndingRecord, EndingRecord.inspection == InspectionRecord.entry)
    )


def newest(
    session: Session,
    *,
    count: int,
    lot: str | None = None,
    verdict: str | None = None,
    named: str | None = None,
    before: int | None = None,
) -> list[Inspection]:
    """Return the newest inspections, the newest first.

    Parameters
    ----------
    session : Session
    count : int
        How many at most.
    lot, verdict : str, optional
        Only those of this lot, that ended so.
    named : str, optional
        Only of parts with this in their names, large or small letters.
    before : int, optional
        Only those begun before that entry: where the page before ended.
    """
    query = _inspections().order_by(InspectionRecord.entry.desc()).limit(count)
    if lot is not None:
        query = query.where(InspectionRecord.lot == lot)
    if verdict is not None:
        query = query.where(EndingRecord.verdict == verdict)
    if named is not None:
        query = query.where(InspectionRecord.part_id.icontains(named, autoescape=True))
    if before is not None:
        query = query.where(InspectionRecord.entry < before)
    return [Inspection(*row) for row in session.execute(query)]


def undecided(session: Session, *, count: int, before: int | None = None) -> list[Inspection]:
    """Return the newest inspections that ended as not ok and about which no person has decided, the newest first.

    With `before` only those begun before that entry.
    """
    query = _inspections().where(*_waits()).order_by(InspectionRecord.entry.desc()).limit(count)
    if before is not None:
        query = query.where(InspectionRecord.entry < before)
    return [Inspection(*row) for row in session.execute(query)]


def count_undecided(session: Session) -> int:
    """Return how many inspections wait for a person's decision."""
    query = select(func.count()).select_from(InspectionRecord)
    query = query.join(EndingRecord, EndingRecord.inspection == InspectionRecord.entry)
    return session.scalar(query.where(*_waits())) or 0


def _waits() -> tuple[ColumnElement[bool], ...]:
    """Conditions on an inspection and its ending: not ok, and nobody has decided."""
    decided = select(DecisionRecord.inspection).where(
        DecisionRecord.subject == "verdict", DecisionRecord.inspection.is_not(None)
    )
    return (
        EndingRecord.verdict.in_(("reject", "recheck")),
        InspectionRecord.audits.is_(None),
        InspectionRecord.entry.not_in(decided),
    )


def count_verdicts(session: Session, *, since: str | None = None) -> dict[str, int]:
    """Return how many inspections ended as what; with `since`, UTC in ISO 8601, those that ended from then on.

    Parts that were played back do not count among those since a time: no part came through the cell.
    """
    query = select(EndingRecord.verdict, func.count()).group_by(EndingRecord.verdict)
    if since is not None:
        query = query.join(InspectionRecord, InspectionRecord.entry == EndingRecord.inspection).where(
            EndingRecord.entry >= first_entry_since(session, since), InspectionRecord.audits.is_(None)
        )
    return {verdict: number for verdict, number in session.execute(query)}


def first_entry_since(session: Session, at: str) -> int:
    """Return the number of the first entry made at a time, UTC in ISO 8601, or later.

    Entries are numbered without gaps in the order of their times, so that a bisection finds it without an index.
    """
    last = session.scalar(select(func.max(Entry.number))) or 0

    def made_at(number: int) -> str:
        return session.scalar(select(Entry.at).where(Entry.number == number)) or ""

    return bisect_left(range(1, last + 1), at, key=made_at) + 1


def every(session: Session) -> Iterator[Inspection]:
    """Yield all inspections with their views, the oldest first, a few in memory at a time."""
    last = 0
    while True:
        query = _inspections().where(InspectionRecord.entry > last).order_by(InspectionRecord.entry).limit(_CHUNK)
        rows = session.execute(query.options(selectinload(VerdictRecord.views))).all()
        if not rows:
            return
        for row in rows:
            yield Inspection(*row)
        last = rows[-1][0].entry
        session.expunge_all()


def of_part(session: Session, part_id: str) -> list[Inspection]:
    """Return all inspections of a part with their views, the oldest first.

    Raises
    ------
    CellError
        There is none.
    """
    query = _inspections().where(InspectionRecord.part_id == part_id).order_by(InspectionRecord.entry)
    rows = session.execute(query.options(selectinload(VerdictRecord.views))).all()
    if not rows:
        raise CellError(f"There is no part {part_id} on record; `twinspect records list` shows the newest")
    return [Inspection(*row) for row in rows]


def by_entry(session: Session, inspection: int) -> Inspection:
    """Return one inspection with its views.

    Raises
    ------
    CellError
        There is none of that entry.
    """
    query = _inspections().where(InspectionRecord.entry == inspection)
    row = session.execute(query.options(selectinload(VerdictRecord.views))).first()
    if row is None:
        raise CellError(f"There is no inspection {inspection} on record")
    return Inspection(*row)


def faults_of(session: Session, inspection: int) -> Sequence[FaultRecord]:
    """Return what went wrong with an inspection."""
    return session.scalars(
        select(FaultRecord).where(FaultRecord.inspection == inspection).order_by(FaultRecord.entry)
    ).all()


def decisions_of(session: Session, inspection: int) -> Sequence[DecisionRecord]:
    """Return what people decided about an inspection."""
    query = select(DecisionRecord).where(DecisionRecord.inspection == inspection)
    return session.scalars(query.order_by(DecisionRecord.entry)).all()


def latest_decisions(session: Session, inspections: Collection[int]) -> dict[int, DecisionRecord]:
    """Return by inspection the verdict that a person decided last, as far as anybody did."""
    query = select(DecisionRecord).where(
        DecisionRecord.inspection.in_(inspections), DecisionRecord.subject == "verdict"
    )
    return {row.inspection: row for row in session.scalars(query.order_by(DecisionRecord.entry)) if row.inspection}


def alarms_of(session: Session, inspection: int) -> Sequence[AlarmRecord]:
    """Return the control charts that left their limits with an inspection."""
    query = select(AlarmRecord).where(AlarmRecord.inspection == inspection)
    return session.scalars(query.order_by(AlarmRecord.entry)).all()


def audits(session: Session) -> list[tuple[Inspection, Inspection]]:
    """Return inspections with those that played them back, in the order of the latter."""
    then = aliased(Entry)
    pairs = (
        select(InspectionRecord.entry, then.number)
        .join(then, (then.hash == InspectionRecord.audits) & (then.kind == InspectionRecord.__tablename__))
        .order_by(InspectionRecord.entry)
    )
    found = []
    for again, first in session.execute(pairs).all():
        both = _inspections().where(InspectionRecord.entry.in_((first, again))).order_by(InspectionRecord.entry)
        rows = session.execute(both.options(selectinload(VerdictRecord.views))).all()
        found.append((Inspection(*rows[0]), Inspection(*rows[1])))
    return found


def decide(database: Database, part_id: str, verdict: str, *, who: str, why: str) -> int:
    """Record what a person decided about a part, at its latest inspection; return the entry."""
    with database.reading() as session:
        latest = of_part(session, part_id)[-1].part.entry
    return decide_about(database, latest, verdict, who=who, why=why)


def decide_about(database: Database, inspection: int, verdict: str, *, who: str, why: str) -> int:
    """Record what a person decided about one inspection; return the entry."""
    with database.writing() as session:
        by_entry(session, inspection)
        row = DecisionRecord(inspection=inspection, subject="verdict", decided=verdict, who=who, why=why)
        return append(session, row)


def clear(database: Database, inspection: int, *, who: str, why: str) -> int:
    """Record that a person saw hand and scale empty after an inspection that did not end in a bin."""
    with database.writing() as session:
        row = DecisionRecord(inspection=inspection, subject="cleared", decided=HAND_AND_SCALE_EMPTY, who=who, why=why)
        return append(session, row)


def change(database: Database, subject: str, *, who: str, why: str) -> int:
    """Record that a person changed light or camera, at which a new section of the control charts starts."""
    if subject not in SECTION_STARTS:
        raise CellError(f"A change is of {' or '.join(SECTION_STARTS)}, not {subject}; lot and model are known")
    with database.writing() as session:
        return append(session, DecisionRecord(inspection=None, subject=subject, decided="changed", who=who, why=why))
