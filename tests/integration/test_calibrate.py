"""A twin that nobody calibrated, calibrated as a user does it."""

import json
import shutil

import pytest
import yaml

from cell.commands.calibrate import run_calibrate
from cell.config import load_cell, load_part
from cell.interfaces import ConfigError


def test_calibration_finds_out_camera_and_arm(tmp_path):
    board, file = tmp_path / "part.yaml", tmp_path / "mine.yaml"
    # Nine of the sixteen views are planned and shown in less time, and tell a little less.
    every = load_part("board").path.read_text()
    board.write_text(every[: every.index("  - {name: V10,")])
    shutil.copy(load_cell("uncalibrated").path, file)
    run_calibrate(str(file), str(board), "ring", None, 0, None)

    report = json.loads((tmp_path / "mine.calibration.json").read_text())
    before, nominal, after = (figures["p95"] for figures in report["errors_px_at_1024"].values())
    assert report["pictures"] == 18
    assert before > 30 and nominal > 3 and after < 1.3
    said = yaml.safe_load(file.read_text())
    assert said["camera"]["intrinsics"]["fx"] == pytest.approx(2741.3, abs=8)
    assert said["scene"]["camera"]["position_m"] == pytest.approx([0.4561, 0.7728, 0.5043], abs=3e-3)
    assert load_cell(str(file)).content.arm_geometry is not None
    (kept,) = tmp_path.glob("mine.yaml.*Z")
    assert kept.read_text() == load_cell("uncalibrated").path.read_text()


def test_files_of_the_product_are_not_written():
    with pytest.raises(ConfigError, match="say with --out"):
        run_calibrate("uncalibrated", "board", "ring", None, 0, None)
