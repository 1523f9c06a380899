"""What the twin needs to know of a part's shape. Lengths are millimetres here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import trimesh
from numpy.typing import NDArray


@dataclass(frozen=True)
class Shape:
    """A good part as it leaves the mould.

    Attributes
    ----------
    mesh : trimesh.Trimesh
        Watertight, millimetres, in the part's frame.
    hulls : tuple of (N, 3) float64
        Corners of convex pieces that together stand for the part in contacts.
    structures : tuple of trimesh.Trimesh
        The small pieces that can break off or stay unfilled.
    """

    mesh: trimesh.Trimesh
    hulls: tuple[NDArray[np.float64], ...]
    structures: tuple[trimesh.Trimesh, ...]


class ShapeMaker(Protocol):
    """What a part file's `shape` entry names: constructed with its `Config`."""

    def make(self) -> Shape:
        """Build the part."""
        ...
