"""What a model was made for, and whether that is what is at hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from cell.interfaces import ModelMismatchError
from cell.motion.stored import planned_round
from cell.replay import ReplayCamera
from cell.setup import Cell

if TYPE_CHECKING:
    from detection import InspectorInfo

# Milliradians: less than what one sees of the arm behind the part.
_POSTURE_DIGITS = 3
_MEANING = {
    "cell_kind": "the kind of cell",
    "camera_serial": "the camera's serial number",
    "intrinsics": "the camera's size and intrinsics",
    "exposure_us": "the exposure time",
    "camera": "the camera's settings",
    "camera_mount": "where the camera stands",
    "arm_geometry": "what the arm was calibrated to",
    "hand": "the hand that is masked in the pictures",
    "postures": "how the arm stands at the views",
    "part": "the part file",
}


def fingerprint(cell: Cell) -> dict[str, Any]:
    """Return what the pictures of a connected cell depend on, as JSON values; of recorded ones, what they did then."""
    if isinstance(cell.camera, ReplayCamera):
        return cell.camera.made_for
    return {
        "cell_kind": cell.file.kind,
        "camera_serial": cell.camera.serial,
        "intrinsics": asdict(cell.camera.intrinsics),
        "exposure_us": cell.camera.exposure_us,
        "camera": cell.file.camera.model_dump(mode="json", by_alias=True),
        "camera_mount": cell.file.scene.camera.model_dump(mode="json"),
        # What a calibration did not say yet is left out: it is as it was for models of then.
        "arm_geometry": None
        if cell.file.arm_geometry is None
        else cell.file.arm_geometry.model_dump(mode="json", exclude_defaults=True),
        "hand": None if cell.file.hand is None else cell.file.hand.model_dump(mode="json"),
        "postures": {
            name: np.round(stop.q, _POSTURE_DIGITS).tolist()
            for shown in planned_round(cell.file, cell.part, cell.folder).views
            for name, stop in shown.items()
        },
        "part": cell.part.model_dump(mode="json", by_alias=True, exclude={"mass", "density_g_cm3"}),
    }


def refuse_mismatch(model: InspectorInfo, cell: Cell, name: str) -> None:
    """Raise `ModelMismatchError` when a model was made for something else than the connected cell.

    Parameters
    ----------
    model : InspectorInfo
        Holds what `fingerprint` said when its training pictures were taken.
    cell : Cell
        What is at hand.
    name : str
        How to name the model.
    """
    made_for = model.made_for
    if not made_for:
        raise ModelMismatchError(
            f"{name} was not trained with pictures of a cell: collect a dataset with this cell and train on it"
        )
    now = fingerprint(cell)
    wrong = []
    for key, meaning in _MEANING.items():
        then, here = made_for.get(key), now.get(key)
        if then == here:
            continue
        if isinstance(then, dict) and isinstance(here, dict):
            keys = sorted(k for k in then.keys() | here.keys() if then.get(k) != here.get(k))
            wrong.append(f"{meaning} ({', '.join(keys)})")
        else:
            wrong.append(f"{meaning} ({then!r}, here {here!r})")
    if model.views != cell.part.view_names:
        wrong.append("the views that it has models of")
    if wrong:
        raise ModelMismatchError(
            f"{name} was made for something else: {'; '.join(wrong)} differ; "
            "collect and train for this cell and part, or use the files it was made with"
        )
