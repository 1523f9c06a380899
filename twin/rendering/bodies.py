"""What lies around the part and the hand, in a PyBullet client that only draws."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pybullet as p
from numba import prange
from numpy.typing import NDArray

from cell.schema import Scene
from detection.kernels import parallel_kernel
from twin.rendering.geometry import ARM, BOXES, FAR_M, NEAR_M, NOTHING, PAN, Geometry
from twin.rendering.pinhole import Pinhole
from twin.snapshot import Snapshot
from twin.world import ARM_JOINTS, panda_urdf

_LINK_BITS = 24
_HAND = ("panda_hand", "panda_leftfinger", "panda_rightfinger")


class Bodies:
    """The arm without its hand, the cell's boxes and the scale's pan in one client."""

    def __init__(self, client: int, scene: Scene, *, pan_m: float) -> None:
        self._client = client
        self._arm = self._load_arm()
        kinds = {self._arm: ARM}
        for number, box in enumerate(scene.boxes):
            kinds[self._box(box.size_m, box.position_m)] = BOXES + number
        x, y, z = scene.scale.position_m
        kinds[self._box((pan_m, pan_m, 0.01), (x, y, z - 0.005))] = PAN
        self._kinds = np.array([kinds[body] for body in range(len(kinds))], np.uint8)

    def _load_arm(self) -> int:
        """Load the Panda with nothing to be seen of its hand; OpenGL would draw what is invisible by its colour."""
        robot = ET.parse(panda_urdf()).getroot()
        for link in robot.iter("link"):
            if link.get("name") in _HAND:
                # Without shapes to be seen, those of contacts would be shown.
                for shape in (*link.findall("visual"), *link.findall("collision")):
                    link.remove(shape)
        for mesh in robot.iter("mesh"):
            mesh.set("filename", mesh.get("filename", "").replace("package:/", str(panda_urdf().parent)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "arm.urdf"
            ET.ElementTree(robot).write(path)
            body: int = p.loadURDF(str(path), useFixedBase=True, physicsClientId=self._client)
        return body

    def _box(self, size_m: tuple[float, ...], position_m: tuple[float, ...]) -> int:
        half = [edge / 2 for edge in size_m]
        shape = p.createVisualShape(p.GEOM_BOX, halfExtents=half, physicsClientId=self._client)
        body: int = p.createMultiBody(0, -1, shape, position_m, physicsClientId=self._client)
        return body

    def pose(self, snapshot: Snapshot) -> None:
        """Bring the arm to where it is."""
        for joint, value in zip(ARM_JOINTS, snapshot.joints, strict=True):
            p.resetJointState(self._arm, joint, value, physicsClientId=self._client)

    def take(
        self,
        camera: Pinhole,
        window: tuple[int, int, int, int],
        *,
        renderer: int,
        flags: int,
        shift: float,
        out: Geometry,
    ) -> None:
        """Draw a window (left, top, right, bottom) of the camera's picture into `out`, which is of its size.

        `shift` is how far, in pixels, the renderer draws everything too far right and up.
        """
        k = camera.intrinsics
        x0, y0, x1, y1 = window
        eye, axes = camera.pose.position_m, camera.pose.rotation
        left, right = (x0 - k.cx + shift) / k.fx, (x1 - k.cx + shift) / k.fx
        bottom, top = (k.cy + shift - y1) / k.fy, (k.cy + shift - y0) / k.fy
        edges = (edge * NEAR_M for edge in (left, right, bottom, top))
        identity = np.eye(4).ravel().tolist()
        _, _, _, depth, bodies = p.getCameraImage(
            x1 - x0,
            y1 - y0,
            p.computeViewMatrix(eye.tolist(), (eye + axes[:, 2]).tolist(), (-axes[:, 1]).tolist()),
            p.computeProjectionMatrix(*edges, NEAR_M, FAR_M),
            shadow=0,
            renderer=renderer,
            flags=flags | p.ER_SEGMENTATION_MASK_OBJECT_AND_LINKINDEX,
            projectiveTextureView=identity,
            projectiveTextureProj=identity,
            physicsClientId=self._client,
        )
        shape = (y1 - y0, x1 - x0)
        _read(np.reshape(depth, shape), np.reshape(bodies, shape), self._kinds, out.depth_m, out.surface)


@parallel_kernel
def _read(
    depth: NDArray[np.float32],
    bodies: NDArray[np.int32],
    kinds: NDArray[np.uint8],
    depth_m: NDArray[np.float32],
    surface: NDArray[np.uint8],
) -> None:
    """Turn a depth buffer into metres, and bodies into what they are."""
    height, width = depth.shape
    for y in prange(height):
        for x in range(width):
            if bodies[y, x] < 0:
                depth_m[y, x] = FAR_M
                surface[y, x] = NOTHING
                continue
            depth_m[y, x] = np.float32(FAR_M * NEAR_M) / np.float32(FAR_M - (FAR_M - NEAR_M) * depth[y, x])
            surface[y, x] = kinds[bodies[y, x] & ((1 << _LINK_BITS) - 1)]
