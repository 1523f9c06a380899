import numpy as np
import pytest
import trimesh

from cell.interfaces import Intrinsics, Pose
from twin.conditions import Conditions
from twin.rendering.egl import egl_found
from twin.rendering.geometry import PART, Geometry
from twin.rendering.pinhole import Pinhole
from twin.snapshot import PartBody, Snapshot


@pytest.fixture
def needs_egl():
    if not egl_found():
        pytest.skip("EGL is not here: apt-get install libegl1 libegl-mesa0")


@pytest.fixture(scope="session")
def body():
    """Return a function that makes a part of a mesh."""

    def make(mesh, *, skins=(), removed=(), altered=()):
        return PartBody("part", mesh, (), 1.0, tuple(skins), tuple(removed), tuple(altered), 1.0, Conditions(), (0, 0))

    return make


class Wall:
    """A plane before a camera at the origin, through (0, 0, depth), turned about the y axis; in closed form."""

    def __init__(self, k: Intrinsics, *, depth_m: float, turn_deg: float = 0.0) -> None:
        self.camera = Pinhole(Pose(np.eye(3), np.zeros(3)), k)
        angle = np.radians(turn_deg)
        self.pose = Pose(
            np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]),
            np.array([0, 0, depth_m]),
        )
        x = (np.arange(k.width) + 0.5 - k.cx) / k.fx
        depth = np.broadcast_to(depth_m / (1 - x * np.tan(angle)), (k.height, k.width))
        self.geometry = Geometry(depth.astype(np.float32), np.full((k.height, k.width), PART, np.uint8))

    def snapshot(self, part: PartBody) -> Snapshot:
        return Snapshot(np.zeros(7), np.zeros(2), part, self.pose)


def sheet(wide: float, high: float, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> trimesh.Trimesh:
    """A rectangle across z, millimetres."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * (wide, high) + (x, y)
    return trimesh.Trimesh(np.c_[corners, np.full(4, z)], [[0, 1, 2], [0, 2, 3]], process=False)


@pytest.fixture(scope="session")
def wall():
    return Wall


@pytest.fixture(scope="session")
def sheet_mm():
    return sheet
