"""What the twin needs to know of a part's shape, and what makes it. Lengths are millimetres here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import trimesh
from numpy.typing import NDArray

from cell.config import Loaded, load_class
from cell.interfaces import ConfigError
from cell.schema import PartFile
from twin.parts.fitting import check_fit
from twin.parts.skin import Skin


@dataclass(frozen=True, eq=False)
class Shape:
    """A good part as it leaves the mould.

    Attributes
    ----------
    mesh : trimesh.Trimesh
        Watertight, millimetres, in the part's frame.
    hulls : tuple of (N, 3) float64
        Corners of convex pieces that together stand for the part in contacts.
    structures : tuple of trimesh.Trimesh
        The small pieces that can break off or stay unfilled, as far as they stand out of the part's body.
    gate_mm : (3,) float64 or None
        Where the melt enters.
    skins : tuple of Skin
        What is printed on it.
    """

    mesh: trimesh.Trimesh
    hulls: tuple[NDArray[np.float64], ...]
    structures: tuple[trimesh.Trimesh, ...]
    gate_mm: NDArray[np.float64] | None = None
    skins: tuple[Skin, ...] = ()


class ShapeMaker(Protocol):
    """What a part file's `shape` entry names: constructed with its `Config`."""

    def make(self, folder: Path) -> Shape:
        """Build the part; files that the configuration names lie relative to `folder`, the part file's."""
        ...


def make_shape(part: Loaded[PartFile]) -> Shape:
    """Build the shape that a part file names and check that the cell can handle it.

    Raises
    ------
    ConfigError
        It is no solid, has another size than the part file says, or does not fit between the fingers.
    """
    where = f"{part.path}: shape"
    maker, config = load_class(part.content.shape, where, like=ShapeMaker)
    try:
        shape: Shape = maker(config).make(part.path.parent)
        if not (shape.mesh.is_volume and shape.mesh.body_count == 1):
            raise ValueError("it is not one closed solid")
        check_fit(shape.mesh, part.content)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    gate = part.content.moulding.gate
    return replace(shape, gate_mm=np.array(gate.position_mm)) if gate else shape
