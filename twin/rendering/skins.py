"""Skins on a part, drawn by the share of each pixel that they cover, and what of a defect is seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from cell.interfaces import Intrinsics, Pose
from detection.kernels import CHUNKS, kernel, parallel_kernel
from twin.rendering.geometry import PART, Geometry
from twin.rendering.raster import project_triangles, span
from twin.snapshot import Snapshot

# 4 × 4 points in each pixel, a bit for each.
_FINE = 4
_POINTS = _FINE * _FINE
# A skin stands proud of, or lies below, the facets that it was laid on by less than this.
_PROUD_M = 0.00006
# Surfaces seen so flat that they fall by more within a pixel hide what is behind them all the same.
_SLOPE_LIMIT_M = 0.001


@dataclass(frozen=True)
class Seen:
    """What of a defect is seen in a picture.

    Attributes
    ----------
    share : (H, W) float32
        Of each pixel, in steps of 1/16.
    area_mm2 : float
        Of the surface that is seen, on the surface.
    """

    share: NDArray[np.float32]
    area_mm2: float


def lay_skins(
    radiance: NDArray[np.float32],
    geometry: Geometry,
    snapshot: Snapshot,
    camera: Pose,
    k: Intrinsics,
    *,
    bare: NDArray[np.float32],
    around: NDArray[np.float32] | None = None,
) -> Seen:
    """Change the light (C, H, W) by what lies on the part, and say where a defect is seen.

    Parameters
    ----------
    radiance : (C, H, W) float32
        Changed in place. Where a skin lies on the part, the part's own light is dimmed or brightened; where it
        stands before something else, such as a strand does, it has the light of the part's material there.
    geometry : Geometry
        What hides what.
    snapshot : Snapshot
        The part, its skins, and its defects in geometry; those change nothing here, but are part of the truth.
    camera : Pose
        Of the camera, whose intrinsics are without distortion.
    bare : (C,) float32
        Radiance of the part's material where it faces the camera, at a distance of 1 m.
    around : (C,) float32 or None
        None: the part is opaque. Else it is clear, and a skin on it is thin matter: it hides the share
        `hidden_share` of what is behind and scatters light itself; this is the radiance of the part's material in the
        light from all around.
    """
    height, width = geometry.depth_m.shape
    share = np.zeros((height, width), np.float32)
    part, pose = snapshot.part, snapshot.part_pose
    if part is None or pose is None:
        return Seen(share, 0.0)
    # (mesh, change of the light, share of the light, is truth, only its front)
    layers = [(skin.mesh, skin.reflectance, skin.opacity, skin.defect, False) for skin in snapshot.skins]
    layers += [(faces, 1.0, 0.0, True, False) for faces in part.altered]
    layers += [(piece, 1.0, 0.0, True, True) for piece in part.removed]
    if not layers:
        return Seen(share, 0.0)
    to_camera = camera.inverse() @ pose
    counts = np.array([len(mesh.faces) for mesh, *_ in layers])
    corners = to_camera.apply(np.concatenate([np.asarray(mesh.triangles) for mesh, *_ in layers]) / 1000)
    front_only = np.repeat([layer[4] for layer in layers], counts)
    triangles = project_triangles(corners, k)
    edges = triangles.edges.copy()
    edges[front_only & ~triangles.facing] = (0.0, 0.0, -1.0)
    # On the grid of points; coordinates there count in quarters of a pixel.
    edges[..., 2] *= _FINE
    planes = triangles.inverse_depth / (_FINE, _FINE, 1)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    offset = np.abs((normal * corners[:, 0]).sum(axis=1)) / np.maximum(np.linalg.norm(normal, axis=1), 1e-30)
    optics = np.array([layer[1:3] for layer in layers], np.float32)
    if around is not None:
        optics[:, 1] = hidden_share(optics[:, 1], optics[:, 0])
    areas = np.zeros(CHUNKS)
    _lay(
        edges,
        triangles.rows * _FINE,
        planes,
        offset,
        np.concatenate([[0], np.cumsum(counts)]),
        optics,
        np.array([layer[3] for layer in layers]),
        geometry.depth_m,
        geometry.surface,
        bare,
        np.zeros_like(bare) if around is None else around,
        around is not None,
        k.fx * k.fy,
        radiance,
        share,
        areas,
    )
    return Seen(share, float(areas.sum()) * 1e6)


def hidden_share(opacity: NDArray[np.float32], reflectance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of what is behind it that a skin on a clear part hides: what changes much of an opaque one is much."""
    return np.asarray(np.minimum(1.0, opacity * np.abs(1 - reflectance)), np.float32)


@kernel
def _hidden_behind(depth: NDArray[np.float32], x: int, y: int) -> float:
    """Return the depth behind which nothing is seen in a pixel: the surface's, and what that falls by in the pixel."""
    height, width = depth.shape
    z = depth[y, x]
    slope = np.float32(0)
    for dx, dy in ((1, 0), (0, 1)):
        one, other = np.float32(1e9), np.float32(1e9)
        if x + dx < width and y + dy < height:
            one = abs(depth[y + dy, x + dx] - z)
        if x >= dx and y >= dy:
            other = abs(depth[y - dy, x - dx] - z)
        slope += min(one, other)
    return float(z) + _PROUD_M + min(float(slope), _SLOPE_LIMIT_M)


@parallel_kernel
def _lay(
    edges: NDArray[np.float64],
    rows: NDArray[np.float64],
    planes: NDArray[np.float64],
    offset: NDArray[np.float64],
    first: NDArray[np.int64],
    optics: NDArray[np.float32],
    truth: NDArray[np.bool_],
    depth: NDArray[np.float32],
    surface: NDArray[np.uint8],
    bare: NDArray[np.float32],
    around: NDArray[np.float32],
    clear: bool,
    focal2: float,
    radiance: NDArray[np.float32],
    share: NDArray[np.float32],
    areas: NDArray[np.float64],
) -> None:
    """Draw layer by layer within bands of rows: later ones lie over earlier ones, whatever the number of threads."""
    height, width = depth.shape
    for chunk in prange(CHUNKS):
        top, bottom = chunk * height // CHUNKS, (chunk + 1) * height // CHUNKS
        points = np.zeros((bottom - top, width), np.uint16)
        area = 0.0
        for layer in range(len(truth)):
            left, right, upper, lower = width, -1, bottom, -1
            facing, depths, n_points = 0.0, 0.0, 0
            for t in range(first[layer], first[layer + 1]):
                from_row = max(top * _FINE, int(np.ceil(rows[t, 0] - 0.5)))
                to_row = min(bottom * _FINE, int(np.floor(rows[t, 1] + 0.5)))
                for row in range(from_row, to_row):
                    low, high = span(edges[t], row + 0.5)
                    line = planes[t, 1] * (row + 0.5) + planes[t, 2]
                    y, hidden_x, behind = row // _FINE, -1, 0.0
                    from_column = max(0, int(np.ceil(low - 0.5)))
                    for column in range(from_column, min(width * _FINE, int(np.floor(high - 0.5)) + 1)):
                        x = column // _FINE
                        if x != hidden_x:
                            hidden_x, behind = x, _hidden_behind(depth, x, y)
                        z = 1 / (planes[t, 0] * (column + 0.5) + line)
                        bit = np.uint16(1 << (row % _FINE * _FINE + column % _FINE))
                        if z > behind or points[y - top, x] & bit:
                            continue
                        points[y - top, x] |= bit
                        left, right, upper, lower = min(left, x), max(right, x), min(upper, y), max(lower, y)
                        # A pixel's share of the surface: depth³ / (fx fy) over the plane's distance from the lens.
                        piece = z * z * z / (focal2 * max(offset[t], 1e-6)) / _POINTS
                        if truth[layer]:
                            area += piece
                        facing += offset[t] / z
                        depths += z
                        n_points += 1
            for y in range(upper, lower + 1):
                for x in range(left, right + 1):
                    bits = points[y - top, x]
                    if bits == 0:
                        continue
                    points[y - top, x] = 0
                    covered = 0
                    while bits:
                        bits &= bits - np.uint16(1)
                        covered += 1
                    part_of = np.float32(covered) / np.float32(_POINTS)
                    if truth[layer]:
                        share[y, x] = max(share[y, x], part_of)
                    replaced, change = part_of * optics[layer, 1], optics[layer, 0]
                    if surface[y, x] == PART and not clear:
                        for c in range(len(bare)):
                            radiance[c, y, x] *= 1 - replaced * (1 - change)
                    else:
                        mean = depths / n_points
                        own = np.float32(facing / n_points / (mean * mean))
                        for c in range(len(bare)):
                            scattered = change * (own * bare[c] + around[c])
                            radiance[c, y, x] += replaced * (scattered - radiance[c, y, x])
        areas[chunk] = area
