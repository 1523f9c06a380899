"""Records: what storing 20 MP costs beside scoring, and how soon a large database answers."""

import multiprocessing
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from large_records import make_large

from cell.commands.records_shown import run_list, run_show
from cell.interfaces import Frame
from cell.records.archive import Archive
from cell.records.pictures import PictureStore
from detection import PaDiM

_FRAMES, _SHAPE = 16, (3648, 5472)


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


def _score_pictures(model: Path, picture: np.ndarray) -> None:
    """Score 20 MP pictures at 1024² one after the other, on all cores, as the scoring process does."""
    scorer = PaDiM.load(model)
    while True:
        scorer.score(picture)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bfloat16 model of one view at 1024²."""
    folder = tmp_path_factory.mktemp("model") / "padim"
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (1024, 1024, 3), dtype=np.uint8) for _ in range(3)]
    PaDiM(resolution=1024, precision="bfloat16").fit(pictures).save(folder)
    return folder


def test_sixteen_frames_are_stored_beside_the_scorer(benchmark, tmp_path, model: Path) -> None:
    photographs = _photographs()
    store = PictureStore(tmp_path)
    store.create()
    context = multiprocessing.get_context("spawn")
    scorer = context.Process(target=_score_pictures, args=(model, photographs[0]), daemon=True)
    scorer.start()
    time.sleep(20)  # until it is loaded and scores
    try:
        with Archive(store) as archive:

            def one_part() -> None:
                for number in range(_FRAMES):
                    archive.submit(str(number), Frame(photographs[number % 2], 0.0, 8000.0, "c", number), None)
                archive.collect()

            benchmark.pedantic(one_part, rounds=3, iterations=1)
        assert scorer.is_alive()
    finally:
        scorer.terminate()


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
    return make_large(tmp_path_factory.mktemp("large"))


def test_hundred_thousand_parts_are_listed(benchmark, large: str, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.pedantic(run_list, args=(large, 50, None, None), rounds=5)


def test_rejects_among_hundred_thousand_parts_are_listed(benchmark, large: str, capsys) -> None:
    benchmark.pedantic(run_list, args=(large, 50, None, "reject"), rounds=5)


def test_one_of_a_lot_among_hundred_thousand_parts_are_listed(benchmark, large: str, capsys) -> None:
    benchmark.pedantic(run_list, args=(large, 50, "lot-3", None), rounds=5)


def test_one_of_hundred_thousand_parts_is_shown(benchmark, large: str, capsys) -> None:
    benchmark.pedantic(run_show, args=(large, "p-050000"), rounds=5)
