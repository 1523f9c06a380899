"""Convex pieces that stand for a part in contacts."""

from __future__ import annotations

import manifold3d
import numpy as np
import trimesh
from numpy.typing import NDArray

# A hull may be fuller than what it stands for by this share of its piece.
_FULLER = 0.05
# So many planes along each axis are tried: in the middle, and where the piece's corners lie.
_PLANES = 6
# Splinters do not matter in a contact.
_SMALLEST_SHARE = 1e-4


def convex_pieces(mesh: trimesh.Trimesh, most: int) -> tuple[NDArray[np.float64], ...]:
    """Cut a solid by planes along the axes until its pieces are nearly convex.

    Parameters
    ----------
    mesh : trimesh.Trimesh
        Watertight, millimetres.
    most : int
        How many pieces at most.

    Returns
    -------
    tuple of (N, 3) float64
        Corners of the pieces' convex hulls; together they cover the solid.

    Notes
    -----
    The piece whose hull holds most air is cut next, by the plane that leaves the least, among planes through its
    corners. Exact booleans cut it, so the pieces lie on the part's surface where fingers and scale touch it.
    """
    whole = manifold3d.Manifold(
        manifold3d.Mesh(mesh.vertices.astype(np.float32), np.asarray(mesh.faces, dtype=np.uint32))
    )
    smallest = _SMALLEST_SHARE * whole.volume()
    pieces = [(_air(whole), whole)]
    while len(pieces) < most:
        worst = max(range(len(pieces)), key=lambda i: pieces[i][0])
        air, piece = pieces[worst]
        if air <= _FULLER * piece.volume():
            break
        cuts = [_cut(piece, axis, at, smallest) for axis in range(3) for at in _planes(piece, axis)]
        pieces[worst : worst + 1] = min(cuts, key=lambda cut: sum(air for air, _ in cut))
    return tuple(np.asarray(piece.hull().to_mesh().vert_properties, dtype=np.float64)[:, :3] for _, piece in pieces)


def _air(piece: manifold3d.Manifold) -> float:
    return float(piece.hull().volume() - piece.volume())


def _planes(piece: manifold3d.Manifold, axis: int) -> NDArray[np.float64]:
    corners = np.unique(np.round(piece.to_mesh().vert_properties[:, axis].astype(np.float64), 3))
    low, high = corners[0], corners[-1]
    inner = corners[(corners > low + 0.05 * (high - low)) & (corners < high - 0.05 * (high - low))]
    chosen = inner[np.linspace(0, len(inner) - 1, min(_PLANES, len(inner))).astype(int)]
    return np.append(chosen, (low + high) / 2)


def _cut(piece: manifold3d.Manifold, axis: int, at: float, smallest: float) -> list[tuple[float, manifold3d.Manifold]]:
    normal = tuple(float(axis == other) for other in range(3))
    halves = piece.split_by_plane(normal, at)
    parts = [part for half in halves for part in half.decompose() if part.volume() > smallest]
    return [(_air(part), part) for part in parts]
