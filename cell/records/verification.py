"""Whether records are what was written: the chain, pictures and marks, and bins against verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session, selectinload

from cell.records.chain import GENESIS, link_hash, sha256
from cell.records.database import Database
from cell.records.marks import MarkStore
from cell.records.pictures import PictureStore
from cell.records.schema import (
    LINKS,
    ContentRecord,
    EndingRecord,
    Entry,
    InspectionRecord,
    Link,
    PictureRecord,
    RemovalRecord,
    RemovedPicture,
    RunRecord,
    VerdictRecord,
    ViewRecord,
)

_CHUNK = 1000


@dataclass(frozen=True)
class Verification:
    """What a check of all records found.

    Attributes
    ----------
    entries, inspections, pictures : int
        How many were checked.
    head : str
        Hash of the last entry. Noted elsewhere, it also shows whether entries were cut off at the end.
    problems : tuple of str
        What is inconsistent; empty when all is well.
    under_way : tuple of str
        Parts that were begun and not ended: of a line that runs now, or was interrupted.
    unnamed : int
        Picture files that no record names any more or yet, as an interrupted part leaves.
    """

    entries: int
    inspections: int
    pictures: int
    head: str
    problems: tuple[str, ...]
    under_way: tuple[str, ...]
    unnamed: int


def verify(database: Database, *, progress: Callable[[int, int], None]) -> Verification:
    """Check every record against its hash, pictures and marks against theirs, every bin against its verdict.

    Parameters
    ----------
    database : Database
    progress : callable
        Called with how many rows and files are checked, and how many there are.
    """
    store = PictureStore(database.address.pictures)
    with database.reading() as session:
        entries = session.scalar(select(func.count()).select_from(Entry)) or 0
        pictures = session.scalar(select(func.count()).select_from(PictureRecord)) or 0
        problems: list[str] = []
        head = GENESIS
        done = 0
        for found, digest in _chain(session):
            head = digest
            problems += found
            done += 1
            progress(done, entries + pictures)
        problems += _unlinked(session)
        problems += _contents(session)
        known = set()
        for picture in session.scalars(select(PictureRecord).execution_options(yield_per=_CHUNK)):
            if picture.removed is None:
                known.add(picture.hash)
            problems += _picture(session, picture, store)
            done += 1
            progress(done, entries + pictures)
        problems += _marks(session, MarkStore(database.address.pictures))
        problems += _bins(session)
        return Verification(
            entries=entries,
            inspections=session.scalar(select(func.count()).select_from(InspectionRecord)) or 0,
            pictures=pictures,
            head=head,
            problems=tuple(problems),
            under_way=tuple(_under_way(session)),
            unnamed=sum(path.stem not in known for path in store.folder.glob("[0-9a-f][0-9a-f]/*.png")),
        )


def _chain(session: Session) -> Iterator[tuple[list[str], str]]:
    """Yield the problems of each entry and its hash."""
    previous, number = GENESIS, 0
    while True:
        chunk = session.scalars(select(Entry).where(Entry.number > number).order_by(Entry.number).limit(_CHUNK)).all()
        if not chunk:
            return
        records = _records(session, chunk[0].number, chunk[-1].number)
        for entry in chunk:
            problems = []
            if entry.number != number + 1:
                problems.append(f"entry {number + 1} is missing from the chain")
            number = entry.number
            record = records.pop((entry.kind, number), None)
            if entry.previous != previous:
                problems.append(f"entry {number} does not follow the one before: an entry was changed or removed")
            if record is None:
                problems.append(f"entry {number}: its row in {entry.kind} is missing")
            elif link_hash(number, entry.at, entry.kind, entry.previous, record.content()) != entry.hash:
                problems.append(f"entry {number}: {entry.kind} was changed after it was written")
            previous = entry.hash
            yield problems, previous
        session.expunge_all()


def _records(session: Session, first: int, last: int) -> dict[tuple[str, int], Link]:
    found: dict[tuple[str, int], Link] = {}
    for kind, table in LINKS.items():
        query = select(table).where(table.entry.between(first, last))
        if table is VerdictRecord:
            query = query.options(selectinload(VerdictRecord.views))
        if table is RemovalRecord:
            query = query.options(selectinload(RemovalRecord.pictures))
        found.update({(kind, row.entry): row for row in session.scalars(query)})
    return found


def _unlinked(session: Session) -> Iterator[str]:
    """Rows that the chain does not know."""
    for kind, table in LINKS.items():
        stray = select(table.entry).outerjoin(Entry, (Entry.number == table.entry) & (Entry.kind == kind))
        for number in session.scalars(stray.where(Entry.number.is_(None))):
            yield f"{kind} {number}: has no entry in the chain"


def _contents(session: Session) -> Iterator[str]:
    for content in session.scalars(select(ContentRecord).execution_options(yield_per=_CHUNK)):
        if sha256(content.text) != content.hash:
            yield f"content {content.hash[:12]}: was changed after it was written"
    named = (
        RunRecord.cell_hash,
        RunRecord.part_hash,
        RunRecord.production_hash,
        RunRecord.model_hash,
        RunRecord.made_for_hash,
        RunRecord.settings_hash,
    )
    for column in named:
        missing = select(RunRecord.entry).outerjoin(ContentRecord, ContentRecord.hash == column)
        for number in session.scalars(missing.where(ContentRecord.hash.is_(None))):
            yield f"run {number}: its {column.key} names a content that is missing"


def _picture(session: Session, picture: PictureRecord, store: PictureStore) -> list[str]:
    if picture.removed is not None:
        if session.get(RemovedPicture, (picture.removed, picture.hash)) is None:
            return [
                f"picture {picture.hash[:12]}: is marked as removed, but removal {picture.removed} does not name it"
            ]
        return []
    path = store.path(picture.hash)
    if not path.is_file():
        return [f"picture {picture.hash[:12]}: {path} is missing"]
    return [] if store.intact(picture.hash) else [f"picture {picture.hash[:12]}: {path} was changed or damaged"]


def _marks(session: Session, store: MarkStore) -> Iterator[str]:
    marked = (
        select(InspectionRecord.part_id, EndingRecord.inspection, EndingRecord.marks)
        .join(EndingRecord, EndingRecord.inspection == InspectionRecord.entry)
        .where(EndingRecord.marks.is_not(None))
    )
    for part_id, inspection, digest in session.execute(marked.execution_options(yield_per=_CHUNK)):
        if digest is not None and not store.intact(inspection, digest):
            yield f"{part_id}: the marks of inspection {inspection} are missing or were changed"


def _bins(session: Session) -> Iterator[str]:
    """Bins against verdicts, and rows against the rows that they name."""
    endings = (
        select(InspectionRecord.part_id, EndingRecord, VerdictRecord.verdict)
        .join(EndingRecord, EndingRecord.inspection == InspectionRecord.entry)
        .outerjoin(VerdictRecord, VerdictRecord.inspection == InspectionRecord.entry)
    )
    for part_id, ending, verdict in session.execute(endings.execution_options(yield_per=_CHUNK)):
        if verdict is None:
            yield f"{part_id}: its cycle ended without a verdict"
        elif ending.bin is not None and ending.bin != ending.verdict:
            yield f"{part_id}: was found {ending.verdict}, but let go over the bin {ending.bin}"
        elif ending.verdict != verdict and not (ending.verdict == "recheck" and ending.fault):
            yield f"{part_id}: was found {verdict}, but ended as {ending.verdict} without a fault"
    unnamed = (
        select(ViewRecord.verdict, ViewRecord.view)
        .outerjoin(PictureRecord, PictureRecord.hash == ViewRecord.picture)
        .where(PictureRecord.hash.is_(None))
    )
    for number, view in session.execute(unnamed):
        yield f"verdict {number}: the picture of view {view} is on no record"


def _under_way(session: Session) -> Iterator[str]:
    query = (
        select(InspectionRecord.part_id)
        .outerjoin(EndingRecord, EndingRecord.inspection == InspectionRecord.entry)
        .where(EndingRecord.entry.is_(None))
        .order_by(InspectionRecord.entry)
    )
    yield from session.scalars(query)
