"""Every pose of a cycle, worked out before anything moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import MotionRejected, Pose
from cell.motion.panda import inverse
from cell.schema import CameraMount, GraspPoint, PartFile, Place, Scene, View

_PARALLEL = 0.2


@dataclass(frozen=True)
class Stop:
    """A pose of the arm: its name and its joint positions, (7,) float64 rad."""

    name: str
    q: NDArray[np.float64]


@dataclass(frozen=True)
class Handling:
    """How the hand comes to a place and leaves it: from above, along the vertical."""

    above: Stop
    at: Stop


@dataclass(frozen=True)
class Round:
    """The poses of one cycle.

    Attributes
    ----------
    pick : Handling
        Taking the part from the feeder at the first grasp point.
    put : Handling
        Laying it on the scale.
    repick : Handling
        Taking it from the scale at the second grasp point.
    views : dict of str to Stop
        By the name of the picture, in the order in which they are taken; the first half belongs to the first
        grasp point.
    bins : dict of str to Handling
        By the name of the verdict.
    """

    home: Stop
    pick: Handling
    put: Handling
    repick: Handling
    views: tuple[dict[str, Stop], dict[str, Stop]]
    bins: dict[str, Handling]


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


def view_pose(view: View, grasp: GraspPoint, part: PartFile, mount: CameraMount) -> Pose:
    """Return the tool centre point's pose at which the camera sees the held part from the view's direction."""
    tilt, azimuth, roll = np.radians([view.tilt_deg, view.azimuth_deg, view.roll_deg])
    to_camera = np.array([np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), np.cos(tilt)])
    # "The hand comes from below": the side of the fingers' opening on which it holds is down in the picture;
    # where the camera looks along it, its back is up instead.
    down = np.array([0.0, 1.0, 0.0]) - to_camera * to_camera[1]
    if np.linalg.norm(down) < _PARALLEL:
        down = np.array([0.0, 0.0, -1.0]) + to_camera * to_camera[2]
    down = down / np.linalg.norm(down)
    right = np.cross(down, -to_camera)
    in_hand = np.stack([right, down, -to_camera], axis=1)
    turned = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    rotation = camera_pose(mount).rotation @ turned @ in_hand.T
    centre = grasp_pose(grasp).inverse().apply(np.array(part.centre_mm) / 1000)
    return Pose(rotation, np.array(mount.look_at_m) - rotation @ centre)


def _reach(name: str, goal: Pose, near: NDArray[np.float64]) -> Stop:
    q = inverse(goal, near)
    if q is None:
        x, y, z = goal.position_m
        raise MotionRejected(
            "arm",
            f"planning the pose {name}",
            f"no joint positions within the limits reach ({x:.3f}, {y:.3f}, {z:.3f}) m in that direction",
            "change the pose in the part or cell file",
        )
    return Stop(name, q)


def _handle(name: str, part_at: Pose, grasp: GraspPoint, clearance_m: float, near: NDArray[np.float64]) -> Handling:
    at = part_at @ grasp_pose(grasp)
    above = _reach(f"above {name}", Pose(at.rotation, at.position_m + np.array([0, 0, clearance_m])), near)
    return Handling(above, _reach(name, at, above.q))


def plan_round(scene: Scene, part: PartFile, home: NDArray[np.float64]) -> Round:
    """Work out every pose of a cycle.

    Raises
    ------
    MotionRejected
        A pose cannot be reached; it is named.
    """
    first, second = part.grasps
    pick = _handle("feeder", place_pose(scene.feeder), first, scene.clearance_m, home)
    views: list[dict[str, Stop]] = []
    near = home
    for grasp in part.grasps:
        found = {}
        for view in part.views:
            name = f"{grasp.name}-{view.name}"
            found[name] = _reach(name, view_pose(view, grasp, part, scene.camera), near)
            near = found[name].q
        views.append(found)
        near = home
    on_scale = place_pose(scene.scale)
    put = _handle("scale", on_scale, first, scene.clearance_m, home)
    repick = _handle(f"scale ({second.name})", on_scale, second, scene.clearance_m, put.above.q)
    bins = {
        name: _handle(f"bin {name}", place_pose(place), second, scene.clearance_m, home)
        for name, place in (
            ("ok", scene.bins.ok),
            ("reject", scene.bins.reject),
            ("recheck", scene.bins.recheck),
        )
    }
    return Round(Stop("home", home), pick, put, repick, (views[0], views[1]), bins)
