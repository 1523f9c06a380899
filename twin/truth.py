"""What is really wrong with a part, and where it is seen: beside the dataset, read by no device."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from twin.parts.made import MadeDefect

_PART_COLUMNS = ("part_id", "label", "defects")
_VIEW_COLUMNS = ("part_id", "frame", "pixels", "mm2", "kinds")


def write_part(folder: Path, part_id: str, defects: tuple[MadeDefect, ...]) -> None:
    """Add a part to ``parts.csv``; several processes may do so at once."""
    folder.mkdir(parents=True, exist_ok=True)
    said = [
        {
            "kind": d.kind,
            "size_mm": round(d.size_mm, 4),
            "contrast": None if d.contrast is None else round(d.contrast, 4),
            "centre_mm": d.points.mean(axis=0).round(3).tolist(),
        }
        for d in defects
    ]
    row = (part_id, "defective" if defects else "good", json.dumps(said))
    _append(folder / "parts.csv", _PART_COLUMNS, row)


def write_view(
    folder: Path, part_id: str, frame: int, visible: NDArray[np.bool_], area_mm2: float, *, kinds: tuple[str, ...]
) -> None:
    """Write where a defect is seen in a frame: pixels (H, W) as a picture of 0 and 255, and a row in ``views.csv``.

    The row says how many pixels they are, and how much of the part's surface; both 0: not visible from here. Its last
    column names the kinds of the part's defects, with spaces between. Several processes may write at once.
    """
    path = folder / "masks" / part_id / f"{frame:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), visible.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise OSError(f"{path}: the mask could not be written")
    row = (part_id, frame, int(np.count_nonzero(visible)), round(area_mm2, 4), " ".join(kinds))
    _append(folder / "views.csv", _VIEW_COLUMNS, row)


def visible_views(folder: Path) -> dict[str, int]:
    """Return for each part in how many of its views a defect is visible; a vote of more views cannot catch it."""
    counts: dict[str, int] = {}
    with (folder / "views.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            counts[row["part_id"]] = counts.get(row["part_id"], 0) + (int(row["pixels"]) > 0)
    return counts


def _append(path: Path, columns: tuple[str, ...], row: tuple[Any, ...]) -> None:
    """Add a row to a table, which begins with the names of its columns."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        # Asked only now: before the lock another process may have written the first line.
        if os.fstat(file.fileno()).st_size == 0:
            writer.writerow(columns)
        writer.writerow(row)
        file.write(text.getvalue().encode())
