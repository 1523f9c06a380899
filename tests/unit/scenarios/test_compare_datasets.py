import subprocess
import sys

import cv2
import numpy as np
import pytest

from scenarios.compare_datasets import compare


@pytest.fixture
def two(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("images/p1/V1.png", "images/p1/V2.png", "truth/masks/p1/000001.png"):
        image = rng.integers(0, 250, (12, 16, 3), dtype=np.uint8)
        for folder in ("a", "b"):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image)
    return tmp_path / "a", tmp_path / "b"


def change(path, by):
    image = cv2.imread(str(path))
    image[3, 4, 1] += by
    cv2.imwrite(str(path), image)


def test_same_pictures_agree(two):
    found = compare(*two)
    assert (found.identical, found.differing, found.missing) == (3, (), ()) and found.agrees(0)


def test_differences_are_measured_in_grey_levels(two):
    change(two[1] / "images/p1/V2.png", 3)
    found = compare(*two)
    (different,) = found.differing
    assert different.name == "images/p1/V2.png" and different.largest == 3
    assert different.mean == pytest.approx(3 / (12 * 16 * 3))
    assert found.identical == 2 and not found.agrees(2) and found.agrees(3)


def test_missing_files_and_other_sizes_are_no_agreement(two):
    (two[0] / "images/p1/V1.png").unlink()
    assert compare(*two).missing == (f"images/p1/V1.png: only in {two[1]}",)
    cv2.imwrite(str(two[0] / "images/p1/V1.png"), np.zeros((5, 5), np.uint8))
    assert not compare(*two).agrees(255)


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "scenarios.compare_datasets", *map(str, arguments)], capture_output=True, text=True
    )


def test_command_says_it_in_one_line_and_in_its_exit_code(two):
    same = run(*two)
    assert same.returncode == 0
    assert same.stdout == "agree: 3 pictures identical, 0 differ by up to 0 grey levels (tolerance 0), 0 missing\n"
    change(two[1] / "images/p1/V2.png", 3)
    assert run(*two, "--tolerance", 3).returncode == 0
    different = run(*two)
    assert different.returncode == 1 and different.stdout.splitlines()[-1].startswith("DIFFER: 2 pictures identical")


def test_folders_without_pictures_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    result = run(tmp_path / "a", tmp_path / "b")
    assert result.returncode == 2 and "holds a picture" in result.stderr
