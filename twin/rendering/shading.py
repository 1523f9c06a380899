"""The light of a ring around the lens, on what a renderer says is there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import trimesh
from numba import prange
from numpy.typing import NDArray

from cell.interfaces import Intrinsics, Pose
from detection.kernels import kernel, parallel_kernel
from twin.rendering.geometry import FINGER, NOTHING, PART, Geometry

# Faces that meet at less are shaded as one smooth surface: a mould's curves are not made of facets.
_CREASE_DEG = 30.0
# Cuts leave slivers; bent with a wall, three corners nearly in a row say nothing about how it lies across them.
_SLIVER = 0.05
_SLIVERS_ABREAST = 3


@dataclass(frozen=True)
class Lamp:
    """A ring of small lamps in the plane of the lens, each shining ahead with the cosine of the angle (Lambert).

    Attributes
    ----------
    positions_m : (N, 2) float32
        Across the optical axis, x to the right and y down in the picture.
    white : float
        Radiance of a matt white surface that faces the camera at `distance_m`.
    distance_m : float
    ambient : float
        Light from all around, a share of `white`.
    """

    positions_m: NDArray[np.float32]
    white: float
    distance_m: float
    ambient: float

    @classmethod
    def ring(cls, diameter_m: float, *, lamps: int, white: float, distance_m: float, ambient: float) -> Lamp:
        """Spread lamps evenly over a circle around the lens."""
        angle = 2 * np.pi * np.arange(lamps) / lamps
        positions = diameter_m / 2 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        return cls(positions.astype(np.float32), white, distance_m, ambient)


@dataclass(frozen=True)
class Materials:
    """What surfaces do with light, by the numbers in `Geometry.surface`.

    Attributes
    ----------
    albedo : (M, C) float32
        Share of light that comes back diffusely, for each of the picture's channels.
    reflectance : (M,) float32
        Share that is mirrored at normal incidence; 0: no highlights.
    roughness : (M,) float32
        Width α of the highlights (GGX).
    brightness : (M,) float32
        Relative strength of the light there.
    """

    albedo: NDArray[np.float32]
    reflectance: NDArray[np.float32]
    roughness: NDArray[np.float32]
    brightness: NDArray[np.float32]


@dataclass(frozen=True)
class Mirrored:
    """What the part's surface mirrors: boxes (B, 2, 3), low and high corners in metres, in the frame of `pose`.

    `pose` is in the camera's frame; `share` of their light comes back.
    """

    boxes_m: NDArray[np.float32]
    pose: Pose
    share: float


@lru_cache(maxsize=4)
def corner_normals(mesh: trimesh.Trimesh) -> NDArray[np.float32]:
    """Return a unit normal (F, 3, 3) at each corner of each face: the mean over faces that meet without a crease.

    Weights are exact where all corners lie on a ball (Max, *Weights for computing vertex normals from facet normals*,
    Journal of Graphics Tools 1999). A sliver takes part with the normal of the face along its longest side.
    """
    sides = np.asarray(mesh.edges_unique_length)[mesh.faces_unique_edges]
    normals = np.asarray(mesh.face_normals, dtype=np.float64)[_beside_slivers(mesh, sides)]
    area = np.asarray(mesh.area_faces, dtype=np.float64)[:, np.newaxis]
    # Sides 01, 12 and 20: at corner 0 meet the first and the last.
    weights = area / np.maximum((sides * np.roll(sides, 1, axis=1)) ** 2, np.finfo(np.float64).tiny)
    faces = np.asarray(mesh.faces, dtype=np.int64)
    order = np.argsort(faces.ravel(), kind="stable")
    first = np.searchsorted(faces.ravel()[order], np.arange(len(mesh.vertices) + 1))
    smooth = np.empty((len(faces), 3, 3), np.float32)
    _smooth(normals, weights, faces, order, first, np.cos(np.radians(_CREASE_DEG)), smooth)
    return smooth


def _beside_slivers(mesh: trimesh.Trimesh, sides: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the face (F,) whose normal each face has: its own, or where it is a sliver that of the one along it."""
    edges = np.asarray(mesh.faces_unique_edges)
    own, longest = np.arange(len(edges)), sides.argmax(axis=1)
    sliver = 2 * np.asarray(mesh.area_faces) < _SLIVER * sides[own, longest] ** 2
    order = np.argsort(edges, axis=None, kind="stable")
    count = np.bincount(edges.ravel())
    first = np.cumsum(count) - count
    edge = edges[own, longest]
    closed = sliver & (count[edge] == 2)
    beside = own.copy()
    beside[closed] = order[first[edge[closed]]] // 3 + order[first[edge[closed]] + 1] // 3 - own[closed]
    for _ in range(_SLIVERS_ABREAST):
        beside = np.where(sliver[beside], beside[beside], beside)
    return beside


@parallel_kernel
def _smooth(
    normals: NDArray[np.float64],
    weights: NDArray[np.float64],
    faces: NDArray[np.int64],
    order: NDArray[np.int64],
    first: NDArray[np.int64],
    crease: float,
    smooth: NDArray[np.float32],
) -> None:
    for f in prange(len(faces)):
        for corner in range(3):
            x, y, z = 0.0, 0.0, 0.0
            for place in range(first[faces[f, corner]], first[faces[f, corner] + 1]):
                other, at = order[place] // 3, order[place] % 3
                n = normals[other]
                if n[0] * normals[f, 0] + n[1] * normals[f, 1] + n[2] * normals[f, 2] >= crease:
                    x += weights[other, at] * n[0]
                    y += weights[other, at] * n[1]
                    z += weights[other, at] * n[2]
            length = np.sqrt(x * x + y * y + z * z)
            if length < 1e-9:
                x, y, z, length = normals[f, 0], normals[f, 1], normals[f, 2], 1.0
            smooth[f, corner, 0] = x / length
            smooth[f, corner, 1] = y / length
            smooth[f, corner, 2] = z / length


def shade(
    geometry: Geometry,
    k: Intrinsics,
    lamp: Lamp,
    materials: Materials,
    *,
    part: tuple[trimesh.Trimesh, Pose] | None,
    mirrored: Mirrored | None,
) -> NDArray[np.float32]:
    """Light up a picture.

    Parameters
    ----------
    geometry : Geometry
        Depth and surface of every pixel.
    k : Intrinsics
        Without distortion.
    part : tuple or None
        The part's mesh, millimetres, and its pose in the camera's frame: where the geometry knows its faces, curved
        surfaces are shaded smoothly.
    mirrored : Mirrored or None
        What is reflected in the part.

    Returns
    -------
    (C, H, W) float32
        Radiance; 1 is the sensor's full well.

    Notes
    -----
    Diffuse light after Lambert, highlights after Walter et al., "Microfacet models for refraction through rough
    surfaces" (GGX), 2007, with Schlick's approximation of Smith's shadowing, summed over the lamps. No shadows: the
    lamps sit around the lens, which sees next to none of them.
    """
    height, width = geometry.depth_m.shape
    radiance = np.empty((materials.albedo.shape[1], height, width), np.float32)
    if part is None or geometry.faces is None:
        numbers, faces = np.full((height, width), -1, np.int32), np.zeros((1, 6, 3), np.float32)
    else:
        mesh, pose = part
        corners = pose.apply(np.asarray(mesh.triangles) / 1000)
        numbers = geometry.faces
        faces = _face_table(corners, corner_normals(mesh) @ pose.rotation.T.astype(np.float32))
    boxes, share = np.zeros((0, 2, 3), np.float32), 0.0
    to_boxes = Pose(np.eye(3), np.zeros(3))
    if mirrored is not None:
        boxes, to_boxes, share = mirrored.boxes_m, mirrored.pose.inverse(), mirrored.share
    _light(
        geometry.depth_m,
        geometry.surface,
        numbers,
        faces,
        np.array([k.fx, k.fy, k.cx, k.cy], np.float32),
        lamp.positions_m,
        np.array([lamp.white, lamp.distance_m, lamp.ambient], np.float32),
        materials.albedo,
        np.stack([materials.reflectance, materials.roughness, materials.brightness], axis=-1),
        boxes,
        to_boxes.rotation.astype(np.float32),
        to_boxes.position_m.astype(np.float32),
        np.float32(share),
        radiance,
    )
    return radiance


def _face_table(corners_m: NDArray[np.float64], normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return for each face (F, 6, 3): a corner, the gradients of the two other corners' shares, and three normals.

    The normals are that at the corner and its differences to those at the others.
    """
    start = corners_m[:, 0]
    u, v = corners_m[:, 1] - start, corners_m[:, 2] - start
    uu, uv, vv = (u * u).sum(1), (u * v).sum(1), (v * v).sum(1)
    area = np.maximum(uu * vv - uv * uv, 1e-30)[:, np.newaxis]
    gradient_u = (vv[:, np.newaxis] * u - uv[:, np.newaxis] * v) / area
    gradient_v = (uu[:, np.newaxis] * v - uv[:, np.newaxis] * u) / area
    n = normals.astype(np.float64)
    return np.stack([start, gradient_u, gradient_v, n[:, 0], n[:, 1] - n[:, 0], n[:, 2] - n[:, 0]], 1).astype(
        np.float32
    )


@kernel
def _depth_normal(
    depth: NDArray[np.float32], surface: NDArray[np.uint8], x: int, y: int, k: NDArray[np.float32]
) -> tuple[float, float, float]:
    """Return a normal, not of unit length, from depths beside a pixel: each way the side that differs less."""
    height, width = depth.shape
    z = depth[y, x]
    along = np.float32(1e9)
    down = np.float32(1e9)
    for step in (-1, 1):
        if 0 <= x + step < width and surface[y, x + step] == surface[y, x]:
            change = (depth[y, x + step] - z) * step
            if abs(change) < abs(along):
                along = change
        if 0 <= y + step < height and surface[y + step, x] == surface[y, x]:
            change = (depth[y + step, x] - z) * step
            if abs(change) < abs(down):
                down = change
    if along > 1e8:
        along = np.float32(0)
    if down > 1e8:
        down = np.float32(0)
    # With depth z(x, y) the surface's normal is along (z_x fx, z_y fy, -(z + z_x (x - cx) + z_y (y - cy))).
    px, py = x + np.float32(0.5) - k[2], y + np.float32(0.5) - k[3]
    return along * k[0], down * k[1], -(z + along * px + down * py)


@kernel
def _hits(boxes: NDArray[np.float32], ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> bool:
    """Whether a ray meets one of the boxes (slabs: Kay and Kajiya, 1986)."""
    for b in range(len(boxes)):
        near, far = 0.0, 1e9
        for axis in range(3):
            o = ox if axis == 0 else (oy if axis == 1 else oz)
            d = dx if axis == 0 else (dy if axis == 1 else dz)
            if abs(d) < 1e-9:
                d = 1e-9
            one, other = (boxes[b, 0, axis] - o) / d, (boxes[b, 1, axis] - o) / d
            near, far = max(near, min(one, other)), min(far, max(one, other))
        if near < far:
            return True
    return False


@parallel_kernel
def _light(
    depth: NDArray[np.float32],
    surface: NDArray[np.uint8],
    numbers: NDArray[np.int32],
    faces: NDArray[np.float32],
    k: NDArray[np.float32],
    lamps: NDArray[np.float32],
    lamp: NDArray[np.float32],
    albedo: NDArray[np.float32],
    materials: NDArray[np.float32],
    boxes: NDArray[np.float32],
    turn: NDArray[np.float32],
    shift: NDArray[np.float32],
    mirror: np.float32,
    radiance: NDArray[np.float32],
) -> None:
    n_channels, height, width = radiance.shape
    zero, one = np.float32(0), np.float32(1)
    white, distance, ambient = lamp[0], lamp[1], lamp[2]
    strength = white * distance * distance / np.float32(len(lamps))
    for y in prange(height):
        for x in range(width):
            kind = surface[y, x]
            if kind == NOTHING:
                for c in range(n_channels):
                    radiance[c, y, x] = albedo[kind, c] * white * materials[kind, 2]
                continue
            z = depth[y, x]
            px, py, pz = (x + np.float32(0.5) - k[2]) / k[0] * z, (y + np.float32(0.5) - k[3]) / k[1] * z, z
            f = numbers[y, x] if kind == PART else -1
            if f >= 0:
                ax, ay, az = px - faces[f, 0, 0], py - faces[f, 0, 1], pz - faces[f, 0, 2]
                u = ax * faces[f, 1, 0] + ay * faces[f, 1, 1] + az * faces[f, 1, 2]
                v = ax * faces[f, 2, 0] + ay * faces[f, 2, 1] + az * faces[f, 2, 2]
                u, v = min(max(u, zero), one), min(max(v, zero), one)
                nx = faces[f, 3, 0] + u * faces[f, 4, 0] + v * faces[f, 5, 0]
                ny = faces[f, 3, 1] + u * faces[f, 4, 1] + v * faces[f, 5, 1]
                nz = faces[f, 3, 2] + u * faces[f, 4, 2] + v * faces[f, 5, 2]
            else:
                nx, ny, nz = _depth_normal(depth, surface, x, y, k)
            length = one / np.sqrt(nx * nx + ny * ny + nz * nz)
            nx, ny, nz = nx * length, ny * length, nz * length
            away = one / np.sqrt(px * px + py * py + pz * pz)
            vx, vy, vz = -px * away, -py * away, -pz * away
            # A smoothed normal may turn away a little where the face is seen edge-on.
            nv = max(nx * vx + ny * vy + nz * vz, np.float32(0.02))
            diffuse, mirrored = zero, zero
            f0, alpha = materials[kind, 0], materials[kind, 1]
            if f0 == zero:
                # Matt: the whole ring at once, as from its middle.
                diffuse = strength * np.float32(len(lamps)) * nv * pz * away * away * away
            else:
                a2, half = alpha * alpha, alpha * np.float32(0.5)
                for i in range(len(lamps)):
                    lx, ly, lz = lamps[i, 0] - px, lamps[i, 1] - py, -pz
                    inverse = one / np.sqrt(lx * lx + ly * ly + lz * lz)
                    lx, ly, lz = lx * inverse, ly * inverse, lz * inverse
                    nl = max(nx * lx + ny * ly + nz * lz, zero)
                    light = strength * nl * -lz * inverse * inverse
                    diffuse += light
                    hx, hy, hz = lx + vx, ly + vy, lz + vz
                    nh = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)
                    lobe = nh * nh * (a2 - one) + one
                    masked = (nl * (one - half) + half) * (nv * (one - half) + half)
                    mirrored += light * f0 * a2 / (np.float32(4) * lobe * lobe * masked)
            if mirror > zero and kind == PART:
                rx, ry, rz = 2 * nv * nx - vx, 2 * nv * ny - vy, 2 * nv * nz - vz
                ox = turn[0, 0] * px + turn[0, 1] * py + turn[0, 2] * pz + shift[0]
                oy = turn[1, 0] * px + turn[1, 1] * py + turn[1, 2] * pz + shift[1]
                oz = turn[2, 0] * px + turn[2, 1] * py + turn[2, 2] * pz + shift[2]
                dx = turn[0, 0] * rx + turn[0, 1] * ry + turn[0, 2] * rz
                dy = turn[1, 0] * rx + turn[1, 1] * ry + turn[1, 2] * rz
                dz = turn[2, 0] * rx + turn[2, 1] * ry + turn[2, 2] * rz
                if _hits(boxes, ox, oy, oz, dx, dy, dz):
                    mirrored += mirror * white * albedo[FINGER, 0]
            for c in range(n_channels):
                value = albedo[kind, c] * (diffuse + ambient * white) + mirrored
                radiance[c, y, x] = value * materials[kind, 2]
