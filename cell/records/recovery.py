"""What an interrupted line left, and how it goes on record."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from cell.records.chain import append
from cell.records.database import Database
from cell.records.locks import is_running
from cell.records.schema import (
    HAND_AND_SCALE_EMPTY,
    DecisionRecord,
    EndingRecord,
    Entry,
    InspectionRecord,
    VerdictRecord,
)

_BEFORE = "the line was interrupted while the part was inspected"
_AFTER = "the line was interrupted before the part was known to lie in its bin"


@dataclass(frozen=True)
class Interrupted:
    """A part that a line did not bring to its end.

    Attributes
    ----------
    entry : int
        Of its inspection.
    part_id : str
    begun_at : str
        UTC, ISO 8601.
    verdict : str or None
        What was on record already.
    """

    entry: int
    part_id: str
    begun_at: str
    verdict: str | None

    def __str__(self) -> str:
        if self.verdict is None:
            return (
                f"{self.part_id}, begun at {self.begun_at}, has no verdict: it may be at the feeder, on the scale or "
                "in the hand"
            )
        return (
            f"{self.part_id}, begun at {self.begun_at}, was found {self.verdict}, but not known to be let go: "
            f"it may be in the hand or in the bin {self.verdict}"
        )


def find_interrupted(database: Database) -> list[Interrupted]:
    """Return the parts that were begun by lines that no longer run, and not ended; in their order.

    A part that was played back lies nowhere: nobody has to look for it.
    """
    query = (
        select(InspectionRecord, Entry.at, VerdictRecord.verdict)
        .join(Entry, Entry.number == InspectionRecord.entry)
        .outerjoin(VerdictRecord, VerdictRecord.inspection == InspectionRecord.entry)
        .outerjoin(EndingRecord, EndingRecord.inspection == InspectionRecord.entry)
        .where(EndingRecord.entry.is_(None), InspectionRecord.audits.is_(None))
        .order_by(InspectionRecord.entry)
    )
    with database.reading() as session:
        rows = session.execute(query).all()
    pictures = database.address.pictures
    return [
        Interrupted(part.entry, part.part_id, at, verdict)
        for part, at, verdict in rows
        if not is_running(pictures, part.run)
    ]


def close_interrupted(database: Database, parts: list[Interrupted], *, cleared_by: str) -> None:
    """Record every interrupted part as `recheck`, and who saw that hand and scale are empty.

    Parameters
    ----------
    database : Database
    parts : list of Interrupted
        What `find_interrupted` found; one that was closed meanwhile is left as it is.
    cleared_by : str
        The person.
    """
    with database.writing() as session:
        for part in parts:
            if session.scalar(select(EndingRecord.entry).where(EndingRecord.inspection == part.entry)):
                continue
            fault = _AFTER
            if session.scalar(select(VerdictRecord.entry).where(VerdictRecord.inspection == part.entry)) is None:
                fault = _BEFORE
                append(session, VerdictRecord(inspection=part.entry, verdict="recheck", reasons=[fault], views=[]))
            append(session, EndingRecord(inspection=part.entry, verdict="recheck", bin=None, cycle_s=None, fault=fault))
            append(
                session,
                DecisionRecord(
                    inspection=part.entry,
                    subject="cleared",
                    decided=HAND_AND_SCALE_EMPTY,
                    who=cleared_by,
                    why=fault,
                ),
            )
