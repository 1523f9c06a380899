"""Poses of a guided arm as a part file says them: the inverse of `cell.motion.round`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import ConfigError, Pose
from cell.motion.panda import forward
from cell.motion.round import camera_pose, in_hand, place_pose
from cell.schema import CameraMount, PartFile, Scene

_DIGITS = 3


def taught(poses: Mapping[str, NDArray[np.float64]], part: PartFile, scene: Scene) -> dict[tuple[str | int, ...], Any]:
    """Return what belongs into the part file, by the keys that lead to it.

    Parameters
    ----------
    poses : mapping of str to (7,) float64
        Joint positions by the name of a grasp point, with the hand about the part as it lies at the feeder, or of a
        view, with the part in the hand before the camera. Of a view only the directions count: the part is shown on
        the optical axis.
    part : PartFile
        Its grasp points and views have these names.
    scene : Scene
        Where feeder and camera are.

    Raises
    ------
    ConfigError
        A name is unknown.
    """
    grasps, views = [grasp.name for grasp in part.grasps], [view.name for view in part.views]
    values: dict[tuple[str | int, ...], Any] = {}
    for name, joints_rad in poses.items():
        tool = forward(joints_rad)
        said: dict[str, Any]
        if name in grasps:
            kind, index, said = "grasps", grasps.index(name), _grasp(place_pose(scene.feeder).inverse() @ tool)
        elif name in views:
            kind, index, said = "views", views.index(name), _view(tool, scene.camera)
        else:
            raise ConfigError(f"part {part.name} has no grasp point or view {name}; it has {', '.join(grasps + views)}")
        values |= {(kind, index, key): value for key, value in said.items()}
    return values


def _grasp(in_part: Pose) -> dict[str, list[float]]:
    x_mm = in_part.position_m * 1000
    opening, approach = in_part.rotation[:, 1], in_part.rotation[:, 2]
    return {
        "position_mm": np.round(x_mm, _DIGITS).tolist(),
        # Of two directions at right angles, rounded, so many digits stay at right angles.
        "approach": np.round(approach, 2 * _DIGITS).tolist(),
        "opening": np.round(opening, 2 * _DIGITS).tolist(),
    }


def _view(tool: Pose, mount: CameraMount) -> dict[str, float]:
    camera = camera_pose(mount).rotation
    x, y, z = -tool.rotation.T @ camera[:, 2]
    turned = camera.T @ tool.rotation @ in_hand(np.array([x, y, z]))
    return {
        "tilt_deg": round(float(np.degrees(np.arctan2(np.hypot(x, y), z))), _DIGITS),
        "azimuth_deg": round(float(np.degrees(np.arctan2(y, x))), _DIGITS),
        "roll_deg": round(float(np.degrees(np.arctan2(turned[1, 0], turned[0, 0]))), _DIGITS),
    }
