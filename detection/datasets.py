"""Datasets on disk: what `twinspect collect` writes, and the MVTec layout."""

import csv
import glob
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from detection.errors import DatasetError
from detection.pictures import SUFFIXES

Label = Literal["good", "defective"]
Split = Literal["train", "test"]

MVTEC_VIEW = "view"

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$"
"""Names of views and parts become file names: letters, digits, `_`, `-` and `.`, not first."""


class DatasetInfo(BaseModel):
    """`dataset.json`; keys that are not named here are kept as they are."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    format: Literal["twinspect-dataset"] = "twinspect-dataset"
    version: Literal[1] = 1
    views: tuple[Annotated[str, StringConstraints(pattern=NAME_PATTERN)], ...] = Field(min_length=1)
    bottom_share: float = Field(default=0.0, ge=0, lt=1)
    picture_width_mm: float | None = Field(default=None, gt=0)
    made_for: dict[str, JsonValue] = Field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One part and its pictures.

    Attributes
    ----------
    part_id : str
        Name, unique in the dataset.
    declared : str or None
        "good" or "defective", as a person declared the part before it was inspected, or None.
    label : str or None
        What the part is: by the truth table where there is one, else as declared; None when nobody knows.
    split : str or None
        "train" or "test" where the dataset fixes it.
    pictures : mapping
        View → file, one for each view.
    masks : mapping
        View → file with the visible defects, or None where there is none.
    ignored : mapping
        View → file that marks the pixels to ignore, such as the gripper's, or None where all count.
    """

    part_id: str
    declared: Label | None
    label: Label | None
    split: Split | None
    pictures: Mapping[str, Path]
    masks: Mapping[str, Path | None]
    ignored: Mapping[str, Path | None]


@dataclass(frozen=True)
class Dataset:
    """Parts with one picture of each view.

    Attributes
    ----------
    folder : Path
        Where it was read from.
    views : tuple of str
        Names of the views, in order.
    parts : tuple of Part
        In the order of the files.
    whole_pictures : bool
        True for photographs that are taken as they are, of any size: no crop.
    bottom_share : float
        Share of each frame's height that is cut at the bottom.
    picture_width_mm : float or None
        What the square picture that the network sees is wide at the part, in millimetres.
    made_for : mapping
        What the pictures were taken with; carried into the model, opaque here.
    info : mapping
        All of `dataset.json`.
    """

    folder: Path
    views: tuple[str, ...]
    parts: tuple[Part, ...]
    whole_pictures: bool = False
    bottom_share: float = 0.0
    picture_width_mm: float | None = None
    made_for: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def masked(self) -> bool:
        """Whether pixels to ignore are named, for every picture or for none."""
        return any(path is not None for part in self.parts for path in part.ignored.values())

    def training_parts(self, *, limit: int | None = None) -> tuple[Part, ...]:
        """Good parts to train with.

        Parameters
        ----------
        limit : int, optional
            Take only the first so many.

        Returns
        -------
        tuple of Part
            The training split where the dataset has one. Else all parts declared good, in order: a truth table
            may know better, as a simulator's does, and must not help. Only where no part is declared anything,
            those that the truth table calls good.

        Raises
        ------
        DatasetError
            When there are fewer than two, or fewer than `limit`.
        """
        if any(part.split for part in self.parts):
            chosen = [part for part in self.parts if part.split == "train"]
        elif any(part.declared for part in self.parts):
            chosen = [part for part in self.parts if part.declared == "good"]
        else:
            chosen = [part for part in self.parts if part.label == "good"]
        if limit is not None and limit > len(chosen):
            raise DatasetError(f"{self.folder}: {limit} training parts asked, {len(chosen)} good ones are there")
        chosen = chosen[:limit]
        if len(chosen) < 2:
            raise DatasetError(
                f"{self.folder}: {len(chosen)} good part(s) to train with, at least 2 are needed (better 50 "
                "and more); collect more good parts, or label them good"
            )
        return tuple(chosen)


def read_dataset(folder: str | Path) -> Dataset:
    """Read a dataset's tables; pictures are opened later, when they are used.

    Parameters
    ----------
    folder : path
        With `dataset.json` (what `twinspect collect` writes), or with `train/good` (MVTec layout).

    Returns
    -------
    Dataset
        With every picture and mask file that it names found to be there.

    Raises
    ------
    DatasetError
        When the folder is neither, or contradicts itself.
    """
    place = Path(folder)
    try:
        if not place.is_dir():
            raise DatasetError(f"{place}: there is no such folder; check the path")
        if (place / "dataset.json").is_file():
            return _read_collected(place)
        if (place / "train" / "good").is_dir():
            return _read_mvtec(place)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{place}: cannot be read ({error}); check the files and your rights") from error
    raise DatasetError(
        f"{place}: neither dataset.json (made by `twinspect collect`) nor train/good (MVTec layout) is "
        "there; check the path"
    )


def sha256_of(data: bytes) -> str:
    """Return a picture file's SHA-256 as hexadecimal text: how a training picture is recognised anywhere."""
    return hashlib.sha256(data).hexdigest()


def _read_mvtec(folder: Path) -> Dataset:
    none: dict[str, Path | None] = {MVTEC_VIEW: None}
    parts = [
        Part(f"train/good/{path.stem}", "good", "good", "train", {MVTEC_VIEW: path}, none, none)
        for path in _pictures_in(folder / "train" / "good")
    ]
    tests = folder / "test"
    for kind in sorted(path for path in tests.iterdir() if path.is_dir()) if tests.is_dir() else []:
        label: Label = "good" if kind.name == "good" else "defective"
        masks = folder / "ground_truth" / kind.name
        for path in _pictures_in(kind):
            stem = glob.escape(path.stem)
            found = sorted(masks.glob(f"{stem}.*")) + sorted(masks.glob(f"{stem}_mask.*"))
            mask = found[0] if found else None
            identifier = f"test/{kind.name}/{path.stem}"
            parts.append(Part(identifier, None, label, "test", {MVTEC_VIEW: path}, {MVTEC_VIEW: mask}, none))
    _refuse_duplicates([part.part_id for part in parts], folder)
    return Dataset(folder, (MVTEC_VIEW,), tuple(parts), whole_pictures=True)


def _read_collected(folder: Path) -> Dataset:
    file = folder / "dataset.json"
    try:
        info = DatasetInfo.model_validate(
            json.loads(file.read_text(encoding="utf-8-sig"), parse_constant=_refuse_constant)
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise DatasetError(f"{file}: {where}: {first['msg']}; correct it or collect again") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: not valid JSON ({error}); correct it or collect again") from error
    _refuse_duplicates(list(info.views), file)

    rows = list(_rows(folder / "parts.csv", ("part_id", "declared")))
    identifiers = [row["part_id"] for row in rows]
    _refuse_duplicates(identifiers, folder / "parts.csv")
    for identifier in identifiers:
        if not re.match(NAME_PATTERN, identifier):
            raise DatasetError(f"{folder / 'parts.csv'}: {identifier!r} is no part id (letters, digits, _ - .)")
    declared = {row["part_id"]: _label(row["declared"], folder / "parts.csv", row["part_id"]) for row in rows}
    labels = dict(declared)
    truth = folder / "truth" / "parts.csv"
    if truth.is_file():
        for row in _rows(truth, ("part_id", "label")):
            label = _label(row["label"], truth, row["part_id"])
            if row["part_id"] in labels and label is not None:
                labels[row["part_id"]] = label

    pictures: dict[str, dict[str, Path]] = {identifier: {} for identifier in identifiers}
    masks: dict[str, dict[str, Path | None]] = {identifier: {} for identifier in identifiers}
    ignored: dict[str, dict[str, Path | None]] = {identifier: {} for identifier in identifiers}
    table = folder / "images.csv"
    for row in _rows(table, ("part_id", "view", "file", "frame"), optional=("mask",)):
        identifier, view = row["part_id"], row["view"]
        if identifier not in pictures:
            raise DatasetError(f"{table}: part {identifier!r} is not in parts.csv; add it there or remove its pictures")
        if view not in info.views:
            raise DatasetError(f"{table}: part {identifier}: view {view!r} is none of dataset.json's {info.views}")
        if view in pictures[identifier]:
            raise DatasetError(f"{table}: part {identifier} has view {view} twice; keep one of them")
        if not re.fullmatch("[0-9]{1,18}", row["frame"]):
            raise DatasetError(f"{table}: part {identifier}, view {view}: frame {row['frame']!r} is no number")
        pictures[identifier][view] = _inside(folder, row["file"], table)
        mask = folder / "truth" / "masks" / identifier / f"{int(row['frame']):06d}.png"
        masks[identifier][view] = mask if mask.is_file() else None
        ignored[identifier][view] = _inside(folder, row["mask"], table) if row["mask"] else None
    for identifier, found in pictures.items():
        missing = [view for view in info.views if view not in found]
        if missing:
            raise DatasetError(f"{table}: part {identifier} has no picture of {missing}; remove the part or add them")
    if not identifiers:
        raise DatasetError(f"{folder / 'parts.csv'}: no parts; collect some first")
    unmasked = [name for name, files in ignored.items() if None in files.values()]
    if len(unmasked) > 0 and any(path is not None for files in ignored.values() for path in files.values()):
        raise DatasetError(
            f"{table}: part {unmasked[0]} has a picture without a mask, others have one; name one for every picture (a "
            "black one masks nothing) or for none"
        )
    parts = tuple(
        Part(
            identifier,
            declared[identifier],
            labels[identifier],
            None,
            pictures[identifier],
            masks[identifier],
            ignored[identifier],
        )
        for identifier in identifiers
    )
    return Dataset(
        folder,
        info.views,
        parts,
        bottom_share=info.bottom_share,
        picture_width_mm=info.picture_width_mm,
        made_for=info.made_for,
        info=info.model_dump(mode="json"),
    )


def _pictures_in(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DatasetError(f"{folder}: no pictures ({', '.join(sorted(SUFFIXES))}); add some or remove the folder")
    return found


def _rows(path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    if not path.is_file():
        raise DatasetError(f"{path}: missing; copy the whole dataset or collect it again")
    with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
        reader = csv.DictReader(file)
        absent = [column for column in columns if column not in (reader.fieldnames or ())]
        if absent:
            raise DatasetError(f"{path}: column(s) {', '.join(absent)} missing; add them to the first line")
        named = [*columns, *(column for column in optional if column in (reader.fieldnames or ()))]
        for number, row in enumerate(reader, start=2):
            if any(row[column] is None for column in named):
                raise DatasetError(f"{path}, line {number}: too few values; complete the line or remove it")
            yield dict.fromkeys(optional, "") | {column: row[column].strip() for column in named}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _label(text: str, path: Path, part: str) -> Label | None:
    if text == "good":
        return "good"
    if text == "defective":
        return "defective"
    if not text:
        return None
    raise DatasetError(f"{path}: part {part}: {text!r} is no label; write good, defective or nothing")


def _inside(folder: Path, name: str, table: Path) -> Path:
    relative = PurePosixPath(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or ":" in name:
        raise DatasetError(f"{table}: {name!r} leaves the dataset's folder; write paths relative to it")
    path = folder / relative
    if not path.is_file():
        raise DatasetError(f"{path}: missing, but {table.name} names it; copy the whole dataset")
    return path


def _refuse_duplicates(names: Sequence[str], where: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DatasetError(f"{where}: {name!r} is there twice; names must be unique")
        seen.add(name)
