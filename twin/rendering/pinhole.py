"""The geometry of a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import Intrinsics, Pose
from cell.projection import field_of_view, pixels_of


@dataclass(frozen=True)
class Pinhole:
    """A camera: where it stands (z along the optical axis, y down) and its intrinsics."""

    pose: Pose
    intrinsics: Intrinsics

    def project(self, points_m: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return pixel coordinates (N, 2), x then y, and depths (N,) in metres of points (N, 3)."""
        inside = self.pose.inverse().apply(points_m)
        depth = inside[:, 2]
        return pixels_of(self.intrinsics, inside[:, :2] / depth[:, np.newaxis]), depth

    def resized(self, width: int, height: int) -> Pinhole:
        """Return the same view in another number of pixels."""
        k = self.intrinsics
        sx, sy = width / k.width, height / k.height
        scaled = Intrinsics(k.fx * sx, k.fy * sy, k.cx * sx, k.cy * sy, width, height, k.k1, k.k2, k.p1, k.p2)
        return Pinhole(self.pose, scaled)

    def undistorted(self) -> Pinhole:
        """Return the view without distortion that holds all that this one sees, in pixels of the same size."""
        k = self.intrinsics
        if not any((k.k1, k.k2, k.p1, k.p2)):
            return self
        left, top, right, bottom = field_of_view(k)
        x0, y0 = int(np.floor(left * k.fx)) - 1, int(np.floor(top * k.fy)) - 1
        x1, y1 = int(np.ceil(right * k.fx)) + 1, int(np.ceil(bottom * k.fy)) + 1
        return Pinhole(self.pose, Intrinsics(k.fx, k.fy, float(-x0), float(-y0), x1 - x0, y1 - y0))
