"""The geometry of a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import Intrinsics, Pose


@dataclass(frozen=True)
class Pinhole:
    """A camera without distortion: where it stands (z along the optical axis, y down) and its intrinsics."""

    pose: Pose
    intrinsics: Intrinsics

    def project(self, points_m: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return pixel coordinates (N, 2), x then y, and depths (N,) in metres of points (N, 3)."""
        x, y, z = self.pose.inverse().apply(points_m).T
        k = self.intrinsics
        return np.stack([k.fx * x / z + k.cx, k.fy * y / z + k.cy], axis=1), z

    def resized(self, width: int, height: int) -> Pinhole:
        """Return the same view in another number of pixels."""
        k = self.intrinsics
        sx, sy = width / k.width, height / k.height
        return Pinhole(self.pose, Intrinsics(k.fx * sx, k.fy * sy, k.cx * sx, k.cy * sy, width, height))
