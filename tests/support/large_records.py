"""A database as large as years of a line make it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from cell.records.address import Address
from cell.records.database import Database
from cell.records.schema import (
    ContentRecord,
    EndingRecord,
    Entry,
    InspectionRecord,
    PictureRecord,
    RunRecord,
    VerdictRecord,
    ViewRecord,
)

_PARTS, _VIEWS = 100_000, 16


def make_large(folder: Path) -> str:
    """Make a database of 100,000 parts of 16 views; its hashes are no chain, which nobody asks for here."""
    address = f"sqlite:///{folder}/records.sqlite"
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with Database(Address.parse(address), create=True) as database, database.writing() as session:
        session.execute(insert(ContentRecord), [{"hash": "c" * 64, "text": _files()}])
        session.execute(insert(PictureRecord), [{"hash": "f" * 64, "bytes": 1}])

        def entry(number: int, kind: str) -> dict[str, object]:
            at = (start + timedelta(seconds=10 * number)).isoformat(timespec="microseconds")
            return {"number": number, "at": at, "kind": kind, "previous": "0" * 64, "hash": f"{number:064x}"}

        session.execute(insert(Entry), [entry(1, "runs")])
        named = ("cell", "part", "production", "model", "made_for", "settings")
        hashes = {f"{name}_hash": "c" * 64 for name in named}
        session.execute(insert(RunRecord), [{"entry": 1, "cell": "line", "model": "m", **hashes}])
        for first in range(0, _PARTS, 5000):
            rows: dict[type, list[dict[str, object]]] = {
                table: [] for table in (Entry, InspectionRecord, VerdictRecord, ViewRecord, EndingRecord)
            }
            for part in range(first, first + 5000):
                number, verdict = 2 + 3 * part, "reject" if part % 50 == 0 else "ok"
                kinds = ("inspections", "verdicts", "endings")
                rows[Entry] += [entry(number + place, kind) for place, kind in enumerate(kinds)]
                rows[InspectionRecord].append(
                    {
                        "entry": number,
                        "run": 1,
                        "part_id": f"p-{part:06d}",
                        "lot": f"lot-{part // 5000}",
                        "cavity": 1,
                        "shot": part,
                    }
                )
                rows[VerdictRecord].append(
                    {
                        "entry": number + 1,
                        "inspection": number,
                        "verdict": verdict,
                        "reasons": [],
                        "threshold": 20.0,
                        "mass_g": 23.0,
                        "mass_stable": True,
                    }
                )
                rows[ViewRecord] += [
                    {
                        "verdict": number + 1,
                        "place": view,
                        "view": f"GP1-V{view}",
                        "serial": "c",
                        "frame": view,
                        "taken_s": 0.0,
                        "exposure_us": 8000.0,
                        "score": 10.0,
                        "picture": "f" * 64,
                    }
                    for view in range(_VIEWS)
                ]
                rows[EndingRecord].append(
                    {"entry": number + 2, "inspection": number, "verdict": verdict, "bin": verdict, "cycle_s": 30.0}
                )
            for table, values in rows.items():
                session.execute(insert(table), values)
    return address


def _files() -> str:
    """Stand for the part file and the model's description at once."""
    shapes = {f"GP1-V{view}": [48, 64] for view in range(_VIEWS)}
    mass = {"nominal_g": 23.0, "tolerance_g": 0.25}
    return json.dumps({"config": {"vote": {"k": 2}}, "frame_shapes": shapes, "threshold": 20.0, "mass": mass})
