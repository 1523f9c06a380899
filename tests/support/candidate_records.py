"""Records of a prerendered line on which a candidate can be made: confirmed parts, known parts, and a small model.

Parts 0 to 2 were inspected (the third is defective) and 0 and 1 are confirmed as good; 9 to 11 are known ones (two
good, one defective). The model has learned from others, which are on no record.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import cv2
import numpy as np
import prerendered
import prerendered_line
from prerendered import PART, SHAPE, make_records
from prerendered_line import RUN_WITH_MODEL, inspect_prerendered, picture, prerendered_order

from cell.candidates import make_candidate
from cell.interfaces import PartTicket
from cell.records.address import Address
from cell.records.chain import canonical
from cell.records.database import Database
from cell.records.queries import decide
from cell.records.release import record_release
from detection import DetectionConfig, Inspector, ModelConfig, read_dataset, train
from detection.config import PreprocessConfig

_DEVICES = prerendered.Prerendered(iter(()), lambda what: None)
MADE_FOR = {
    "part": PART.model_dump(mode="json", by_alias=True, exclude={"mass", "density_g_cm3"}),
    "camera_serial": _DEVICES.serial,
    "intrinsics": asdict(_DEVICES.intrinsics),
    "exposure_us": _DEVICES.exposure_us,
}
RUN = replace(RUN_WITH_MODEL, made_for=canonical(MADE_FOR))


def train_small(folder: Path, *, parts: range = range(20, 30), keep_state: bool = True) -> Path:
    """Train a model on the good ones among prerendered parts that are on no record."""
    data, good = folder / "data", [number for number in parts if number % 3 != 2]
    (data / "images").mkdir(parents=True)
    with (data / "images.csv").open("w", newline="") as images, (data / "parts.csv").open("w", newline="") as table:
        shown, rows = csv.writer(images), csv.writer(table)
        shown.writerow(["part_id", "view", "file", "frame", "mask"])
        rows.writerow(["part_id", "declared"])
        for number in good:
            rows.writerow([f"t-{number}", "good"])
            for taken, view in enumerate(PART.view_names, start=1):
                file = f"images/{number}-{taken}.png"
                cv2.imwrite(str(data / file), picture(number, taken))
                shown.writerow([f"t-{number}", view, file, str(taken), "images/nothing.png"])
    # The line masks its hand; where that is differs from part to part.
    cv2.imwrite(str(data / "images" / "nothing.png"), np.zeros(SHAPE, np.uint8))
    info = {"format": "twinspect-dataset", "version": 1, "views": PART.view_names, "made_for": MADE_FOR}
    (data / "dataset.json").write_text(json.dumps(info))
    train(
        read_dataset(data),
        folder / "model",
        config=DetectionConfig(preprocess=PreprocessConfig(crop="none", registration="none")),
        model=ModelConfig(n_features=5),
        keep_state=keep_state,
    )
    return folder / "model"


def record(address: str, numbers: range, *, run=RUN, label: Callable[[int], str | None] = lambda number: None) -> None:
    """Put parts on record, by a run and with what is declared of each."""

    def ticket(number: int) -> PartTicket:
        return PartTicket(f"p-{number:05d}", "lot-1", 1, number, label(number))

    with patch.object(prerendered, "ticket", ticket), patch.object(prerendered_line, "RUN_WITH_MODEL", run):
        for _ in inspect_prerendered(replace(prerendered_order(), numbers=numbers), Path("model"), address):
            pass


def truth(number: int) -> str:
    return "defective" if number % 3 == 2 else "good"


def make_challenge(address: str, numbers: range = range(9, 12), *, label: Callable[[int], str] = truth) -> None:
    """Lay known parts in."""
    record(address, numbers, run=RUN.as_challenge(), label=label)
    with Database(Address.parse(address)) as database:
        record_release(database, f"p-{numbers[-1]:05d}", [])


def confirm_and_challenge(address: str) -> None:
    """Put confirmed and known parts on record."""
    record(address, range(3))
    make_challenge(address)
    with Database(Address.parse(address)) as database:
        for number in (0, 1):
            decide(database, f"p-{number:05d}", "ok", who="Erika", why="no defect")


def make_confirmed(folder: Path) -> str:
    """Make records with confirmed and known parts."""
    address = make_records(folder)
    confirm_and_challenge(address)
    return address


class ScoringHere:
    """Scores as the scoring process does, in this one: what takes it seconds to start is not what is tested."""

    def __init__(self, model: Path, *, threads: int) -> None:
        self._inspector = Inspector.load(model, verify=True)
        self._scores: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def submit(self, view: str, image: np.ndarray, mask: np.ndarray | None) -> None:
        self._scores[view] = self._inspector.score_view(view, image, mask=mask)

    def collect(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        scores, self._scores = self._scores, {}
        return scores, ()

    def require_alive(self) -> None:
        pass


def make_candidate_here(address: str, model: Path, folder: Path | None = None, *, who: str) -> tuple[str, ...]:
    """Make a candidate, scoring in this process."""
    part, folder = prerendered_order().part, folder or model.with_name("candidate")
    with patch("cell.inspection.ScoringProcess", ScoringHere):
        return make_candidate(address, model, folder, part, who=who, progress=lambda doing, done, total: None)
