"""Defects that lie on a part's surface: inclusions, scratches and cracks. Lengths are millimetres."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.typing import NDArray

from twin.parts.made import MadeDefect
from twin.parts.shape import Shape
from twin.parts.skin import Skin
from twin.parts.surface import edges_of, places_on, ribbon, tangents, walk, within

SCRATCH_WIDTH_MM = 0.25
CRACK_WIDTH_MM = 0.08
_SCRATCH_STEP_MM = 0.5
_CRACK_STEP_MM = 0.2
# Tensile cracks run jaggedly, about a fork every 3 mm, and thin out towards their tips.
_CRACK_WANDER_RAD = 0.35
_FORK_EVERY_MM = 3.0
_TIP_SHARE = 0.3
# Notches and inner corners concentrate the stress; outer edges take the knocks.
_GROOVE_WEIGHT = 3.0


def dot(shape: Shape, size: float, contrast: float, rng: np.random.Generator) -> MadeDefect | None:
    """Let a round inclusion show through the surface; None where too little surface is there for it."""
    (centre,), (normal,) = places_on(shape.mesh, 1, rng)
    mesh = within(shape.mesh, centre, size / 2, normal)
    if mesh.area < 0.6 * np.pi * size**2 / 4:
        return None
    return MadeDefect("dot", size, contrast, shape.mesh, mesh.vertices, Skin(mesh, 1 - contrast))


def scratch(
    shape: Shape, length: float, width: float | None, contrast: float, rng: np.random.Generator
) -> MadeDefect | None:
    """Draw a line that wanders over the surface; None where it would run over an edge."""
    (start,), normals = places_on(shape.mesh, 1, rng)
    way = walk(
        shape.mesh, start, normals[0], tangents(normals, rng)[0], length, rng, wander=0.15, step=_SCRATCH_STEP_MM
    )
    if way is None:
        return None
    mesh = ribbon(*way, width or SCRATCH_WIDTH_MM)
    return MadeDefect("scratch", length, contrast, shape.mesh, way[0], Skin(mesh, 1 - contrast))


def crack(
    shape: Shape, length: float, width: float | None, contrast: float, rng: np.random.Generator
) -> MadeDefect | None:
    """Let a jagged line start at an edge, more often in a groove, and fork; None where it would cross another edge."""
    mesh, full = shape.mesh, width or CRACK_WIDTH_MM
    start, normal, inward, along = _beside_an_edge(mesh, rng)
    angle = rng.uniform(np.radians(20), np.radians(90))
    direction = np.sin(angle) * inward + np.cos(angle) * rng.choice((-1, 1)) * along
    way = walk(mesh, start, normal, direction, length, rng, wander=_CRACK_WANDER_RAD, step=_CRACK_STEP_MM)
    if way is None:
        return None
    points, normals = way
    widths = full * np.linspace(1, _TIP_SHARE, len(points))
    pieces, ends = [ribbon(points, normals, widths)], [points]
    for _ in range(rng.poisson(length / _FORK_EVERY_MM)):
        at = int(rng.integers(1, len(points) - 1))
        ahead = points[at + 1] - points[at]
        turn = rng.choice((-1, 1)) * rng.uniform(np.radians(30), np.radians(60))
        side = np.cross(normals[at], ahead)
        share = rng.uniform(0.2, 0.5) * (1 - at / len(points))
        fork = walk(
            mesh,
            points[at],
            normals[at],
            np.cos(turn) * ahead + np.sin(turn) * side,
            share * length,
            rng,
            wander=_CRACK_WANDER_RAD,
            step=_CRACK_STEP_MM,
        )
        if fork is not None:
            pieces.append(ribbon(*fork, widths[at] * np.linspace(1, _TIP_SHARE, len(fork[0]))))
            ends.append(fork[0])
    skin = Skin(trimesh.util.concatenate(pieces), 1 - contrast)
    return MadeDefect("crack", length, contrast, mesh, np.concatenate(ends), skin)


def _beside_an_edge(
    mesh: trimesh.Trimesh, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Draw a point beside a sharp edge: the point, its normal, the way into its face, and along the edge."""
    edges = edges_of(mesh)
    if len(edges.lengths) == 0:
        (point,), normals = places_on(mesh, 1, rng)
        inward = tangents(normals, rng)[0]
        return point, normals[0], inward, np.cross(normals[0], inward)
    weights = edges.lengths * np.where(edges.convex, 1.0, _GROOVE_WEIGHT)
    edge = int(rng.choice(len(weights), p=weights / weights.sum()))
    face = int(edges.faces[edge, rng.integers(2)])
    a, b = mesh.vertices[edges.vertices[edge]]
    along = (b - a) / np.linalg.norm(b - a)
    normal = mesh.face_normals[face]
    inward = np.cross(normal, along)
    inward *= np.sign(inward @ (mesh.triangles_center[face] - a))
    return a + rng.random() * (b - a) + 0.01 * inward, normal, inward, along
