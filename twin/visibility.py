"""From which views a point of a part is seen, as the cell is planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell.config import load_class
from cell.interfaces import Camera, ConfigError, Pose
from cell.motion.panda import forward
from cell.motion.round import grasp_pose
from cell.motion.stored import planned_round
from cell.setup import Order
from cell.silhouette import hand_mask
from twin.camera import TwinCameraConfig
from twin.conditions import Conditions
from twin.parts.shape import Shape
from twin.rendering.composed import ComposedScene
from twin.rendering.geometry import PART
from twin.rendering.pinhole import Pinhole
from twin.rendering.tiny import TinySurroundings
from twin.snapshot import PartBody, Snapshot
from twin.world import world_config

_WIDTH, _HEIGHT = 640, 480
# Pixels are half a millimetre wide: within one a steep surface's depth changes by no more than this.
_TOLERANCE_M = 0.0008
# A defect counts as seen from a view when this share of its points is.
_SEEN_SHARE = 0.3


@dataclass(frozen=True, eq=False)
class PlannedView:
    """A depth picture of a good part in a planned view.

    Attributes
    ----------
    name : str
        Of the picture, as in the part file's `view_names`.
    grasp : int
        Index of the grasp point.
    joints_rad : (7,) float64
        Of the arm.
    camera : Pinhole
        Without distortion, in the picture's pixels.
    pose : Pose
        Of the part's frame in the base's.
    depth_m : (H, W) float32
        Along the optical axis.
    shown : (H, W) bool
        Where the part is seen, neither under the hand's mask nor in the rows that are cut.
    full_px : float
        Pixels of the whole frame's picture for each of this one.
    """

    name: str
    grasp: int
    joints_rad: NDArray[np.float64]
    camera: Pinhole
    pose: Pose
    depth_m: NDArray[np.float32]
    shown: NDArray[np.bool_]
    full_px: float

    def share(self, points_mm: NDArray[np.float64]) -> float:
        """Return how much of points (N, 3) on the part's surface is seen."""
        seen, _ = self._look(points_mm)
        return float(seen.mean())

    def depth_of(self, points_mm: NDArray[np.float64]) -> float:
        """Return how far from the camera points (N, 3) of the part are on average, metres."""
        return float(self._look(points_mm)[1].mean())

    def look(
        self, points_mm: NDArray[np.float64], normals: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
        """See how points of the part's surface are seen.

        Parameters
        ----------
        points_mm, normals : (N, 3) float64
            In the part's frame; normals point outwards and have length 1.

        Returns
        -------
        seen : (N,) bool
            Nothing stands before it, it counts in the picture, and it faces the camera.
        px_per_mm : (N,) float32
            Of the frame, along the slope, where a millimetre is shortest.
        angle_deg : (N,) float32
            Between normal and direction to the camera.
        """
        seen, depth = self._look(points_mm)
        towards = self.camera.pose.position_m - self.pose.apply(points_mm / 1000)
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        cosine = np.einsum("ij,ij->i", towards, normals @ self.pose.rotation.T)
        scale = self.camera.intrinsics.fx * self.full_px / depth / 1000 * np.maximum(cosine, 0)
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        return seen & (cosine > 0), scale.astype(np.float32), angle.astype(np.float32)

    def _look(self, points_mm: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        height, width = self.depth_m.shape
        pixels, depth = self.camera.project(self.pose.apply(points_mm / 1000))
        x, y = np.floor(pixels).astype(int).T
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        at = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        return inside & self.shown[at] & (depth < self.depth_m[at] + _TOLERANCE_M), depth


def planned_views(order: Order, shape: Shape) -> tuple[PlannedView, ...]:
    """Plan the round of an order's part and draw each view of a good one once.

    Raises
    ------
    MotionRejected
        A pose cannot be reached; it is named.
    ConfigError
        The cell is none of the twin's.
    """
    cell, part = order.cell, order.part.content
    scene = cell.content.scene
    _, config = load_class(cell.content.camera, f"{cell.path}: camera", like=Camera)
    if not isinstance(config, TwinCameraConfig):
        raise ConfigError(f"{cell.path}: camera: to know what its views see, it must be a camera of the twin")
    world = world_config(cell)
    full = config.pinhole(scene.camera).undistorted()
    camera = full.resized(_WIDTH, _HEIGHT)
    cut = _HEIGHT - round(part.bottom_share * _HEIGHT)
    planned = planned_round(cell.content, part, order.part.path.parent)
    good = PartBody("good", shape.mesh, shape.hulls, 0.0, (), (), (), 1.0, Conditions(), (0, 0))
    views = []
    # Always the same renderer: where a part's defect lies must not depend on what the machine has.
    with ComposedScene(TinySurroundings(scene, pan_m=world.pan_m)) as renderer:
        for index, (grasp, stops) in enumerate(zip(part.grasps, planned.views, strict=True)):
            fingers = np.full(2, grasp.width_mm / 2000)
            for name, stop in stops.items():
                pose = forward(stop.q) @ grasp_pose(grasp).inverse()
                drawn = renderer.render(Snapshot(stop.q, fingers, good, pose, index), camera)
                shown = drawn.surface == PART
                shown[cut:] = False
                if cell.content.hand is not None:
                    opening = grasp.width_mm / 1000
                    shown &= ~hand_mask(cell.content.hand, stop.q, opening, camera.pose, camera.intrinsics)
                scale = full.intrinsics.width / _WIDTH
                views.append(PlannedView(name, index, stop.q, camera, pose, drawn.depth_m, shown, scale))
    return tuple(views)


def seen_by(views: Sequence[PlannedView], points_mm: NDArray[np.float64]) -> int:
    """Return how many views see at least some 30 % of points (N, 3) on the part's surface."""
    return sum(view.share(points_mm) >= _SEEN_SHARE for view in views)
