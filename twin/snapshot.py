"""The part that is in the cell, and all that a picture depends on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh
from numpy.typing import NDArray

from cell.interfaces import Pose
from twin.conditions import Conditions
from twin.parts.skin import Skin


@dataclass(frozen=True, eq=False)
class PartBody:
    """The part that is in the cell, with what may only be known to the twin.

    Attributes
    ----------
    part_id : str
    mesh : trimesh.Trimesh
        Its surface, millimetres.
    hulls : tuple of (N, 3) float64
        Convex pieces for contacts, millimetres.
    mass_g : float
    skins : tuple of Skin
        What lies on its surface, defects and harmless things alike; `Snapshot.skins` are those of the moment.
    removed : tuple of trimesh.Trimesh
        What a good part would have and this one has not.
    altered : tuple of trimesh.Trimesh
        The faces of its surface that a good part has not.
    gloss : float
        Strength of its highlights, relative.
    conditions : Conditions
        Under what it is inspected.
    seed : tuple of int
        What everything random about its pictures follows from.
    defects : tuple of str
        Their kinds, in the order in which they were made.
    """

    part_id: str
    mesh: trimesh.Trimesh
    hulls: tuple[NDArray[np.float64], ...]
    mass_g: float
    skins: tuple[Skin, ...]
    removed: tuple[trimesh.Trimesh, ...]
    altered: tuple[trimesh.Trimesh, ...]
    gloss: float
    conditions: Conditions
    seed: tuple[int, ...]
    defects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """All that a picture of the world depends on: arm and finger joints, the part, where it is, and which grasp it is.

    Joints and pose are the true ones, with the arm's inaccuracy and the part's slip in the hand.
    """

    joints: NDArray[np.float64]
    fingers_m: NDArray[np.float64]
    part: PartBody | None
    part_pose: Pose | None
    grasp: int = 0

    @property
    def skins(self) -> tuple[Skin, ...]:
        """What lies on the part at this grasp."""
        skins = self.part.skins if self.part else ()
        return tuple(skin for skin in skins if skin.grasps is None or self.grasp in skin.grasps)
