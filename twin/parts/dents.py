"""Smooth deformation of a part. Lengths are millimetres."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.typing import NDArray

from twin.parts.made import MadeDefect
from twin.parts.shape import Shape
from twin.parts.surface import places_on

DENT_WIDTH_MM = 8.0
# What has moved by less is no part of the truth: a quarter of the smallest pixel.
_MOVED_MM = 0.02
# Full width at half maximum over standard deviation of a Gaussian.
_FWHM = 2 * np.sqrt(2 * np.log(2))
_REACH_SIGMA = 3.5
_EDGE_SIGMA = 0.5


def deformation(shape: Shape, depth: float, width: float | None, rng: np.random.Generator) -> MadeDefect | None:
    """Press or pull the part by `depth`, falling off as a Gaussian of full width `width` at half maximum.

    The wall moves as a whole, as warpage and ejector pins move it, so the solid stays closed.
    """
    (centre,), (normal,) = places_on(shape.mesh, 1, rng)
    push = depth * rng.choice((-1.0, 1.0)) * normal
    sigma = (width or DENT_WIDTH_MM) / _FWHM

    def displacement(points: NDArray[np.float64]) -> NDArray[np.float64]:
        away = np.linalg.norm(points - centre, axis=1, keepdims=True)
        return np.asarray(push * np.exp(-0.5 * (away / sigma) ** 2))

    fine = refined(shape.mesh, centre, _REACH_SIGMA * sigma, _EDGE_SIGMA * sigma)
    moved = displacement(fine.vertices)
    mesh = trimesh.Trimesh(fine.vertices + moved, fine.faces, process=False)
    far = (np.linalg.norm(moved, axis=1) > _MOVED_MM)[mesh.faces].any(axis=1)
    if not far.any() or not mesh.is_watertight or mesh.volume <= 0:
        return None
    altered = trimesh.Trimesh(mesh.vertices, mesh.faces[far], process=False)
    altered.remove_unreferenced_vertices()
    core = np.linalg.norm(altered.vertices - centre - push, axis=1) < sigma * _FWHM / 2
    points = altered.vertices[core] if core.any() else altered.vertices
    return MadeDefect("deformation", depth, None, mesh, points, altered=altered, displacement=displacement)


def refined(mesh: trimesh.Trimesh, centre: NDArray[np.float64], reach: float, longest: float) -> trimesh.Trimesh:
    """Divide the edges within `reach` of `centre` until none is longer than `longest`; a closed mesh stays closed.

    Edges, not faces, are marked, so both faces that share an edge are divided alike.
    """
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    while True:
        sides = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        edges, of_side = np.unique(sides, axis=0, return_inverse=True)
        a, b = vertices[edges].transpose(1, 0, 2)
        along = b - a
        share = np.clip(np.einsum("ij,ij->i", centre - a, along) / np.einsum("ij,ij->i", along, along), 0, 1)
        near = np.linalg.norm(a + share[:, np.newaxis] * along - centre, axis=1) < reach
        divided = near & (np.linalg.norm(along, axis=1) > longest)
        if not divided.any():
            return trimesh.Trimesh(vertices, faces, process=False)
        middle = np.full(len(edges), -1)
        middle[divided] = len(vertices) + np.arange(divided.sum())
        vertices = np.concatenate([vertices, (a + b)[divided] / 2])
        faces = _divided(faces, middle[of_side.reshape(-1, 3)])


def _divided(faces: NDArray[np.int64], middles: NDArray[np.int64]) -> NDArray[np.int64]:
    """Divide triangles (F, 3) at the middles (F, 3) of their sides 01, 12 and 20; -1 where a side stays whole."""
    count = (middles >= 0).sum(axis=1)
    out = [faces[count == 0]]
    for n in (1, 2, 3):
        f, m = faces[count == n], middles[count == n]
        # Turn each triangle so that the first side is divided, and with two, the last one is not.
        odd = np.argmax(m >= 0, axis=1) if n == 1 else (np.argmin(m, axis=1) + 1) % 3
        turn = (odd[:, np.newaxis] + np.arange(3)) % 3
        (a, b, c), (ab, bc, ca) = np.take_along_axis(f, turn, 1).T, np.take_along_axis(m, turn, 1).T
        corners = {
            1: [(a, ab, c), (ab, b, c)],
            2: [(a, ab, c), (ab, bc, c), (ab, b, bc)],
            3: [(a, ab, ca), (ab, b, bc), (bc, c, ca), (ab, bc, ca)],
        }[n]
        out += [np.stack(corner, axis=1) for corner in corners]
    return np.concatenate(out)
