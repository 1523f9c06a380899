"""Defects of a part's shape where material is missing or too much. Lengths are millimetres."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from twin.parts.made import MadeDefect
from twin.parts.shape import Shape
from twin.parts.surface import edges_of

_ON_SURFACE_MM = 1e-3
# Where a part names no small structures, what lies so near an edge's end stands for one.
_CORNER_MM = 2.0
FLASH_LENGTH_MM = 8.0
# Melt creeps into gaps of the mould of 0.02 to 0.1 mm.
_FLASH_MM = 0.06
_CUT_WIDER_MM = 0.0005
_FLASH_ROOT_MM = 0.3
_FLASH_STEP_MM = 0.5
_FLASH_TURN_COSINE = 0.8


def missing(shape: Shape, size: float, rng: np.random.Generator) -> MadeDefect | None:
    """Take a round bite out of a small structure; None where it meets little material or parts the solid."""
    structure = _structure(shape, size, rng)
    centre = structure.triangles_center[rng.choice(len(structure.faces), p=structure.area_faces / structure.area)]
    bite = _ball(centre, size / 2)
    removed = trimesh.boolean.intersection([structure, bite], engine="manifold")
    if removed.is_empty or removed.volume < 0.1 * bite.volume:
        return None
    return _without("missing", size, shape, removed)


def missing_structure(shape: Shape, sizes: tuple[float, float], rng: np.random.Generator) -> MadeDefect | None:
    """Leave out a whole structure whose diameter, the largest distance between two of its points, is within `sizes`.

    Raises
    ------
    ValueError
        The part has none of that size.
    """
    diameters = np.array([pdist(structure.vertices).max() for structure in shape.structures])
    fitting = [i for i, diameter in enumerate(diameters) if sizes[0] <= diameter <= sizes[1]]
    if not fitting:
        known = ", ".join(f"{diameter:.1f}" for diameter in sorted(set(diameters.round(1)))) or "none"
        raise ValueError(f"no structure is {sizes[0]} to {sizes[1]} mm across; the part's are: {known}")
    chosen = fitting[int(rng.integers(len(fitting)))]
    return _without("missing_structure", float(diameters[chosen]), shape, shape.structures[chosen])


def short_shot(shape: Shape, size: float, rng: np.random.Generator) -> MadeDefect | None:
    """Leave the last `size` of a structure's way from its root unfilled, with the round front of the melt.

    It happens at the end of the flow: to one of the half of the structures that lies farther from the gate.
    """
    if shape.structures and shape.gate_mm is not None:
        away = [np.linalg.norm(structure.centroid - shape.gate_mm) for structure in shape.structures]
        late = np.argsort(away, kind="stable")[len(away) // 2 :]
        structure = shape.structures[int(rng.choice(late))]
    else:
        structure = _structure(shape, size, rng)
    root = _root(structure, shape.mesh)
    filled = np.linalg.norm(structure.vertices - root, axis=1).max() - size
    removed = structure
    if filled > 0:
        removed = trimesh.boolean.difference([structure, _ball(root, filled)], engine="manifold")
    if removed.is_empty:
        return None
    return _without("short_shot", size, shape, removed)


def flash(shape: Shape, size: float, length: float | None, rng: np.random.Generator) -> MadeDefect | None:
    """Let a thin fin grow from an outer edge, up to `size` high; None where the edge is too short or bends."""
    mesh = shape.mesh
    chain = _chain(mesh, length or FLASH_LENGTH_MM, rng)
    if chain is None:
        return None
    points, out, up = chain
    share = np.sin(np.linspace(0, np.pi, len(points))) ** 0.5 * rng.uniform(0.6, 1.0, len(points))
    reach = size * share / share.max()
    sunk = points - 0.01 * up
    corners = [
        sunk - _FLASH_ROOT_MM * out,
        sunk + reach[:, np.newaxis] * out,
        sunk + reach[:, np.newaxis] * out - _FLASH_MM * up,
        sunk - _FLASH_ROOT_MM * out - _FLASH_MM * up,
    ]
    fin = _bar(corners)
    added = trimesh.boolean.difference([fin, mesh], engine="manifold")
    whole = trimesh.boolean.union([mesh, fin], engine="manifold")
    if (
        added.is_empty
        or not whole.is_watertight
        or whole.body_count > 1
        or added.volume < 0.3 * fin.volume * size / (size + _FLASH_ROOT_MM)
    ):
        return None
    fresh = mesh.nearest.on_surface(added.triangles_center)[1] > _ON_SURFACE_MM
    altered = trimesh.Trimesh(added.vertices, added.faces[fresh], process=False)
    altered.remove_unreferenced_vertices()
    return MadeDefect("flash", size, None, whole, altered.vertices, altered=altered)


def _structure(shape: Shape, size: float, rng: np.random.Generator) -> trimesh.Trimesh:
    if shape.structures:
        return shape.structures[int(rng.integers(len(shape.structures)))]
    edges = edges_of(shape.mesh)
    at = edges.vertices[edges.convex].ravel() if edges.convex.any() else np.arange(len(shape.mesh.vertices))
    ball = _ball(shape.mesh.vertices[int(rng.choice(at))], max(_CORNER_MM, 2 * size))
    return trimesh.boolean.intersection([shape.mesh, ball], engine="manifold")


def _root(structure: trimesh.Trimesh, mesh: trimesh.Trimesh) -> NDArray[np.float64]:
    """Where a structure hangs on the part: the middle of its faces that are not on the part's surface."""
    inside = mesh.nearest.on_surface(structure.triangles_center)[1] > _ON_SURFACE_MM
    if not inside.any():
        return np.asarray(structure.centroid)
    return np.asarray(np.average(structure.triangles_center[inside], axis=0, weights=structure.area_faces[inside]))


def _without(kind: str, size: float, shape: Shape, removed: trimesh.Trimesh) -> MadeDefect | None:
    """Cut a piece off; None where that parts the solid or leaves nothing to be seen from outside."""
    # Where faces of both coincide, rounding leaves skins without thickness: what cuts is wider by a little.
    cutter = removed.copy()
    cutter.vertices = cutter.vertices + _CUT_WIDER_MM * cutter.vertex_normals
    left = trimesh.boolean.difference([shape.mesh, cutter], engine="manifold")
    if left.is_empty or not left.is_watertight or left.body_count > 1:
        return None
    on_surface = removed.vertices[shape.mesh.nearest.on_surface(removed.vertices)[1] < _ON_SURFACE_MM]
    if len(on_surface) == 0:
        return None
    return MadeDefect(kind, size, None, left, on_surface, removed=removed)


def _ball(centre: NDArray[np.float64], radius: float) -> trimesh.Trimesh:
    ball = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    ball.apply_translation(centre)
    return ball


def _chain(
    mesh: trimesh.Trimesh, length: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Follow an outer edge: points (N, 3) along it, the way out and the normal of the face that the fin continues."""
    edges = edges_of(mesh)
    outer = np.flatnonzero(edges.convex)
    if len(outer) == 0:
        return None
    first = int(rng.choice(outer, p=edges.lengths[outer] / edges.lengths[outer].sum()))
    which = int(rng.integers(2))
    a, b = mesh.vertices[edges.vertices[first]]
    along, up = (b - a) / np.linalg.norm(b - a), mesh.face_normals[edges.faces[first, which]]
    points, outs, ups = [], [], []
    start = a + rng.random() * (b - a)
    for step in np.arange(-length / 2, length / 2 + 1e-9, _FLASH_STEP_MM):
        # The edge's course near the start is followed by the nearest point of any outer edge that runs on likewise.
        on, edge = _nearest_on(mesh, edges.vertices[outer], start + step * along)
        n = mesh.face_normals[edges.faces[outer[edge]]]
        face = int(np.argmax(n @ up))
        if n[face] @ up < _FLASH_TURN_COSINE:
            return None
        ends = mesh.vertices[edges.vertices[outer[edge]]]
        run = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
        out = np.cross(run, n[face])
        out *= np.sign(out @ n[1 - face])
        points.append(on)
        outs.append(out)
        ups.append(n[face])
    spacing = np.linalg.norm(np.diff(points, axis=0), axis=1)
    if spacing.min() < _FLASH_STEP_MM / 2 or spacing.max() > 2 * _FLASH_STEP_MM:
        return None
    return np.array(points), np.array(outs), np.array(ups)


def _nearest_on(
    mesh: trimesh.Trimesh, segments: NDArray[np.int64], point: NDArray[np.float64]
) -> tuple[NDArray[np.float64], int]:
    a, b = mesh.vertices[segments].transpose(1, 0, 2)
    along = b - a
    share = np.clip(np.einsum("ij,ij->i", point - a, along) / np.einsum("ij,ij->i", along, along), 0, 1)
    on = a + share[:, np.newaxis] * along
    nearest = int(np.argmin(np.linalg.norm(on - point, axis=1)))
    return on[nearest], nearest


def _bar(corners: list[NDArray[np.float64]]) -> trimesh.Trimesh:
    """Close a bar whose cross-section's corners follow one line each, (N, 3)."""
    n, sides = len(corners[0]), len(corners)
    ring = np.arange(sides)
    faces = [np.array([[0, i, i + 1], [(n - 1) * sides, (n - 1) * sides + i + 1, (n - 1) * sides + i]]) for i in (1, 2)]
    for k in range(n - 1):
        here, there = k * sides + ring, (k + 1) * sides + ring
        faces.append(np.stack([here, there, np.roll(there, -1)], 1))
        faces.append(np.stack([here, np.roll(there, -1), np.roll(here, -1)], 1))
    bar = trimesh.Trimesh(np.stack(corners, axis=1).reshape(-1, 3), np.concatenate(faces), process=False)
    if bar.volume < 0:
        bar.invert()
    return bar
