"""From parts that people confirmed as good to a candidate model, its challenge and its release.

Nothing here changes a line: a candidate is a folder of its own, and the next start names the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from cell.challenge import Challenged
from cell.config import Loaded, load_cell, load_production
from cell.inspection import inspect_known_again
from cell.interfaces import CellError
from cell.records.address import Address
from cell.records.candidates import (
    KnownParts,
    candidate_at,
    newest_known_parts,
    record_approval,
    record_candidate,
    record_result,
    require_approval,
)
from cell.records.database import Database
from cell.records.pictures import PictureStore
from cell.records.queries import Inspection, by_entry
from cell.records.run import CHALLENGE, description_of
from cell.records.schema import ContentRecord, DecisionRecord, PictureRecord, ViewRecord
from cell.replay import RecordingConfig
from cell.schema import PartFile
from cell.setup import Order
from detection import InspectorInfo, Part

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class ConfirmedPart:
    """A good part with its archived pictures, and who confirmed it."""

    part: Part
    who: str


def make_candidate(
    records: str, model: Path, folder: Path, part: Loaded[PartFile], *, who: str, progress: Progress
) -> tuple[str, ...]:
    """Extend a model by what people confirmed, record it, and challenge it with known parts.

    Parameters
    ----------
    records : str
        Address of the records.
    model : Path
        Folder of a model that was trained with its state kept, or of a released candidate; it stays as it is.
    folder : Path
        New folder for the candidate.
    part : Loaded
        The part file, by whose mass limits the known parts are judged.
    who : str
        Who wants the candidate. Another person has to release it.
    progress : callable
        Told what is being done.

    Returns
    -------
    tuple of str
        Which known parts the candidate takes for what they are not; none where it passed.

    Raises
    ------
    CellError, DetectionError
        Something is missing for a candidate, and nothing is on record; or its challenge could not be brought to an end.
    """
    # Only who makes one pays for loading the network's libraries.
    from detection import extend

    if not who:
        raise CellError("A candidate needs the name of who had it made: it goes on record")
    if folder.exists():
        raise CellError(f"{folder}: is there already; choose another folder for the candidate")
    parent, info = description_of(model), InspectorInfo.load(model)
    with Database(Address.parse(records)) as database:
        if info.extends is not None:
            require_approval(database, parent)
        with database.reading() as session:
            confirmed = confirmed_parts(session, PictureStore(database.address.pictures), info)
            known = newest_known_parts(session, info.made_for)
            _refuse_learned(session, known, info)
        extend(
            model,
            folder,
            [one.part for one in confirmed],
            confirmed_by={one.part.part_id: one.who for one in confirmed},
            made_by=who,
            progress=progress,
        )
        candidate = record_candidate(
            database,
            model=str(folder.absolute()),
            inspector=description_of(folder),
            parent=parent,
            challenge=known.challenge,
            made_by=who,
        )
        wrong = []
        order = _replayed(records, known, part)
        for number, found in enumerate(inspect_known_again(order, folder, records), start=1):
            declared = found.ticket.label
            assert declared is not None, "known parts are declared"
            judged = Challenged(declared, found)
            if judged.wrong is not None:
                wrong.append(judged.wrong)
            progress("challenge", number, len(known.inspections))
        record_result(database, candidate, wrong)
    return tuple(wrong)


def release_candidate(database: Database, candidate: int, *, who: str, why: str) -> int:
    """Let a candidate inspect, as a second person, and return the entry.

    Raises
    ------
    CellError
        A name or a reason is missing, the candidate has not passed its challenge, or it is the same person.
    DetectionError
        The model is not what was challenged any more.
    """
    if not who or not why:
        raise CellError("A release needs the name of who releases, and why: both go on record")
    with database.reading() as session:
        found = candidate_at(session, candidate)
        recorded = session.get_one(ContentRecord, found.record.model_hash).text
    folder = Path(found.record.model)
    if description_of(folder) != recorded:
        raise CellError(f"{folder / 'inspector.json'}: was changed after the candidate was made; make another one")
    InspectorInfo.load(folder).refuse_changed_files(folder)
    return record_approval(database, candidate, who=who, why=why)


def confirmed_parts(session: Session, store: PictureStore, info: InspectorInfo) -> list[ConfirmedPart]:
    """Return the parts that a person, the last who decided, confirmed as good and the model has not learned from.

    Parameters
    ----------
    session : Session
    store : PictureStore
        Holds their pictures.
    info : InspectorInfo
        The parts were inspected with what its pictures depend on, and have all its views.

    Raises
    ------
    CellError
        There is none.
    """
    decisions = select(DecisionRecord).where(DecisionRecord.subject == "verdict")
    in_order = decisions.order_by(DecisionRecord.inspection, DecisionRecord.entry)
    last = {decision.inspection: decision for decision in session.scalars(in_order)}
    learned = {digest for part in info.trained_with for digest in part.sha256.values()}
    found: dict[str, ConfirmedPart] = {}
    for entry, decision in last.items():
        if entry is None or decision.decided != "ok":
            continue
        inspection = by_entry(session, entry)
        part = _archived(session, store, inspection, info)
        if part is not None and learned.isdisjoint(view.picture for view in _views(inspection)):
            # Of a part that was inspected several times the last pictures: nearly the same ones count once.
            found[part.part_id] = ConfirmedPart(part, decision.who)
    if not found:
        raise CellError(
            "No part that a person confirmed as good, which the model has not learned from yet, is on record with all "
            "its pictures; confirm good parts first, on their pages or by `twinspect records decide PART ok`"
        )
    return list(found.values())


def _archived(session: Session, store: PictureStore, inspection: Inspection, info: InspectorInfo) -> Part | None:
    """Return an inspected part with its pictures; None where they are not what a model can learn from."""
    run, views = inspection.run, _views(inspection)
    if inspection.part.audits is not None or run.cell.endswith(CHALLENGE):
        return None
    if json.loads(session.get_one(ContentRecord, run.made_for_hash).text) != info.made_for:
        return None
    named = {view.view: view for view in views}
    if set(named) != set(info.views) or any((view.mask is not None) != info.masked for view in views):
        return None
    files = {digest for view in views for digest in (view.picture, view.mask) if digest is not None}
    if any(session.get_one(PictureRecord, digest).removed is not None for digest in files):
        return None
    return Part(
        part_id=inspection.part.part_id,
        declared="good",
        label="good",
        split=None,
        pictures={name: store.path(view.picture) for name, view in named.items()},
        masks=dict.fromkeys(named),
        ignored={name: None if view.mask is None else store.path(view.mask) for name, view in named.items()},
    )


def _views(inspection: Inspection) -> list[ViewRecord]:
    return [] if inspection.verdict is None else inspection.verdict.views


def _refuse_learned(session: Session, known: KnownParts, info: InspectorInfo) -> None:
    """Refuse known parts that the model has learned from: they would prove nothing."""
    learned = {digest for part in info.trained_with for digest in part.sha256.values()}
    for entry in known.inspections:
        inspection = by_entry(session, entry)
        if not learned.isdisjoint(view.picture for view in _views(inspection)):
            raise CellError(
                f"The model has learned from the known part {inspection.part.part_id}, which proves nothing then; run "
                "`twinspect check --challenge` with others"
            )


def _replayed(records: str, known: KnownParts, part: Loaded[PartFile]) -> Order:
    """Return the order that plays known parts back."""
    cell = load_cell("replay")
    world = cell.content.world
    assert world is not None, "the shipped cell plays records back"
    config = RecordingConfig(records=records, inspections=known.inspections)
    content = cell.content.model_copy(
        update={"world": world.model_validate({"class": world.path, **config.model_dump()})}
    )
    return Order(replace(cell, content=content), part, load_production("challenge"), range(len(known.inspections)))
