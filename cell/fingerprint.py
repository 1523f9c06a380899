"""What a model was made for, and whether that is what is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cell.interfaces import ModelMismatchError
from cell.setup import Cell

_MEANING = {
    "cell_kind": "the kind of cell",
    "camera_serial": "the camera's serial number",
    "intrinsics": "the camera's size and intrinsics",
    "exposure_us": "the exposure time",
    "part": "the part and its version",
    "grasps": "the grasp points",
    "views": "the views",
    "camera_mount": "where the camera stands",
}


def fingerprint(cell: Cell) -> dict[str, Any]:
    """Return what the pictures of a connected cell depend on, as JSON values."""
    part = cell.part
    return {
        "cell_kind": cell.file.kind,
        "camera_serial": cell.camera.serial,
        "intrinsics": asdict(cell.camera.intrinsics),
        "exposure_us": cell.camera.exposure_us,
        "part": {"name": part.name, "version": part.version},
        "grasps": [grasp.model_dump(mode="json") for grasp in part.grasps],
        "views": [view.model_dump(mode="json") for view in part.views],
        "camera_mount": cell.file.scene.camera.model_dump(mode="json"),
    }


def refuse_mismatch(made_for: Mapping[str, Any], cell: Cell, model: str) -> None:
    """Raise `ModelMismatchError` when a model was made for something else than the connected cell.

    Parameters
    ----------
    made_for : mapping
        What `fingerprint` said when its training pictures were taken.
    cell : Cell
        What is at hand.
    model : str
        How to name the model.
    """
    if not made_for:
        raise ModelMismatchError(
            f"{model} was not trained with pictures of a cell: collect a dataset with this cell and train on it"
        )
    now = fingerprint(cell)
    wrong = [
        f"{meaning} ({made_for.get(key)!r}, here {now[key]!r})" if key in ("cell_kind", "camera_serial") else meaning
        for key, meaning in _MEANING.items()
        if made_for.get(key) != now[key]
    ]
    if wrong:
        raise ModelMismatchError(
            f"{model} was made for something else: {', '.join(wrong)} differ; "
            "collect and train for this cell and part, or use the files it was made with"
        )
