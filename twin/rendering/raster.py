"""Triangles as pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from cell.interfaces import Intrinsics
from detection.kernels import CHUNKS, kernel, parallel_kernel
from twin.rendering.geometry import FAR_M, NEAR_M


@dataclass(frozen=True)
class Triangles:
    """Triangles in a picture.

    Attributes
    ----------
    edges : (T, 3, 3) float64
        (a, b, c) of each edge: inside is where a x + b y + c ≥ 0 for all three, x and y in pixels.
    rows : (T, 2) float64
        The smallest and the largest y.
    inverse_depth : (T, 3) float64
        (a, b, c): 1 / depth is a x + b y + c, depth in metres.
    facing : (T,) bool
        Whether its front, from which its corners turn counter-clockwise, is seen.
    """

    edges: NDArray[np.float64]
    rows: NDArray[np.float64]
    inverse_depth: NDArray[np.float64]
    facing: NDArray[np.bool_]


def project_triangles(corners_m: NDArray[np.float64], k: Intrinsics) -> Triangles:
    """Bring triangles (T, 3, 3), in the camera's frame, into a picture without distortion.

    Those that come nearer than `NEAR_M`, or lie behind the camera, are seen nowhere.
    """
    near = corners_m[..., 2].min(axis=1) < NEAR_M
    corners_m = np.where(near[:, np.newaxis, np.newaxis], (0.0, 0.0, 1.0), corners_m)
    x = k.fx * corners_m[..., 0] / corners_m[..., 2] + k.cx
    y = k.fy * corners_m[..., 1] / corners_m[..., 2] + k.cy
    ahead = [1, 2, 0]
    edges = np.stack([y - y[:, ahead], x[:, ahead] - x, x * y[:, ahead] - x[:, ahead] * y], axis=-1)
    # Twice the signed area: all edges turn round where it is negative, and nothing is inside where it is 0.
    area = edges[:, :, 2].sum(axis=1)
    edges *= np.sign(area)[:, np.newaxis, np.newaxis]
    edges[area == 0] = (0.0, 0.0, -1.0)
    # With P = depth · (dx, dy, 1) on the plane n · P = n · A, 1 / depth is n · (dx, dy, 1) / (n · A).
    normal = np.cross(corners_m[:, 1] - corners_m[:, 0], corners_m[:, 2] - corners_m[:, 0])
    offset = (normal * corners_m[:, 0]).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b, c = (normal / offset[:, np.newaxis]).T
    planes = np.stack([a / k.fx, b / k.fy, c - a * k.cx / k.fx - b * k.cy / k.fy], axis=-1)
    edges[~np.isfinite(planes).all(axis=1)] = (0.0, 0.0, -1.0)
    return Triangles(edges, np.stack([y.min(axis=1), y.max(axis=1)], axis=-1), planes, offset < 0)


@kernel
def span(edges: NDArray[np.float64], y: float) -> tuple[float, float]:
    """Return from where to where a row at height y lies inside a triangle; the first is larger where nowhere."""
    low, high = -1e9, 1e9
    for edge in range(3):
        a = edges[edge, 0]
        rest = edges[edge, 1] * y + edges[edge, 2]
        if a > 0:
            low = max(low, -rest / a)
        elif a < 0:
            high = min(high, -rest / a)
        elif rest < 0:
            return 1.0, 0.0
    return low, high


def nearest_faces(triangles: Triangles, height: int, width: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Draw triangles.

    Returns
    -------
    faces : (H, W) int32
        The number of the triangle that is nearest at the middle of each pixel, -1 where none is.
    depth_m : (H, W) float32
        How far away it is along the optical axis, `FAR_M` where none is.
    """
    faces, depth = np.empty((height, width), np.int32), np.empty((height, width), np.float32)
    _draw(triangles.edges, triangles.rows, triangles.inverse_depth, faces, depth)
    return faces, depth


@parallel_kernel
def _draw(
    edges: NDArray[np.float64],
    rows: NDArray[np.float64],
    planes: NDArray[np.float64],
    faces: NDArray[np.int32],
    depth: NDArray[np.float32],
) -> None:
    height, width = faces.shape
    for chunk in prange(CHUNKS):
        first, last = chunk * height // CHUNKS, (chunk + 1) * height // CHUNKS
        nearest = np.full((last - first, width), 1 / FAR_M)
        faces[first:last] = -1
        for t in range(len(edges)):
            for y in range(max(first, int(np.ceil(rows[t, 0] - 0.5))), min(last, int(np.floor(rows[t, 1] + 0.5)))):
                low, high = span(edges[t], y + 0.5)
                line = planes[t, 1] * (y + 0.5) + planes[t, 2]
                for x in range(max(0, int(np.ceil(low - 0.5))), min(width, int(np.floor(high - 0.5)) + 1)):
                    inverse = planes[t, 0] * (x + 0.5) + line
                    if inverse > nearest[y - first, x]:
                        nearest[y - first, x] = inverse
                        faces[y, x] = t
        for y in range(first, last):
            for x in range(width):
                depth[y, x] = 1 / nearest[y - first, x]
