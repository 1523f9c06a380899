"""What is really wrong with a part, and where it is seen: beside the dataset, read by no device."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from twin.parts.made import MadeDefect

_COLUMNS = ("part_id", "label", "defects")


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
    with (folder / "parts.csv").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        # Asked only now: before the lock another process may have written the first line.
        if os.fstat(file.fileno()).st_size == 0:
            writer.writerow(_COLUMNS)
        writer.writerow((part_id, "defective" if defects else "good", json.dumps(said)))
        file.write(text.getvalue().encode())


def write_mask(folder: Path, part_id: str, frame: int, visible: NDArray[np.bool_]) -> None:
    """Write the pixels (H, W) of a frame in which a defect is seen as a picture of 0 and 255."""
    path = folder / "masks" / part_id / f"{frame:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), visible.astype(np.uint8) * 255):
        raise OSError(f"{path}: the mask could not be written")
