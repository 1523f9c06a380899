"""The command line: what a user sees when something is wrong."""

import io
import signal
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest

from cell.commands import main


def twinspect(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run a command in this process: loading the libraries anew takes ten seconds each time."""
    said, complained, code = io.StringIO(), io.StringIO(), 0
    handled = signal.getsignal(signal.SIGTERM)
    with (
        patch.object(sys, "argv", ["twinspect", *map(str, arguments)]),
        chdir(cwd or "."),
        redirect_stdout(said),
        redirect_stderr(complained),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            signal.signal(signal.SIGTERM, handled)
    return subprocess.CompletedProcess(arguments, code, said.getvalue(), complained.getvalue())


def photographs(folder: Path, *, good: int = 4) -> Path:
    """A small dataset in the MVTec layout: noise, and noise with a bright square."""
    rng = np.random.default_rng(0)
    for split, count in (("train/good", good), ("test/good", 3), ("test/square", 3)):
        (folder / split).mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(90, 110, (80, 100, 3), dtype=np.uint8)
            if "square" in split:
                picture[30:50, 40:60] = 255
            cv2.imwrite(str(folder / split / f"{number:03d}.png"), picture)
    return folder


def test_help_names_the_commands_and_is_quick_to_load():
    result = twinspect("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in ("demo", "collect", "train", "evaluate", "inspect"))
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, cell.commands; print('torch' in sys.modules, 'pybullet' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.split() == ["False", "False"]


def test_photographs_train_and_evaluate(tmp_path):
    data, model, figures = photographs(tmp_path / "data"), tmp_path / "model", tmp_path / "r.json"
    trained = twinspect("train", data, "--out", model, "--config", "paper", "--features", "25")
    assert trained.returncode == 0, trained.stderr
    assert "--features" not in trained.stdout
    default = twinspect("train", data, "--out", tmp_path / "default", "--features", "25")
    assert default.returncode == 0 and "--features changes nothing" in default.stdout
    evaluated = twinspect("evaluate", data, "--model", model, "--json", figures)
    assert evaluated.returncode == 0, evaluated.stderr
    text = figures.read_text()
    assert '"image_auroc": 1.0' in text and '"parts_good": 3' in text and '"pixel_auroc": null' in text
    mismatch = twinspect("inspect", "--cell", "twin", "--part", "ring", "--model", model, "--count", "1", cwd=tmp_path)
    assert mismatch.returncode == 1
    assert "was not trained with pictures of a cell" in mismatch.stderr


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("collect", "--cell", "nowhere", "--part", "ring", "--count", "1", "--out", "x"), "nowhere"),
        (("collect", "--cell", "twin", "--part", "nothing", "--count", "1", "--out", "x"), "nothing"),
        (("train", "missing", "--out", "m"), "missing"),
        (("train", "{data}", "--out", "m", "--backbone", "vgg"), "backbone"),
        (("train", "{data}", "--out", "m", "--resolution", "300"), "resolution"),
        (("train", "{data}", "--out", "m", "--config", "paper", "--features", "5000"), "features"),
        (("train", "{data}", "--out", "/proc/m"), "/proc/m"),
        (("train", "{data}", "--out", "m", "--config", "nonsense"), "nonsense"),
        (("train", "{empty}", "--out", "m"), "empty"),
        (("evaluate", "{data}", "--model", "m", "--json", "r.json"), "inspector.json"),
        (("evaluate", "{data}", "--model", "m", "--json", "{empty}"), "is a folder"),
        (("train", "{data}", "--out", "{data}"), "holds something else"),
        (("inspect", "--cell", "twin", "--part", "ring", "--model", "m", "--count", "1"), "inspector.json"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(tmp_path, arguments, said):
    photographs(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    before = set(tmp_path.rglob("*"))
    places = {"data": tmp_path / "data", "empty": tmp_path / "empty"}
    result = twinspect(*(str(argument).format(**places) for argument in arguments), cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: ") and said in result.stderr
    assert set(tmp_path.rglob("*")) == before


def test_demo_does_not_touch_a_folder_that_is_not_its_own(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    result = twinspect("demo", "--out", tmp_path)
    assert result.returncode == 1 and "thesis.txt" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_wrong_usage_is_exit_code_2():
    assert twinspect("collect", "--cell", "twin").returncode == 2
    assert twinspect("collect", "--nonsense").returncode == 2


@pytest.mark.parametrize("damage", ["truncated", "not a picture"])
def test_damaged_training_picture_is_named(tmp_path, damage):
    data = photographs(tmp_path / "data")
    victim = data / "train" / "good" / "002.png"
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"hello")
    result = twinspect("train", data, "--out", tmp_path / "model")
    assert result.returncode == 1 and "002.png" in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "model").exists()
