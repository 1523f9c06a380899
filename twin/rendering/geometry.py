"""What a renderer says about a picture: how far away things are, and what they are. Light comes later."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from twin.rendering.pinhole import Pinhole
from twin.snapshot import Snapshot

NOTHING, PART, FINGER, ARM, PAN, BOXES = range(6)
"""What a pixel shows; the cell's boxes are counted on from `BOXES`."""

NEAR_M = 0.1
FAR_M = 2.5


@dataclass(frozen=True)
class Geometry:
    """A picture without light.

    Attributes
    ----------
    depth_m : (H, W) float32
        Along the optical axis, at the middle of each pixel; `FAR_M` where nothing is.
    surface : (H, W) uint8
        `NOTHING`, `PART`, `FINGER`, `ARM`, `PAN`, or `BOXES` and the number of a box.
    faces : (H, W) int32 or None
        Which face of the part's mesh is seen, -1 where none is; None: not known.
    """

    depth_m: NDArray[np.float32]
    surface: NDArray[np.uint8]
    faces: NDArray[np.int32] | None = None


class Renderer(Protocol):
    """Draws the cell from a snapshot; it is connected between entering and leaving."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def render(self, snapshot: Snapshot, camera: Pinhole) -> Geometry:
        """Draw what a camera sees, without distortion."""
        ...
