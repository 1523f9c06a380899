"""The wheel: what it claims, and that names of cells and parts resolve without the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", out],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return built


def test_wheel_claims_four_import_names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cell", "detection", "scenarios", "twin"}


def test_assets_travel_and_are_found_from_any_folder(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    (tmp_path / "elsewhere").mkdir()
    code = (
        "from cell.config import load_cell, load_part; import cell; "
        "print(load_cell('twin').path, load_part('ring').content.name, cell.__file__)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "elsewhere",
        env={"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    cell_file, part, package = found.stdout.split()
    assert part == "ring"
    assert Path(cell_file).is_relative_to(tmp_path / "installed") and Path(package).is_relative_to(tmp_path)
