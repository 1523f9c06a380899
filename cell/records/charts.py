"""Control charts and masses of the newest parts, as they are drawn: what `drift` follows, read from its end."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from cell.records.drift import BASELINE, MASS, SECTION_STARTS, Chart
from cell.records.schema import (
    ContentRecord,
    DecisionRecord,
    EndingRecord,
    InspectionRecord,
    RunRecord,
    VerdictRecord,
    ViewRecord,
)
from cell.schema import MassLimits

_FORGOTTEN = 200
"""Values before those shown from which an average is followed: older ones have less than 1e-9 of its weight."""


@dataclass(frozen=True)
class Trace:
    """A control chart's newest part.

    Attributes
    ----------
    centre, limit : float or None
        Of the section; None while its baseline is not full.
    points : tuple of (int, float, float)
        Inspection, value and moving average, the oldest first; before the baseline is full the value stands for the
        average.
    baseline : int
        How many values of the baseline there are.
    """

    centre: float | None
    limit: float | None
    points: tuple[tuple[int, float, float], ...]
    baseline: int

    @property
    def outside(self) -> bool:
        """Whether the average stands outside its limits."""
        return (
            self.centre is not None
            and self.limit is not None
            and bool(self.points)
            and abs(self.points[-1][2] - self.centre) > self.limit
        )


@dataclass(frozen=True)
class WeighedPart:
    """An inspection with its mass and how it ended."""

    inspection: int
    part_id: str
    mass_g: float
    verdict: str


def newest_run(session: Session) -> RunRecord | None:
    """Return the run of the newest inspection that no replay made."""
    query = select(RunRecord).join(InspectionRecord, InspectionRecord.run == RunRecord.entry)
    query = query.where(InspectionRecord.audits.is_(None)).order_by(InspectionRecord.entry.desc()).limit(1)
    return session.scalar(query)


def mass_limits(session: Session, run: RunRecord) -> MassLimits | None:
    """Return the limits of a good part's mass that a run went by; None where its part file names none."""
    part = json.loads(session.get_one(ContentRecord, run.part_hash).text)
    return MassLimits.model_validate(part["mass"]) if "mass" in part else None


def newest_masses(session: Session, *, count: int) -> list[WeighedPart]:
    """Return the newest parts that were weighed, the oldest of them first."""
    query = (
        select(InspectionRecord.entry, InspectionRecord.part_id, VerdictRecord.mass_g, EndingRecord.verdict)
        .join(VerdictRecord, VerdictRecord.inspection == InspectionRecord.entry)
        .join(EndingRecord, EndingRecord.inspection == InspectionRecord.entry)
        .where(InspectionRecord.audits.is_(None), VerdictRecord.mass_g.is_not(None))
        .order_by(InspectionRecord.entry.desc())
        .limit(count)
    )
    return [
        WeighedPart(inspection, part_id, mass_g, verdict)
        for inspection, part_id, mass_g, verdict in reversed(session.execute(query).all())
        if mass_g is not None
    ]


def traces(session: Session, *, shown: int) -> dict[str, Trace]:
    """Return the control charts of the newest section of the cell that inspected last.

    Parameters
    ----------
    session : Session
    shown : int
        How many of the newest parts.

    Returns
    -------
    dict of str to Trace
        By view, then the mass: see `cell.records.drift`, whose centres, averages and limits these are.

    Notes
    -----
    Reads the section's baseline and its end, never the parts between, so that the length of a section costs nothing.
    """
    run = newest_run(session)
    if run is None:
        return {}
    charted = _charted(session, run)
    first = session.execute(charted.order_by(InspectionRecord.entry).limit(BASELINE)).all()
    after = charted.where(InspectionRecord.entry > first[-1][0]) if first else charted
    last = session.execute(after.order_by(InspectionRecord.entry.desc()).limit(shown + _FORGOTTEN)).all()
    rows = [*first, *reversed(last)]
    scores: dict[int, list[tuple[str, float | None]]] = {}
    wanted = select(ViewRecord.verdict, ViewRecord.view, ViewRecord.score).order_by(ViewRecord.place)
    wanted = wanted.where(ViewRecord.verdict.in_([verdict for _, verdict, _ in rows]))
    for verdict, view, score in session.execute(wanted):
        scores.setdefault(verdict, []).append((view, score))
    values: dict[str, list[tuple[int, float]]] = {}
    for inspection, verdict, mass_g in rows:
        for name, value in (*scores.get(verdict, ()), (MASS, mass_g)):
            if value is not None:
                values.setdefault(name, []).append((inspection, value))
    drawn = {name: _trace(found, shown=shown) for name, found in values.items()}
    # The mass last, wherever the first part had it.
    return {name: drawn[name] for name in sorted(drawn, key=lambda name: name == MASS)}


def _trace(values: list[tuple[int, float]], *, shown: int) -> Trace:
    chart = Chart()
    points = []
    for inspection, value in values:
        chart.add(value)
        points.append((inspection, value, value if chart.centre is None else chart.average))
    limit = None if chart.centre is None else chart.limit
    return Trace(chart.centre, limit, tuple(points[-shown:]), min(len(values), BASELINE))


def _charted(session: Session, run: RunRecord) -> Select[int, int, float | None]:
    """Parts of the newest section of a run's cell that count: inspection, verdict's entry, mass."""
    newest = (
        select(InspectionRecord.entry, VerdictRecord.entry, VerdictRecord.mass_g)
        .join(VerdictRecord, VerdictRecord.inspection == InspectionRecord.entry)
        .join(EndingRecord, EndingRecord.inspection == InspectionRecord.entry)
        # Not by the index of verdicts, nearly all of which are ok, nor of runs, nearly all of which are one: what is
        # newest is found by walking from the end.
        .where(func.coalesce(EndingRecord.verdict, "") == "ok", InspectionRecord.audits.is_(None))
    )
    same_cell = select(RunRecord.entry).where(RunRecord.cell == run.cell)
    other = same_cell.where(or_(RunRecord.model_hash != run.model_hash, RunRecord.made_for_hash != run.made_for_hash))
    lot = session.scalar(
        select(InspectionRecord.lot)
        .where(InspectionRecord.run == run.entry, InspectionRecord.audits.is_(None))
        .order_by(InspectionRecord.entry.desc())
        .limit(1)
    )
    run_of = func.coalesce(InspectionRecord.run, 0)
    mine = newest.where(run_of.in_(same_cell))
    before = mine.where(or_(func.coalesce(InspectionRecord.lot, "") != lot, run_of.in_(other)))
    row = session.execute(before.order_by(InspectionRecord.entry.desc()).limit(1)).first()
    changed = session.scalar(select(func.max(DecisionRecord.entry)).where(DecisionRecord.subject.in_(SECTION_STARTS)))
    return mine.where(InspectionRecord.entry > max(row[0] if row else 0, changed or 0))
