"""The poses of a cycle: what the files say, as poses of the tool centre point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import JointTrajectory, Pose
from cell.schema import CameraMount, GraspPoint, PartFile, Place, View

HOME, FEEDER, SCALE = "home", "feeder", "scale"
LET_GO_M = 0.001
"""So far above the scale's pan a part is let go: on a pan, a stiff arm that is off by half of it would weigh."""

_PARALLEL = 0.2


def beside_scale(grasp: GraspPoint) -> str:
    """Name the pose above the scale in which the hand waits, open, while the part is weighed."""
    return f"above scale ({grasp.name})"


def on_scale(grasp: GraspPoint) -> str:
    """Name the pose in which the part is taken from the scale."""
    return f"scale ({grasp.name})"


def over_bin(name: str) -> str:
    """Name the pose in which a part is let go over the bin of a verdict."""
    return f"bin {name}"


@dataclass(frozen=True)
class Stop:
    """A pose of the arm: its name and its joint positions, (7,) float64 rad."""

    name: str
    q: NDArray[np.float64]


@dataclass(frozen=True)
class Round:
    """The poses of one cycle and the ways between them.

    Attributes
    ----------
    home : Stop
    views : (dict of str to Stop, dict of str to Stop)
        By the name of the picture, in the order in which they are taken; one for each grasp point.
    legs : dict of (str, str) to JointTrajectory
        By the names of the poses where they begin and end, at full speed.
    """

    home: Stop
    views: tuple[dict[str, Stop], dict[str, Stop]]
    legs: dict[tuple[str, str], JointTrajectory]


def place_pose(place: Place) -> Pose:
    """Return the pose of the frame of a part that lies there."""
    c, s = np.cos(np.radians(place.yaw_deg)), np.sin(np.radians(place.yaw_deg))
    return Pose(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]), np.array(place.position_m))


def grasp_pose(grasp: GraspPoint) -> Pose:
    """Return the tool centre point's pose in the part's frame."""
    z = np.array(grasp.approach) / np.linalg.norm(grasp.approach)
    y = np.array(grasp.opening) / np.linalg.norm(grasp.opening)
    return Pose(np.stack([np.cross(y, z), y, z], axis=1), np.array(grasp.position_mm) / 1000)


def camera_pose(mount: CameraMount) -> Pose:
    """Return the camera's pose: z looks along the optical axis, x to the right and y down in the picture."""
    z = np.array(mount.look_at_m) - np.array(mount.position_m)
    z = z / np.linalg.norm(z)
    x = np.cross(z, np.array(mount.up))
    x = x / np.linalg.norm(x)
    return Pose(np.stack([x, np.cross(z, x), z], axis=1), np.array(mount.position_m))


def in_hand(to_camera: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the axes of the picture, right, down and away, (3, 3), in the hand's frame, for a view without roll.

    `to_camera` (3,) is the unit vector to the camera in the hand's frame.
    """
    # "The hand comes from below": the side of the fingers' opening on which it holds is down in the picture;
    # where the camera looks along it, its back is up instead.
    down = np.array([0.0, 1.0, 0.0]) - to_camera * to_camera[1]
    if np.linalg.norm(down) < _PARALLEL:
        down = np.array([0.0, 0.0, -1.0]) + to_camera * to_camera[2]
    down = down / np.linalg.norm(down)
    right = np.cross(down, -to_camera)
    return np.stack([right, down, -to_camera], axis=1)


def view_pose(view: View, grasp: GraspPoint, part: PartFile, mount: CameraMount) -> Pose:
    """Return the tool centre point's pose at which the camera sees the held part from the view's direction."""
    tilt, azimuth, roll = np.radians([view.tilt_deg, view.azimuth_deg, view.roll_deg])
    to_camera = np.array([np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), np.cos(tilt)])
    turned = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    rotation = camera_pose(mount).rotation @ turned @ in_hand(to_camera).T
    centre = grasp_pose(grasp).inverse().apply(np.array(part.centre_mm) / 1000)
    return Pose(rotation, np.array(mount.look_at_m) - rotation @ centre)
