"""Defects of a moulded part, made in its geometry or laid on its surface. Lengths are millimetres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import trimesh
from numpy.typing import NDArray

from cell.schema import Defect
from twin.parts.shape import Shape
from twin.parts.skin import Skin

# Patches stand proud of the surface by so much that a depth buffer draws them and no view shows a step.
_PROUD_MM = 0.03
_SCRATCH_STEP_MM = 0.5
_TRIES = 200


@dataclass(frozen=True)
class MadeDefect:
    """A defect in place.

    Attributes
    ----------
    kind : str
    size_mm, contrast : float
        As drawn.
    mesh : trimesh.Trimesh
        The part with the defect in its geometry.
    skin : Skin or None
        What lies on its surface.
    removed : trimesh.Trimesh or None
        What is missing, in the part's frame: the defect is seen where it would be seen if it were there.
    altered : trimesh.Trimesh or None
        The faces of `mesh` that a good part has not, such as a fin's or a dent's: the defect is seen where they are.
    points : (N, 3) float64
        Points on the defect's surface, to ask from where it can be seen.
    """

    kind: str
    size_mm: float
    contrast: float
    mesh: trimesh.Trimesh
    skin: Skin | None
    removed: trimesh.Trimesh | None
    altered: trimesh.Trimesh | None
    points: NDArray[np.float64]


def make_defect(
    defect: Defect,
    shape: Shape,
    rng: np.random.Generator,
    *,
    seen_by: Callable[[NDArray[np.float64]], int],
) -> MadeDefect:
    """Make a defect at a random place that enough views see.

    Parameters
    ----------
    defect : Defect
        Kind, ranges of size and contrast, and how many views must see it.
    shape : Shape
        The good part.
    rng : numpy.random.Generator
        Source of size, contrast and place.
    seen_by : callable
        From points (N, 3) in mm in the part's frame to the number of views that see them.

    Raises
    ------
    ValueError
        No place was found that as many views see.
    """
    size = float(rng.uniform(*defect.size_mm))
    contrast = float(rng.uniform(*defect.contrast))
    made: MadeDefect | None
    for _ in range(_TRIES):
        if defect.kind == "dot":
            made = _dot(shape, size, contrast, rng)
        elif defect.kind == "scratch":
            made = _scratch(shape, size, defect.width_mm, contrast, rng)
        else:
            made = _missing(shape, size, rng)
        if made is not None and seen_by(made.points) >= defect.seen_by:
            return made
    raise ValueError(
        f"no place for a {defect.kind} of {size:.2f} mm that {defect.seen_by} views see was found in {_TRIES} tries"
    )


def _place(mesh: trimesh.Trimesh, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw a point on the surface, even by area, and its outward normal."""
    face = int(rng.choice(len(mesh.faces), p=mesh.area_faces / mesh.area))
    u, v = rng.random(2)
    if u + v > 1:
        u, v = 1 - u, 1 - v
    a, b, c = mesh.triangles[face]
    return a + u * (b - a) + v * (c - a), np.asarray(mesh.face_normals[face])


def _tangent(normal: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    direction = np.cross(normal, rng.normal(size=3))
    return direction / np.linalg.norm(direction)


def _dot(shape: Shape, size: float, contrast: float, rng: np.random.Generator) -> MadeDefect:
    centre, normal = _place(shape.mesh, rng)
    # A flat lens that reaches through the surface shows exactly its cross-section, on curved walls too.
    lens = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
    lens.apply_scale((size / 2, size / 2, _PROUD_MM + size**2 / (4 * np.ptp(shape.mesh.bounds[:, :2]))))
    lens.apply_transform(trimesh.geometry.align_vectors((0, 0, 1), normal))
    lens.apply_translation(centre)
    outside = lens.vertices[(lens.vertices - centre) @ normal > 0]
    return MadeDefect("dot", size, contrast, shape.mesh, Skin(lens, 1 - contrast), None, None, outside)


def _scratch(shape: Shape, length: float, width: float, contrast: float, rng: np.random.Generator) -> MadeDefect | None:
    """Lay a ribbon that wanders over the surface; None where it would run over an edge."""
    point, normal = _place(shape.mesh, rng)
    direction = _tangent(normal, rng)
    lines, normals = [point], [normal]
    n_steps = max(2, int(np.ceil(length / _SCRATCH_STEP_MM)))
    for _ in range(n_steps):
        direction = direction + 0.15 * rng.normal() * np.cross(normal, direction)
        direction -= normal * (direction @ normal)
        direction /= np.linalg.norm(direction)
        ahead = point + direction * length / n_steps
        (point,), (away,), (face,) = shape.mesh.nearest.on_surface([ahead])
        if away > 0.2 * length / n_steps:
            return None
        if normal @ shape.mesh.face_normals[face] < 0.9:
            return None
        normal = np.asarray(shape.mesh.face_normals[face])
        lines.append(point)
        normals.append(normal)
    spine, up = np.array(lines), np.array(normals)
    along = np.gradient(spine, axis=0)
    side = np.cross(up, along)
    side *= width / 2 / np.linalg.norm(side, axis=1, keepdims=True)
    lifted = spine + _PROUD_MM * up
    vertices = np.concatenate([lifted - side, lifted + side])
    n = len(spine)
    k = np.arange(n - 1)
    faces = np.concatenate([np.stack([k, k + 1, k + n], 1), np.stack([k + 1, k + n + 1, k + n], 1)])
    # Both sides of each triangle: a ribbon has no thickness to be seen from.
    ribbon = trimesh.Trimesh(vertices, np.concatenate([faces, faces[:, ::-1]]), process=False)
    return MadeDefect("scratch", length, contrast, shape.mesh, Skin(ribbon, 1 - contrast), None, None, lifted)


def _missing(shape: Shape, size: float, rng: np.random.Generator) -> MadeDefect | None:
    """Take a round bite out of a small structure; None where it meets no material or parts the solid."""
    structure = shape.structures[int(rng.integers(len(shape.structures)))]
    centre, _ = _place(structure, rng)
    bite = trimesh.creation.icosphere(subdivisions=3, radius=size / 2)
    bite.apply_translation(centre)
    removed = trimesh.boolean.intersection([structure, bite], engine="manifold")
    if removed.is_empty or removed.volume < 0.1 * bite.volume:
        return None
    left = trimesh.boolean.difference([shape.mesh, removed], engine="manifold")
    if not left.is_watertight or left.body_count > 1:
        return None
    (_, away, _) = shape.mesh.nearest.on_surface(removed.vertices)
    on_surface = removed.vertices[away < 1e-3]
    if len(on_surface) == 0:
        return None
    return MadeDefect("missing", size, 1.0, left, None, removed, None, on_surface)
