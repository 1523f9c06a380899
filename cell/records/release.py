"""Whether a line is released: what its last challenge with known parts found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from cell.interfaces import CellError
from cell.records.chain import append, sha256
from cell.records.database import Database
from cell.records.run import Run
from cell.records.schema import Entry, InspectionRecord, ReleaseRecord, RunRecord


def record_release(database: Database, part_id: str, wrong: Sequence[str]) -> int:
    """Record what came of a challenge, and return the entry.

    Parameters
    ----------
    database : Database
    part_id : str
        One of the parts of the challenge: its run says what was challenged.
    wrong : sequence of str
        What the line said of parts and is not so; where there is nothing, the line is released.
    """
    query = select(InspectionRecord.run).where(InspectionRecord.part_id == part_id)
    with database.writing() as session:
        run = session.scalars(query.order_by(InspectionRecord.entry.desc()).limit(1)).one()
        return append(session, ReleaseRecord(run=run, released=not wrong, wrong=list(wrong)))


def require_release(database: Database, run: Run, hours: float) -> None:
    """Refuse a line that no challenge has released.

    Parameters
    ----------
    database : Database
    run : Run
        What is to be run. Its cell file, part file, model and camera must be those that were challenged.
    hours : float
        For so long a challenge holds.

    Raises
    ------
    CellError
        Says what is missing and what to do.
    """
    same = (
        RunRecord.cell_hash == sha256(run.cell_file),
        RunRecord.part_hash == sha256(run.part_file),
        RunRecord.model_hash == sha256(run.inspector),
        RunRecord.made_for_hash == sha256(run.made_for),
    )
    query = select(ReleaseRecord, Entry.at).join(RunRecord, RunRecord.entry == ReleaseRecord.run).where(*same)
    query = query.join(Entry, Entry.number == ReleaseRecord.entry).order_by(ReleaseRecord.entry.desc()).limit(1)
    with database.reading() as session:
        found = session.execute(query).first()
    if found is None:
        problem = "no challenge was run with this cell file, part file, model and camera"
    elif not found[0].released:
        problem = f"the last challenge, entry {found[0].entry}, found wrong verdicts: {'; '.join(found[0].wrong)}"
    elif datetime.now(UTC) - datetime.fromisoformat(found[1]) > timedelta(hours=hours):
        problem = f"the last challenge was at {found[1][:16]} UTC, more than {hours:g} h ago"
    else:
        return
    raise CellError(f"The line is not released: {problem}; run `twinspect check --challenge`")
