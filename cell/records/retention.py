"""Removing pictures by a rule: on record before the files go, and never one that the rule protects."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from cell.records.chain import append, canonical
from cell.records.database import Database
from cell.records.files import INCOMING
from cell.records.pictures import PictureStore
from cell.records.run import CHALLENGE
from cell.records.schema import (
    DecisionRecord,
    EndingRecord,
    Entry,
    InspectionRecord,
    PictureRecord,
    RemovalRecord,
    RemovedPicture,
    RunRecord,
    VerdictRecord,
    ViewRecord,
)
from cell.schema import Retention

_GB = 1e9
_ABANDONED_S = 24 * 3600.0
"""A file that no record names may belong to a part that is inspected now, but not after a day."""


@dataclass(frozen=True)
class Pruned:
    """How many pictures went, their bytes, and the bytes that are left: more than the rule's where it protects more."""

    pictures: int
    bytes: int
    bytes_left: int


def prune(database: Database, rule: Retention) -> Pruned:
    """Remove the oldest pictures that the rule does not protect, until the others take no more than it says."""
    with database.writing() as session:
        total = _total(session)
        chosen = _removable(session, rule, total - round(rule.max_gb * _GB))
        if chosen:
            pictures = [RemovedPicture(hash=digest) for digest in sorted(chosen)]
            removal = append(session, RemovalRecord(rule=canonical(rule.model_dump(mode="json")), pictures=pictures))
            for digest in chosen:
                session.execute(update(PictureRecord).where(PictureRecord.hash == digest).values(removed=removal))
    # Only now that this is on the disk. In a transaction again, for a line may name the same picture anew meanwhile.
    store = PictureStore(database.address.pictures)
    with database.writing() as session:
        for digest in chosen:
            if session.scalar(select(PictureRecord.removed).where(PictureRecord.hash == digest)) is not None:
                store.path(digest).unlink(missing_ok=True)
        left = _total(session)
    return Pruned(len(chosen), sum(chosen.values()), left)


def sweep(database: Database) -> int:
    """Remove files that interrupted lines left, half ones and whole ones that no record names; return how many.

    Files younger than a day stay: a line may be about to name them.
    """
    store = PictureStore(database.address.pictures)
    oldest = time.time() - _ABANDONED_S
    removed = 0
    with database.writing() as session:
        for path in (*store.folder.glob(f"{INCOMING}/*.part"), *store.folder.glob("[0-9a-f][0-9a-f]/*.png")):
            named = select(PictureRecord.hash).where(PictureRecord.hash == path.stem, PictureRecord.removed.is_(None))
            if path.stat().st_mtime < oldest and session.scalar(named) is None:
                path.unlink()
                removed += 1
    return removed


def _total(session: Session) -> int:
    return int(session.scalar(select(func.sum(PictureRecord.bytes)).where(PictureRecord.removed.is_(None))) or 0)


def _removable(session: Session, rule: Retention, wanted: int) -> dict[str, int]:
    """Return pictures that may go by their hash, with their bytes: the oldest, `wanted` bytes or all there are."""
    chosen: dict[str, int] = {}
    if wanted <= 0:
        return chosen
    free = _unprotected(session, rule)
    allowed = set(free)
    for verdict in free:
        if wanted <= 0:
            break
        named = select(PictureRecord).join(
            ViewRecord, or_(ViewRecord.picture == PictureRecord.hash, ViewRecord.mask == PictureRecord.hash)
        )
        for picture in session.scalars(named.where(ViewRecord.verdict == verdict, PictureRecord.removed.is_(None))):
            users = select(ViewRecord.verdict).where(
                or_(ViewRecord.picture == picture.hash, ViewRecord.mask == picture.hash)
            )
            if picture.hash not in chosen and allowed.issuperset(session.scalars(users)):
                chosen[picture.hash] = picture.bytes
                wanted -= picture.bytes
    return chosen


def _unprotected(session: Session, rule: Retention) -> list[int]:
    """Return the verdicts whose pictures no part of the rule protects, the oldest first."""
    before = (datetime.now(UTC) - timedelta(days=rule.days)).isoformat(timespec="microseconds")
    counted = (
        select(
            EndingRecord.inspection.label("inspection"),
            func.row_number().over(order_by=EndingRecord.entry).label("number"),
        )
        .where(EndingRecord.verdict == "ok")
        .subquery()
    )
    query = (
        select(VerdictRecord.entry)
        .join(counted, counted.c.inspection == VerdictRecord.inspection)
        .join(Entry, Entry.number == VerdictRecord.inspection)
        .where(
            counted.c.number % rule.every_nth_ok != 0,
            Entry.at < before,
            VerdictRecord.inspection.not_in(
                select(DecisionRecord.inspection).where(DecisionRecord.inspection.is_not(None))
            ),
            Entry.hash.not_in(select(InspectionRecord.audits).where(InspectionRecord.audits.is_not(None))),
            VerdictRecord.inspection.not_in(
                select(InspectionRecord.entry)
                .join(RunRecord, RunRecord.entry == InspectionRecord.run)
                .where(RunRecord.cell.endswith(CHALLENGE, autoescape=True))
            ),
        )
        .order_by(VerdictRecord.entry)
    )
    return list(session.scalars(query))
