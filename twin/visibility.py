"""From which views a point of a part is seen, as the cell is planned."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import Pose
from cell.motion.panda import forward
from cell.motion.round import grasp_pose
from cell.motion.stored import planned_round
from cell.setup import Setup
from twin.rendering.pinhole import Pinhole
from twin.rendering.tiny import TinyScene
from twin.world import PartBody, Snapshot

_WIDTH, _HEIGHT = 640, 480
# Of a depth buffer of half a millimetre a pixel: the slope of a surface within one pixel stays below this.
_TOLERANCE_M = 0.0008
# A defect counts as seen from a view when this share of its points is.
_SEEN_SHARE = 0.3


class Visibility:
    """Depth pictures of a good part in every planned view, to ask which of them see given points."""

    def __init__(self, setup: Setup, part: PartBody, scene: TinyScene, camera: Pinhole) -> None:
        """Draw each view of the planned round once."""
        planned = planned_round(setup.order.cell.content, setup.part)
        self._camera = camera.resized(_WIDTH, _HEIGHT)
        self._views: list[tuple[Pose, NDArray[np.float32]]] = []
        for grasp, stops in zip(setup.part.grasps, planned.views, strict=True):
            fingers = np.full(2, grasp.width_mm / 2000)
            for stop in stops.values():
                pose = forward(stop.q) @ grasp_pose(grasp).inverse()
                drawn = scene.render(Snapshot(stop.q, fingers, part, pose), self._camera)
                self._views.append((pose, drawn.depth_m))

    def seen_by(self, points_mm: NDArray[np.float64]) -> int:
        """Return how many views see at least some 30 % of points (N, 3) on the part's surface."""
        return sum(self._share(points_mm / 1000, pose, depth) >= _SEEN_SHARE for pose, depth in self._views)

    def _share(self, points_m: NDArray[np.float64], pose: Pose, depth_m: NDArray[np.float32]) -> float:
        pixels, z = self._camera.project(pose.apply(points_m))
        x, y = np.floor(pixels).astype(int).T
        inside = (x >= 0) & (x < _WIDTH) & (y >= 0) & (y < _HEIGHT)
        nearest = depth_m[np.clip(y, 0, _HEIGHT - 1), np.clip(x, 0, _WIDTH - 1)]
        return float((inside & (z < nearest + _TOLERANCE_M)).mean())
