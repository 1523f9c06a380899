"""Control charts: scores and mass drift before parts are rejected, as a lamp ages or a camera moves."""

from __future__ import annotations

import math
from bisect import bisect
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session, selectinload

from cell.records.chain import append
from cell.records.database import Database
from cell.records.schema import (
    AlarmRecord,
    DecisionRecord,
    EndingRecord,
    InspectionRecord,
    RunRecord,
    VerdictRecord,
)

WEIGHT = 0.1
"""Of the newest value: small, to find shifts of about one standard deviation (Lucas & Saccucci 1990)."""

LIMIT = 4.0
"""Half the width between the limits, in standard deviations of the average. A part has some 17 charts: at the usual 3
one of them would alarm falsely within a hundred parts."""

BASELINE = 50
"""Parts from which centre and spread of a section are estimated."""

MASS = "mass"
"""The name of the chart of the mass; the others are named by their view."""

SECTION_STARTS = ("light", "camera")
"""What a person can say to have changed; lot, model and what a camera reports are known."""


@dataclass
class Chart:
    """An exponentially weighted moving average of one quantity, with limits.

    The first `BASELINE` values set centre and spread, the latter by the mean moving range, which a slow drift
    among them does not widen. Roberts 1959; limits exact for the number of values, Lucas & Saccucci 1990.

    Attributes
    ----------
    values : list of float
        The first ones, as far as they set the baseline.
    centre, spread : float or None
        Mean and standard deviation; None before the baseline is full.
    average : float
        The moving average.
    count : int
        Values since the baseline.
    """

    values: list[float] = field(default_factory=list)
    centre: float | None = None
    spread: float | None = None
    average: float = math.nan
    count: int = 0

    def add(self, value: float) -> bool:
        """Take the next value; whether the average has left its limits."""
        if self.centre is None or self.spread is None:
            self.values.append(value)
            if len(self.values) == BASELINE:
                self.centre = self.average = float(np.mean(self.values))
                # The mean of |difference| of two normal values is 2/√π standard deviations.
                self.spread = float(np.mean(np.abs(np.diff(self.values)))) * math.sqrt(math.pi) / 2
            return False
        self.average += WEIGHT * (value - self.average)
        self.count += 1
        return abs(self.average - self.centre) > self.limit

    @property
    def limit(self) -> float:
        """How far the average may be from the centre now."""
        if self.spread is None:
            return math.inf
        # The centre itself is an estimate and adds its own variance.
        share = WEIGHT / (2 - WEIGHT) * (1 - (1 - WEIGHT) ** (2 * self.count)) + 1 / BASELINE
        return LIMIT * self.spread * math.sqrt(share)

    @property
    def outside(self) -> bool:
        """Whether the average stands outside the limits."""
        return self.centre is not None and self.count > 0 and abs(self.average - self.centre) > self.limit


@dataclass(frozen=True)
class Section:
    """What the charts of a section have in common: a change of any of them starts a new one."""

    lot: str
    model: str
    camera: str
    changes: int


@dataclass
class Line:
    """The charts of a cell's newest section by their name, and which of them have alarmed."""

    section: Section
    charts: dict[str, Chart] = field(default_factory=dict)
    alarmed: set[str] = field(default_factory=set)


class DriftWatch:
    """Follows the charts of the newest section of each cell while parts are recorded.

    Only parts that ended as ok, and are no audits, are charted: a defect says nothing about the cell, and drift is
    to be seen before it makes good parts rejects.

    Parameters
    ----------
    database : Database

    Attributes
    ----------
    lines : dict of str to Line
        By the path of the cell file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.lines: dict[str, Line] = {}
        with database.reading() as session:
            self._seen = _start(session)
        self._advance()

    def update(self) -> tuple[str, ...]:
        """Take in what was recorded since the last call; put new alarms on record and return their sentences.

        A chart alarms once in its section.
        """
        alarms = self._advance()
        if alarms:
            with self._database.writing() as session:
                for alarm in alarms:
                    append(session, alarm)
                return tuple(alarm.message for alarm in alarms)
        return ()

    def _advance(self) -> list[AlarmRecord]:
        alarms = []
        with self._database.reading() as session:
            changes = session.scalars(select(DecisionRecord.entry).where(DecisionRecord.subject.in_(SECTION_STARTS)))
            changed = sorted(changes)
            for part, run, verdict, ending in session.execute(_charted().where(EndingRecord.entry > self._seen)):
                self._seen = ending
                section = Section(part.lot, run.model_hash, run.made_for_hash, bisect(changed, part.entry))
                line = self.lines.get(run.cell)
                if line is None or line.section != section:
                    line = self.lines[run.cell] = Line(section)
                values = {view.view: view.score for view in verdict.views} | {MASS: verdict.mass_g}
                for name, value in values.items():
                    if value is None:
                        continue
                    chart = line.charts.setdefault(name, Chart())
                    if chart.add(value) and name not in line.alarmed:
                        line.alarmed.add(name)
                        alarms.append(AlarmRecord(inspection=part.entry, chart=name, message=describe(name, chart)))
        return alarms


def describe(name: str, chart: Chart) -> str:
    """Return what an alarm says."""
    assert chart.centre is not None
    what, unit = ("the mass", " g") if name == MASS else (f"the score of view {name}", "")
    way = "rises" if chart.average > chart.centre else "falls"
    return (
        f"drift: {what} {way}: its moving average {chart.average:.4g}{unit} left "
        f"{chart.centre:.4g} ± {chart.limit:.2g}{unit}; look at lamp, lens, camera and scale before good parts are "
        "rejected"
    )


def _charted() -> Select[InspectionRecord, RunRecord, VerdictRecord, int]:
    """Parts that count, with the entry of their ending, in its order."""
    return (
        select(InspectionRecord, RunRecord, VerdictRecord, EndingRecord.entry)
        .join(RunRecord, RunRecord.entry == InspectionRecord.run)
        .join(VerdictRecord, VerdictRecord.inspection == InspectionRecord.entry)
        .join(EndingRecord, EndingRecord.inspection == InspectionRecord.entry)
        .where(EndingRecord.verdict == "ok", InspectionRecord.audits.is_(None))
        .order_by(EndingRecord.entry)
        .options(selectinload(VerdictRecord.views))
    )


def _start(session: Session) -> int:
    """Return the entry after which every cell's newest section lies: what is older need not be read."""
    starts = []
    for cell in session.scalars(select(RunRecord.cell).distinct()):
        mine = _charted().where(RunRecord.cell == cell)
        newest = session.execute(mine.order_by(None).order_by(EndingRecord.entry.desc()).limit(1)).first()
        if newest is None:
            continue
        part, run, *_ = newest
        other = mine.where(
            or_(
                InspectionRecord.lot != part.lot,
                RunRecord.model_hash != run.model_hash,
                RunRecord.made_for_hash != run.made_for_hash,
            )
        )
        last = session.execute(other.order_by(None).order_by(EndingRecord.entry.desc()).limit(1)).first()
        starts.append(last[-1] if last else 0)
    return min(starts, default=0)
