"""A twin that nobody calibrated, calibrated as a user does it."""

import json

import pytest
import yaml

from cell.commands.calibrate import run_calibrate
from cell.config import load_cell
from cell.interfaces import ConfigError


def test_calibration_finds_out_camera_and_arm(tmp_path):
    file = tmp_path / "mine.yaml"
    asset = load_cell("uncalibrated").path
    file.write_text(asset.read_text())
    run_calibrate(str(file), "board", "ring", None, 0, None)

    report = json.loads((tmp_path / "mine.calibration.json").read_text())
    before, nominal, after = (figures["p95"] for figures in report["errors_px_at_1024"].values())
    assert before > 30 and nominal > 3 and after <= 1
    said = yaml.safe_load(file.read_text())
    assert said["camera"]["intrinsics"]["fx"] == pytest.approx(2741.3, abs=8)
    assert said["scene"]["camera"]["position_m"] == pytest.approx([0.4561, 0.7728, 0.5043], abs=3e-3)
    (kept,) = tmp_path.glob("mine.yaml.*Z")
    assert kept.read_text() == asset.read_text()
    # A second time the file as it was predicts the pictures but for how the board came to lie in the hand.
    run_calibrate(str(file), "board", "ring", tmp_path / "again.yaml", 1, None)
    again = json.loads((tmp_path / "again.calibration.json").read_text())["errors_px_at_1024"]
    assert again["cell file as it was"]["p95"] < 12 < before


def test_files_of_the_product_are_not_written():
    with pytest.raises(ConfigError, match="say with --out"):
        run_calibrate("uncalibrated", "board", "ring", None, 0, None)
