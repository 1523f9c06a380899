"""Candidates on record: models that were extended, what their challenge found, and who released them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cell.interfaces import CellError
from cell.records.chain import append, put_content, sha256
from cell.records.database import Database
from cell.records.run import CHALLENGE
from cell.records.schema import (
    ApprovalRecord,
    CandidateRecord,
    ContentRecord,
    Entry,
    InspectionRecord,
    ReleaseRecord,
    RunRecord,
    VerdictRecord,
)

State = Literal["unchallenged", "failed", "passed", "released"]


@dataclass(frozen=True)
class Candidate:
    """A candidate with what became of it.

    Attributes
    ----------
    record : CandidateRecord
    made_at : str
        UTC, ISO 8601.
    confirmed_by : mapping
        By part that it learned in addition, who confirmed that it is good.
    threshold : float
    known : int
        How many known parts it is challenged with.
    result : ReleaseRecord or None
        What its challenge found; None when that did not come to its end.
    approval : ApprovalRecord or None
    """

    record: CandidateRecord
    made_at: str
    confirmed_by: Mapping[str, str]
    threshold: float
    known: int
    result: ReleaseRecord | None
    approval: ApprovalRecord | None

    @property
    def state(self) -> State:
        """How far it got."""
        if self.approval is not None:
            return "released"
        if self.result is None:
            return "unchallenged"
        return "passed" if self.result.released else "failed"


@dataclass(frozen=True)
class KnownParts:
    """The known parts of a challenge: its entry, and their inspections."""

    challenge: int
    inspections: tuple[int, ...]


def newest_candidates(session: Session, *, count: int) -> list[Candidate]:
    """Return the newest candidates, the newest first."""
    query = select(CandidateRecord).order_by(CandidateRecord.entry.desc()).limit(count)
    return [_candidate(session, record) for record in session.scalars(query)]


def candidate_at(session: Session, entry: int) -> Candidate:
    """Return a candidate by its entry; `CellError` where there is none."""
    record = session.get(CandidateRecord, entry)
    if record is None:
        raise CellError(f"There is no candidate {entry} on record")
    return _candidate(session, record)


def candidate_of(session: Session, inspector: str) -> Candidate:
    """Return the candidate whose `inspector.json` is that text, to the last byte.

    Raises
    ------
    CellError
        There is none.
    """
    query = select(CandidateRecord).where(CandidateRecord.model_hash == sha256(inspector))
    record = session.scalar(query.order_by(CandidateRecord.entry.desc()).limit(1))
    if record is None:
        raise CellError(
            "The model is a candidate that these records do not know, or its inspector.json was changed after it was "
            "made; make one by `twinspect candidate make`"
        )
    return _candidate(session, record)


def _candidate(session: Session, record: CandidateRecord) -> Candidate:
    # The first result counts: a challenge is not repeated until it is passed.
    result = session.scalar(
        select(ReleaseRecord)
        .join(RunRecord, RunRecord.entry == ReleaseRecord.run)
        .where(RunRecord.model_hash == record.model_hash, ReleaseRecord.entry > record.entry)
        .order_by(ReleaseRecord.entry)
        .limit(1)
    )
    inspector = json.loads(session.get_one(ContentRecord, record.model_hash).text)
    return Candidate(
        record=record,
        made_at=session.get_one(Entry, record.entry).at,
        confirmed_by=inspector["extends"]["confirmed_by"],
        threshold=inspector["threshold"],
        known=len(_known_parts(session, session.get_one(ReleaseRecord, record.challenge)).inspections),
        result=result,
        approval=session.scalar(select(ApprovalRecord).where(ApprovalRecord.candidate == record.entry)),
    )


def newest_known_parts(session: Session, made_for: Mapping[str, Any]) -> KnownParts:
    """Return the parts of the newest challenge whose pictures depend on the same as a model's.

    Raises
    ------
    CellError
        There was none.
    """
    query = (
        select(ReleaseRecord, ContentRecord.text)
        .join(RunRecord, RunRecord.entry == ReleaseRecord.run)
        .join(ContentRecord, ContentRecord.hash == RunRecord.made_for_hash)
        .order_by(ReleaseRecord.entry.desc())
    )
    for release, text in session.execute(query):
        if json.loads(text) == made_for:
            known = _known_parts(session, release)
            if known.inspections:
                return known
    raise CellError(
        "No known parts of this cell are on record, and a candidate has to tell them apart before it may inspect; run "
        "`twinspect check --challenge` with the model that inspects now"
    )


def _known_parts(session: Session, release: ReleaseRecord) -> KnownParts:
    """Return the parts that were laid in since the cell's challenge before; none where records were played back."""
    run = session.get_one(RunRecord, release.run)
    same = select(RunRecord.entry).where(
        RunRecord.cell == run.cell, RunRecord.cell_hash == run.cell_hash, RunRecord.model_hash == run.model_hash
    )
    before = session.scalar(
        select(func.max(ReleaseRecord.entry)).where(ReleaseRecord.entry < release.entry, ReleaseRecord.run.in_(same))
    )
    parts = session.execute(
        select(InspectionRecord.part_id, InspectionRecord.entry)
        .join(VerdictRecord, VerdictRecord.inspection == InspectionRecord.entry)
        .where(
            InspectionRecord.entry.between(before or 0, release.entry),
            InspectionRecord.run.in_(same),
            InspectionRecord.declared.is_not(None),
            InspectionRecord.audits.is_(None),
            VerdictRecord.views.any(),
        )
        .order_by(InspectionRecord.entry)
    )
    # A challenge that was left and begun anew has some of its parts twice.
    latest = {part_id: entry for part_id, entry in parts}
    return KnownParts(release.entry, tuple(latest.values()) if run.cell.endswith(CHALLENGE) else ())


def record_candidate(
    database: Database, *, model: str, inspector: str, parent: str, challenge: int, made_by: str
) -> int:
    """Record a candidate before it is challenged, and return the entry.

    Parameters
    ----------
    database : Database
    model : str
        Path of its folder.
    inspector, parent : str
        `inspector.json` of the candidate, and of the model that it extends.
    challenge : int
        Whose known parts it has to tell apart: fixed before anybody knows whether it does.
    made_by : str
        The person.
    """
    with database.writing() as session:
        return append(
            session,
            CandidateRecord(
                model=model,
                model_hash=put_content(session, inspector),
                parent_hash=put_content(session, parent),
                challenge=challenge,
                made_by=made_by,
            ),
        )


def record_result(database: Database, candidate: int, wrong: Sequence[str]) -> int:
    """Record what came of the challenge of a candidate, whose run was the last of its model; return the entry."""
    with database.writing() as session:
        record = session.get_one(CandidateRecord, candidate)
        query = select(func.max(RunRecord.entry)).where(RunRecord.model_hash == record.model_hash)
        run = session.scalars(query).one()
        return append(session, ReleaseRecord(run=run, released=not wrong, wrong=list(wrong)))


def record_approval(database: Database, candidate: int, *, who: str, why: str) -> int:
    """Record that a second person releases a candidate, and return the entry.

    Raises
    ------
    CellError
        It has not passed its challenge, is released already, or the person is the one who had it made.
    """
    with database.writing() as session:
        found = candidate_at(session, candidate)
        if found.result is None:
            raise CellError("The challenge of this candidate did not come to its end; make another one")
        if not found.result.released:
            raise CellError(f"This candidate failed its challenge: {'; '.join(found.result.wrong)}")
        if found.approval is not None:
            raise CellError(f"{found.approval.who} has released this candidate already")
        if _same_person(who, found.record.made_by):
            raise CellError(f"{who} had this candidate made; another person has to release it")
        row = ApprovalRecord(candidate=candidate, passed=found.result.entry, who=who, why=why)
        return append(session, row)


def require_approval(database: Database, inspector: str) -> None:
    """Refuse a candidate that nobody has released.

    Parameters
    ----------
    database : Database
    inspector : str
        Its `inspector.json`, which holds the hash of every other file.

    Raises
    ------
    CellError
        Says what is missing and what to do.
    """
    with database.reading() as session:
        found = candidate_of(session, inspector)
    if found.state != "released":
        missing = {
            "unchallenged": "its challenge did not come to its end; make another one",
            "failed": "it failed its challenge; make another one",
            "passed": "a second person has to release it: `twinspect candidate release`, or the page Candidates",
        }[found.state]
        raise CellError(f"The model is candidate {found.record.entry}, which may not inspect: {missing}")


def _same_person(one: str, other: str) -> bool:
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()
