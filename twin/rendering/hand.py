"""The Panda's hand as triangles."""

from __future__ import annotations

from functools import cache

import numpy as np
import trimesh
from numpy.typing import NDArray

from cell.motion.panda import TCP_M
from twin.world import panda_urdf

# Where the URDF has the fingers, along the hand's axis.
_FINGER_M = 0.0584


@cache
def palm_m() -> NDArray[np.float64]:
    """Return the palm's triangles (T, 3, 3), metres in the tool centre point's frame."""
    return _read("hand.obj") - (0.0, 0.0, TCP_M)


def fingers_m(openings_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the triangles (T, 3, 3) of both fingers, each so far (2,) from closed; metres, as the palm's."""
    one, other = openings_m
    closed = _closed_finger()
    across = np.array([0.0, 1.0, 0.0])
    return np.concatenate([closed + one * across, closed * (-1.0, -1.0, 1.0) - other * across])


@cache
def _closed_finger() -> NDArray[np.float64]:
    """Return the triangles of the finger on the side of y."""
    return _read("finger.obj") - (0.0, 0.0, TCP_M - _FINGER_M)


def _read(name: str) -> NDArray[np.float64]:
    return np.array(trimesh.load_mesh(panda_urdf().parent / "meshes" / "visual" / name).triangles)
