"""Records for others: a table of all parts, and a certificate of one."""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cell.interfaces import CellError
from cell.records.pictures import PictureStore
from cell.records.queries import Inspection, alarms_of, decisions_of, every, faults_of, of_part
from cell.records.schema import Entry, InspectionRecord, PictureRecord, RunRecord, ViewRecord

_THUMBNAIL_PX = 320
_COLUMNS = (
    "part_id",
    "lot",
    "cavity",
    "shot",
    "declared",
    "begun_at",
    "verdict",
    "bin",
    "reasons",
    "mass_g",
    "threshold",
    "cycle_s",
    "cell",
    "model",
    "model_sha256",
    "entry",
    "sha256",
    "audits",
)


def write_csv(path: Path, session: Session, *, progress: Callable[[int, int], None]) -> int:
    """Write a row for each inspection, with a column for the score of each view; return the number of rows."""
    views = list(session.scalars(select(ViewRecord.view).distinct().order_by(ViewRecord.view)))
    total = session.scalar(select(func.count()).select_from(InspectionRecord)) or 0
    half = path.with_name(path.name + ".part")
    done = 0
    with half.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([*_COLUMNS, *(f"score_{view}" for view in views)])
        for inspection in every(session):
            table.writerow(_row(inspection, views))
            done += 1
            progress(done, total)
    half.replace(path)
    return done


def _row(inspection: Inspection, views: list[str]) -> list[Any]:
    part, verdict, ending = inspection.part, inspection.verdict, inspection.ending
    scores = {view.view: view.score for view in verdict.views} if verdict else {}
    return [
        part.part_id,
        part.lot,
        part.cavity,
        part.shot,
        part.declared,
        inspection.begun.at,
        inspection.stands,
        ending.bin if ending else None,
        "; ".join(verdict.reasons) if verdict else None,
        verdict.mass_g if verdict else None,
        verdict.threshold if verdict else None,
        ending.cycle_s if ending else None,
        inspection.run.cell,
        inspection.run.model,
        inspection.run.model_hash,
        part.entry,
        inspection.begun.hash,
        part.audits,
        *(scores.get(view) for view in views),
    ]


def write_certificate(path: Path, session: Session, store: PictureStore, part_id: str) -> None:
    """Write one self-contained page about the latest inspection of a part, with its pictures and hashes."""
    inspection = of_part(session, part_id)[-1]
    verdict, ending = inspection.verdict, inspection.ending
    if verdict is None or ending is None:
        raise CellError(f"{part_id} is still under way; there is nothing to certify yet")
    numbers = [inspection.run.entry, inspection.part.entry, verdict.entry, ending.entry]
    links = session.scalars(select(Entry).where(Entry.number.in_(numbers)).order_by(Entry.number)).all()
    pictures = []
    for view in verdict.views:
        picture = session.get_one(PictureRecord, view.picture)
        shown = None if picture.removed is not None else _thumbnail(store, view.picture)
        pictures.append({"view": view, "shown": shown})
    page = Environment(loader=PackageLoader("cell.records", "."), autoescape=True).get_template("certificate.html.j2")
    text = page.render(
        inspection=inspection,
        links=links,
        pictures=pictures,
        contents=[(c.key, getattr(inspection.run, c.key)) for c in RunRecord.__table__.columns if "hash" in c.key],
        faults=faults_of(session, inspection.part.entry),
        decisions=decisions_of(session, inspection.part.entry),
        alarms=alarms_of(session, inspection.part.entry),
    )
    half = path.with_name(path.name + ".part")
    half.write_text(text, encoding="utf-8")
    half.replace(path)


def _thumbnail(store: PictureStore, digest: str) -> str:
    image = store.read(digest)
    scale = _THUMBNAIL_PX / image.shape[1]
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if small.ndim == 3:
        small = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    written, data = cv2.imencode(".jpg", small)
    if not written:
        raise OSError("a picture of the certificate could not be encoded")
    return f"data:image/jpeg;base64,{base64.b64encode(np.asarray(data).tobytes()).decode()}"
