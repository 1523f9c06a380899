"""Places, pieces and paths on a part's surface. Lengths are millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh
from numpy.typing import NDArray

# Skins lie so high above the surface that a depth buffer draws them and no view shows a step.
PROUD_MM = 0.03
# Neighbouring faces that meet at more than this make an edge.
_SHARP_RAD = 0.5
# A path ends where the surface bends or falls away by more than this from one step to the next.
_BEND_COSINE = 0.9
_LEAVE_SHARE = 0.2


def places_on(
    mesh: trimesh.Trimesh, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw points (N, 3) on the surface, even by area, and their outward normals (N, 3)."""
    faces = rng.choice(len(mesh.faces), size=count, p=mesh.area_faces / mesh.area_faces.sum())
    u, v = rng.random((2, count, 1))
    beyond = u + v > 1
    u, v = np.where(beyond, 1 - u, u), np.where(beyond, 1 - v, v)
    a, b, c = mesh.triangles[faces].transpose(1, 0, 2)
    return a + u * (b - a) + v * (c - a), mesh.face_normals[faces]


def tangents(normals: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a unit vector at right angles to each normal (N, 3)."""
    directions = np.cross(normals, rng.normal(size=normals.shape))
    return np.asarray(directions / np.linalg.norm(directions, axis=-1, keepdims=True))


def within(
    mesh: trimesh.Trimesh, centre: NDArray[np.float64], radius: float, normal: NDArray[np.float64]
) -> trimesh.Trimesh:
    """Return the surface inside a ball, lifted to be seen, as far as it does not face away from `normal`."""
    ball = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    ball.apply_translation(centre)
    piece = trimesh.boolean.intersection([mesh, ball], engine="manifold")
    outward = piece.triangles_center - centre
    away = np.linalg.norm(outward, axis=1)
    cosine = np.einsum("ij,ij->i", piece.face_normals, outward) / np.maximum(away, 1e-12)
    of_ball = (away > 0.97 * radius) & (cosine > 0.7)
    return lifted(piece, ~of_ball & (piece.face_normals @ normal > 0))


def lifted(mesh: trimesh.Trimesh, faces: NDArray[np.bool_]) -> trimesh.Trimesh:
    """Return some of a mesh's faces, each vertex lifted along the mean normal of those that meet in it."""
    skin = trimesh.Trimesh(mesh.vertices, mesh.faces[faces], process=False)
    skin.remove_unreferenced_vertices()
    if len(skin.faces):
        skin.vertices = skin.vertices + PROUD_MM * skin.vertex_normals
    return skin


def walk(
    mesh: trimesh.Trimesh,
    start: NDArray[np.float64],
    normal: NDArray[np.float64],
    direction: NDArray[np.float64],
    length: float,
    rng: np.random.Generator,
    *,
    wander: float,
    step: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Wander over the surface.

    Parameters
    ----------
    start, normal, direction : (3,) float64
        A point on the surface, its normal, and a tangent to set out along.
    length, step : float
        Of the whole path, and at most of each of its steps.
    wander : float
        Standard deviation of the turn at each step, radians.

    Returns
    -------
    points, normals : (N, 3) float64, or None
        None where the path would run over an edge.
    """
    n_steps = max(2, int(np.ceil(length / step)))
    points, normals = [start], [normal]
    for _ in range(n_steps):
        direction = direction + wander * rng.normal() * np.cross(normal, direction)
        direction = direction - normal * (direction @ normal)
        direction = direction / np.linalg.norm(direction)
        (point,), (away,), (face,) = mesh.nearest.on_surface([points[-1] + direction * length / n_steps])
        turned = mesh.face_normals[face]
        if away > _LEAVE_SHARE * length / n_steps or normal @ turned < _BEND_COSINE:
            return None
        normal = np.asarray(turned)
        points.append(point)
        normals.append(normal)
    return np.array(points), np.array(normals)


def ribbon(
    points: NDArray[np.float64], normals: NDArray[np.float64], widths: float | NDArray[np.float64]
) -> trimesh.Trimesh:
    """Lay a ribbon along a path (N, 3) on the surface; its width may differ from point to point, (N,)."""
    along = np.gradient(points, axis=0)
    side = np.cross(normals, along)
    side *= np.reshape(widths, (-1, 1)) / 2 / np.linalg.norm(side, axis=1, keepdims=True)
    middle = points + PROUD_MM * normals
    n = len(points)
    k = np.arange(n - 1)
    faces = np.concatenate([np.stack([k, k + 1, k + n], 1), np.stack([k + 1, k + n + 1, k + n], 1)])
    return trimesh.Trimesh(np.concatenate([middle - side, middle + side]), faces, process=False)


@dataclass(frozen=True)
class Edges:
    """Where faces meet at an angle.

    Attributes
    ----------
    vertices : (E, 2) int
        Ends, as indices of the mesh's vertices.
    faces : (E, 2) int
        The two faces that meet.
    convex : (E,) bool
        Whether the material lies inside the angle; False in grooves.
    lengths : (E,) float64
    """

    vertices: NDArray[np.int64]
    faces: NDArray[np.int64]
    convex: NDArray[np.bool_]
    lengths: NDArray[np.float64]


def edges_of(mesh: trimesh.Trimesh) -> Edges:
    """Find the sharp edges of a mesh."""
    sharp = mesh.face_adjacency_angles > _SHARP_RAD
    vertices = mesh.face_adjacency_edges[sharp]
    ends = mesh.vertices[vertices]
    return Edges(
        vertices,
        mesh.face_adjacency[sharp],
        mesh.face_adjacency_convex[sharp],
        np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1),
    )
