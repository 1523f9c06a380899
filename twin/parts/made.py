"""A defect in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import trimesh
from numpy.typing import NDArray

from twin.parts.skin import Skin
from twin.parts.surface import PROUD_MM


@dataclass(frozen=True, eq=False)
class MadeDefect:
    """What a defect did to a part, and where to look for it. Lengths are millimetres, in the part's frame.

    A pixel belongs to the defect's truth where it shows `skin` or a face of `altered`, or where it would show
    `removed` if that were still there and nothing of the part, the hand or the cell stood before it.

    Attributes
    ----------
    kind : str
    size_mm : float
        As drawn; of a missing structure its own.
    contrast : float or None
        Share of light that a mark swallows; None for a defect of the shape.
    mesh : trimesh.Trimesh
        The part with the defect in its geometry; the same object as the good part's where only the surface differs.
    skin : Skin or None
        What lies on its surface.
    removed : trimesh.Trimesh or None
        The solid that is missing.
    altered : trimesh.Trimesh or None
        The part's faces that a good part has not: those of a fin, or of a dent moved by more than 20 µm.
    points : (N, 3) float64
        Points on the defect's surface, to ask from where it can be seen.
    displacement : callable or None
        From points (N, 3) on the good part to how far each has moved.
    """

    kind: str
    size_mm: float
    contrast: float | None
    mesh: trimesh.Trimesh
    points: NDArray[np.float64]
    skin: Skin | None = None
    removed: trimesh.Trimesh | None = None
    altered: trimesh.Trimesh | None = None
    displacement: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None

    def carry(self, skin: Skin) -> Skin | None:
        """Return what becomes of a skin that lay on the part before; None where it went with the missing piece."""
        mesh = skin.mesh
        if self.removed is not None:
            centres = mesh.triangles_center
            low, high = self.removed.bounds
            near = ((centres > low - 2 * PROUD_MM) & (centres < high + 2 * PROUD_MM)).all(axis=1)
            gone = near.copy()
            if near.any():
                gone[near] = trimesh.proximity.signed_distance(self.removed, centres[near]) > -2 * PROUD_MM
            if gone.all():
                return None
            if gone.any():
                mesh = trimesh.Trimesh(mesh.vertices, mesh.faces[~gone], process=False)
        if self.displacement is not None:
            mesh = trimesh.Trimesh(mesh.vertices + self.displacement(mesh.vertices), mesh.faces, process=False)
        return skin if mesh is skin.mesh else replace(skin, mesh=mesh)
