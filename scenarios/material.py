"""The parts that a study is about, and the truth about them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detection.datasets import Dataset, Part, read_dataset
from detection.errors import DatasetError
from scenarios.view_scores import ViewPictures
from twin.truth import visible_views

TRAINING = "training"
"""Condition of the parts that a model learns from, where a study compares conditions or judges pieces again."""


@dataclass(frozen=True)
class Studied:
    """A part with the truth about it.

    Attributes
    ----------
    part : Part
        Its pictures.
    defects : tuple of mapping
        Kind and size of each; none for a good part.
    visible_views : int or None
        In how many views a defect is visible; None where nobody knows.
    piece : str
        Which piece of plastic it is: one that is inspected several times is a part each time.
    condition : str
        Under what it is inspected, where a study compares conditions.
    """

    part: Part
    defects: tuple[dict[str, Any], ...]
    visible_views: int | None
    piece: str = ""
    condition: str = ""

    @property
    def good(self) -> bool:
        """Whether the part is good."""
        return self.part.label == "good"

    def beyond_vote(self, k: int) -> bool:
        """Whether fewer than k views show its defect, so that the vote of k cannot be expected to find it."""
        return not self.good and self.visible_views is not None and self.visible_views < k

    @property
    def said(self) -> str:
        """What is wrong with it, in words."""
        return ", ".join(f"{each['kind']} {each['size_mm']:g} mm" for each in self.defects) or str(self.part.label)


@dataclass(frozen=True)
class Lost:
    """A part that was ordered and could not be inspected whole: it slipped, or the line stopped for it.

    Attributes
    ----------
    piece, condition : str
        See `Studied`.
    good : bool
    why : str
        What stopped the line; empty where the cell itself set the part aside.
    """

    piece: str
    condition: str
    good: bool
    why: str = ""


@dataclass(frozen=True)
class Material:
    """Parts, all with the same views.

    Attributes
    ----------
    parts : tuple of Studied
    dataset : Dataset
        Any of the folders they are from: what they have in common.
    lost : tuple of Lost
        What was ordered beside them; a line would have it rechecked.
    """

    parts: tuple[Studied, ...]
    dataset: Dataset
    lost: tuple[Lost, ...] = ()

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views, in order."""
        return self.dataset.views

    def pictures_of(self, view: str, *, masked: bool) -> ViewPictures:
        """Return all parts' pictures of a view, with the gripper's masks or without."""
        return ViewPictures(
            view,
            tuple(studied.part.pictures[view] for studied in self.parts),
            tuple(studied.part.ignored[view] if masked else None for studied in self.parts),
            self.dataset.bottom_share,
            self.dataset.picture_width_mm,
        )


def read_material(folder: Path) -> Material:
    """Read a dataset whose parts are labelled, by its truth table or as they were declared.

    Raises
    ------
    DatasetError
        When it is no dataset, or has a part without a label.
    """
    dataset = read_dataset(folder)
    unknown = [part.part_id for part in dataset.parts if part.label is None]
    if unknown:
        raise DatasetError(
            f"{folder}: nobody says whether part {unknown[0]} is good; add its label to truth/parts.csv "
            "(part_id,label,defects)"
        )
    return joined([dataset])


def split_training(material: Material, *, least: int = 3) -> tuple[Material, Material]:
    """Part those that train from those that are judged: the good ones of condition `TRAINING` and all others.

    Raises
    ------
    DatasetError
        With fewer than `least` of the former, or without the latter.
    """
    train = tuple(each for each in material.parts if each.condition == TRAINING and each.good)
    judged = tuple(each for each in material.parts if each.condition != TRAINING)
    if len(train) < least or not judged:
        raise DatasetError(
            f"{material.dataset.folder}: {len(train)} good parts train and {len(judged)} are judged; say in "
            f"truth/parts.csv, column condition, which are for {TRAINING} (at least {least}), and leave others"
        )
    lost = {of: tuple(each for each in material.lost if (each.condition == TRAINING) == of) for of in (True, False)}
    return replace(material, parts=train, lost=lost[True]), replace(material, parts=judged, lost=lost[False])


def joined(datasets: Sequence[Dataset]) -> Material:
    """Return the parts of several datasets, with what their truth tables say."""
    return Material(tuple(part for dataset in datasets for part in _with_truth(dataset)), datasets[0])


def _with_truth(dataset: Dataset) -> list[Studied]:
    truth = dataset.folder / "truth"
    said: dict[str, dict[str, str]] = {}
    if (truth / "parts.csv").is_file():
        with (truth / "parts.csv").open(newline="", encoding="utf-8-sig") as file:
            said = {row["part_id"]: row for row in csv.DictReader(file)}
    seen = visible_views(truth) if (truth / "views.csv").is_file() else {}
    return [
        Studied(
            part,
            _defects(row.get("defects") or "[]", truth / "parts.csv"),
            seen.get(part.part_id),
            row.get("piece") or part.part_id,
            row.get("condition") or "",
        )
        for part in dataset.parts
        for row in (said.get(part.part_id, {}),)
    ]


def _defects(text: str, path: Path) -> tuple[dict[str, Any], ...]:
    try:
        defects = json.loads(text)
        return tuple({"kind": str(each["kind"]), "size_mm": float(each["size_mm"])} for each in defects)
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetError(
            f'{path}: {text[:60]!r} is no list of defects; write [{{"kind": …, "size_mm": …}}]'
        ) from error
