"""Today's figures and the newest parts, read once for all who look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cell.records.queries import count_undecided, count_verdicts, latest_decisions, newest
from cell.records.schema import Entry

_NEWEST = 8


@dataclass(frozen=True)
class Row:
    """A part as lists show it; `decided` is the verdict of the person who decided last."""

    inspection: int
    part_id: str
    lot: str
    at: str
    stands: str
    decided: str | None
    mass_g: float | None
    cycle_s: float | None
    reasons: tuple[str, ...]
    played_back: bool


@dataclass(frozen=True)
class Overview:
    """Figures since midnight, and the newest parts.

    Attributes
    ----------
    counts : dict of str to int
        How many parts ended as ok, reject and recheck since midnight here.
    reject_rate : float or None
        Share of them that ended as reject; None before the first.
    waiting : int
        Parts that no person has decided about.
    rows : list of Row
        The newest parts, the newest first.
    """

    counts: dict[str, int]
    reject_rate: float | None
    waiting: int
    rows: list[Row]


def read_overview(session: Session) -> Overview:
    """Read today's figures."""
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    found = count_verdicts(session, since=midnight.astimezone(UTC).isoformat(timespec="microseconds"))
    counts = {verdict: found.get(verdict, 0) for verdict in ("ok", "reject", "recheck")}
    total = sum(counts.values())
    rate = counts["reject"] / total if total else None
    return Overview(counts, rate, count_undecided(session), read_rows(session, count=_NEWEST))


def read_rows(
    session: Session, *, count: int, verdict: str | None = None, named: str | None = None, before: int | None = None
) -> list[Row]:
    """Read parts as lists show them; see `cell.records.queries.newest`."""
    found = newest(session, count=count, verdict=verdict, named=named, before=before)
    decided = latest_decisions(session, [i.part.entry for i in found])
    return [
        Row(
            inspection=i.part.entry,
            part_id=i.part.part_id,
            lot=i.part.lot,
            at=i.begun.at,
            stands=i.stands,
            decided=decided[i.part.entry].decided if i.part.entry in decided else None,
            mass_g=i.verdict.mass_g if i.verdict else None,
            cycle_s=i.ending.cycle_s if i.ending else None,
            reasons=tuple(i.verdict.reasons) if i.verdict else (),
            played_back=i.part.audits is not None,
        )
        for i in found
    ]


class SharedOverview:
    """The overview, read anew only where something was added to the records or the day has changed."""

    def __init__(self) -> None:
        self._newest: tuple[tuple[int, str], Overview] | None = None

    def read(self, session: Session) -> tuple[tuple[int, str], Overview]:
        """Return what tells this overview from others, and the overview."""
        last = session.scalar(select(func.max(Entry.number))) or 0
        key = (last, datetime.now().astimezone().date().isoformat())
        newest = self._newest
        if newest is None or newest[0] != key:
            newest = self._newest = (key, read_overview(session))
        return newest
