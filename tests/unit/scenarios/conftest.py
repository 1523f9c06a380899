import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

GOOD, DEFECTIVE = 10, 4
VIEWS = ("left", "right")


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright discs with a grain of their own; the last four with a dark bar, which only one view shows on the last."""
    folder = tmp_path_factory.mktemp("photographs")
    rows, truth, seen = [], [], []
    for number in range(GOOD + DEFECTIVE):
        name, bad = f"p{number:02}", number >= GOOD
        for frame, view in enumerate(VIEWS):
            rng = np.random.default_rng([number, frame])
            picture = rng.integers(5, 15, (128, 128, 3), dtype=np.uint8)
            cv2.circle(picture, (64, 64), 50, (170, 160, 150), -1)
            picture += rng.integers(0, 20, picture.shape, dtype=np.uint8)
            shown = bad and (number < GOOD + DEFECTIVE - 1 or frame == 0)
            if shown:
                cv2.rectangle(picture, (50, 60), (78, 66), (20, 20, 20), -1)
            file = folder / f"{name}-{view}.png"
            cv2.imwrite(str(file), picture)
            rows.append((name, view, file.name, frame))
            seen.append((name, frame, 200 if shown else 0, 1.0))
        truth.append((name, "defective" if bad else "good", json.dumps([{"kind": "dot", "size_mm": 2}] if bad else [])))
    (folder / "truth").mkdir()
    for path, header, body in (
        ("parts.csv", ("part_id", "declared"), [(row[0], "") for row in truth]),
        ("images.csv", ("part_id", "view", "file", "frame"), rows),
        ("truth/parts.csv", ("part_id", "label", "defects"), truth),
        ("truth/views.csv", ("part_id", "frame", "pixels", "mm2"), seen),
    ):
        with (folder / path).open("w", newline="") as file:
            csv.writer(file).writerows([header, *body])
    head = {"format": "twinspect-dataset", "version": 1, "views": VIEWS, "picture_width_mm": 30}
    (folder / "dataset.json").write_text(json.dumps(head))
    return folder


@pytest.fixture
def with_columns(photographs: Path, tmp_path: Path):
    """Return a function that copies the photographs and gives their truth table columns, from a row's number."""

    def make(of_row) -> Path:
        folder = tmp_path / "photographs"
        shutil.copytree(photographs, folder)
        truth = folder / "truth" / "parts.csv"
        with truth.open(newline="") as file:
            rows = [row | of_row(number) for number, row in enumerate(csv.DictReader(file))]
        with truth.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return folder

    return make


@pytest.fixture
def write_dataset():
    """Return a function that writes a dataset of one view, the same picture for parts of some numbers."""

    def write(folder: Path, numbers: list[int]) -> None:
        folder.mkdir(parents=True)
        parts = [f"lot-{number:05d}" for number in numbers]
        cv2.imwrite(str(folder / "picture.png"), np.zeros((8, 8, 3), np.uint8))
        for name, header, rows in (
            ("parts.csv", ("part_id", "declared"), [(part, "good") for part in parts]),
            ("images.csv", ("part_id", "view", "file", "frame"), [(part, "V1", "picture.png", 0) for part in parts]),
        ):
            with (folder / name).open("w", newline="") as file:
                csv.writer(file).writerows([header, *rows])
        head = {"format": "twinspect-dataset", "version": 1, "views": ["V1"], "picture_width_mm": 30}
        (folder / "dataset.json").write_text(json.dumps(head))

    return write
