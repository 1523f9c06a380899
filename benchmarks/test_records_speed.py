"""Records: what storing 20 MP costs beside scoring, and how soon a large database answers."""

import multiprocessing
import zlib
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import insert

from cell.commands.records_shown import run_list, run_show
from cell.interfaces import Frame
from cell.records.address import Address
from cell.records.archive import Archive
from cell.records.database import Database
from cell.records.pictures import PictureStore
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

_FRAMES, _SHAPE = 16, (3648, 5472)
_PARTS, _VIEWS = 100_000, 16


def _photographs() -> list[np.ndarray]:
    """Evenly lit pictures of 20 MP with the photon noise of a full well of 15,000 electrons: hard to compress."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : _SHAPE[0], 0 : _SHAPE[1]].astype(np.float32)
    scene = (8000 + 3000 * np.sin(x / 400) * np.cos(y / 300))[..., np.newaxis]
    electrons = scene + np.sqrt(scene) * rng.standard_normal((*_SHAPE, 3), dtype=np.float32)
    picture = np.clip(electrons * np.float32(255 / 15000), 0, 255).astype(np.uint8)
    return [picture, np.ascontiguousarray(picture[::-1])]


def _score_beside() -> None:
    """Keep a core as busy as a thread of the scorer does."""
    data = bytes(2**24)
    while True:
        zlib.crc32(data)


@pytest.mark.parametrize("busy", [0, 1, 2])
def test_sixteen_frames_of_20_megapixels_are_stored(benchmark, tmp_path, busy: int) -> None:
    frames = [Frame(image, 0.0, 8000.0, "c", n) for n, image in enumerate(_photographs())]
    mask = np.zeros(_SHAPE, bool)
    mask[2500:, 2000:3500] = True
    store = PictureStore(tmp_path)
    store.create()
    others = [multiprocessing.get_context("fork").Process(target=_score_beside) for _ in range(busy)]
    for other in others:
        other.start()
    try:
        with Archive(store) as archive:

            def one_part() -> int:
                for number in range(_FRAMES):
                    archive.submit(str(number), frames[number % len(frames)], mask)
                return sum(view.picture.bytes for view in archive.collect().values())

            stored = benchmark.pedantic(one_part, rounds=2, iterations=1)
    finally:
        for other in others:
            other.terminate()
    benchmark.extra_info["stored_mb"] = stored / 1e6
    benchmark.extra_info["busy_processes_beside"] = busy


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> str:
    """A database of 100,000 parts of 16 views; its hashes are no chain, which nobody asks for here."""
    address = f"sqlite:///{tmp_path_factory.mktemp('large')}/records.sqlite"
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with Database(Address.parse(address), create=True) as database, database.writing() as session:
        session.execute(insert(ContentRecord), [{"hash": "c" * 64, "text": "{}"}])
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


def test_hundred_thousand_parts_are_listed(benchmark, large: str, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.pedantic(run_list, args=(large, 50, None, None), rounds=5)


def test_rejects_among_hundred_thousand_parts_are_listed(benchmark, large: str, capsys) -> None:
    benchmark.pedantic(run_list, args=(large, 50, None, "reject"), rounds=5)


def test_one_of_a_lot_among_hundred_thousand_parts_are_listed(benchmark, large: str, capsys) -> None:
    benchmark.pedantic(run_list, args=(large, 50, "lot-3", None), rounds=5)


def test_one_of_hundred_thousand_parts_is_shown(benchmark, large: str, capsys) -> None:
    benchmark.pedantic(run_show, args=(large, "p-050000"), rounds=5)
