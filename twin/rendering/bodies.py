"""The cell's bodies in a PyBullet client that only draws: it knows a snapshot, not the physics."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pybullet as p
import trimesh
from numba import prange
from numpy.typing import NDArray

from cell.schema import Scene
from detection.kernels import parallel_kernel
from twin.rendering.geometry import ARM, BOXES, FAR_M, FINGER, NEAR_M, NOTHING, PAN, PART, Geometry
from twin.rendering.pinhole import Pinhole
from twin.snapshot import PartBody, Snapshot
from twin.world import ARM_JOINTS, FINGER_JOINTS, HAND_LINK, panda_urdf, quaternion

_LINK_BITS = 24
_N_LINKS = 16
_INVISIBLE = (0, 0, 0, 0)


class Bodies:
    """The arm, the fingers, the cell's boxes and the part, as far as they are asked for, in one client."""

    def __init__(self, client: int, scene: Scene, *, pan_m: float, held: bool, around: bool) -> None:
        """Load what does not change: `held`: the fingers and later the part; `around`: the arm and the boxes."""
        self._client = client
        self._held = held
        self._part: PartBody | None = None
        self._part_body: int | None = None
        kinds: dict[tuple[int, int], int] = {}
        self._robot: int = p.loadURDF(str(panda_urdf()), useFixedBase=True, physicsClientId=client)
        for link in range(-1, HAND_LINK + 1):
            self._show(kinds, link, ARM, around)
        for link in FINGER_JOINTS:
            self._show(kinds, link, FINGER, held)
        if around:
            for number, box in enumerate(scene.boxes):
                kinds[self._box(box.size_m, box.position_m), -1] = BOXES + number
            x, y, z = scene.scale.position_m
            kinds[self._box((pan_m, pan_m, 0.01), (x, y, z - 0.005)), -1] = PAN
        # By body and link; a body that came later is the part.
        self._kinds = np.full((1 + max(body for body, _ in kinds), _N_LINKS), NOTHING, np.uint8)
        for (body, link), kind in kinds.items():
            self._kinds[body, link + 1] = kind

    def _show(self, kinds: dict[tuple[int, int], int], link: int, kind: int, shown: bool) -> None:
        if shown:
            kinds[self._robot, link] = kind
        else:
            p.changeVisualShape(self._robot, link, rgbaColor=_INVISIBLE, physicsClientId=self._client)

    def _box(self, size_m: tuple[float, ...], position_m: tuple[float, ...]) -> int:
        half = [edge / 2 for edge in size_m]
        shape = p.createVisualShape(p.GEOM_BOX, halfExtents=half, physicsClientId=self._client)
        body: int = p.createMultiBody(0, -1, shape, position_m, physicsClientId=self._client)
        return body

    def _mesh(self, mesh: trimesh.Trimesh) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mesh.obj"
            mesh.export(path, include_normals=False)
            shape = p.createVisualShape(
                p.GEOM_MESH, fileName=str(path), meshScale=[0.001] * 3, physicsClientId=self._client
            )
        body: int = p.createMultiBody(0, -1, shape, physicsClientId=self._client)
        return body

    def pose(self, snapshot: Snapshot) -> None:
        """Bring everything to where it is."""
        for joints, values in ((ARM_JOINTS, snapshot.joints), (FINGER_JOINTS, snapshot.fingers_m)):
            for joint, value in zip(joints, values, strict=True):
                p.resetJointState(self._robot, joint, value, physicsClientId=self._client)
        if not self._held:
            return
        if snapshot.part is not self._part:
            if self._part_body is not None:
                p.removeBody(self._part_body, physicsClientId=self._client)
            self._part = snapshot.part
            self._part_body = None if snapshot.part is None else self._mesh(snapshot.part.mesh)
        if self._part_body is not None and snapshot.part_pose is not None:
            p.resetBasePositionAndOrientation(
                self._part_body,
                snapshot.part_pose.position_m.tolist(),
                quaternion(snapshot.part_pose.rotation),
                physicsClientId=self._client,
            )

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
    """Turn a depth buffer into metres, and bodies and links into what they are."""
    height, width = depth.shape
    for y in prange(height):
        for x in range(width):
            if bodies[y, x] < 0:
                depth_m[y, x] = FAR_M
                surface[y, x] = NOTHING
                continue
            depth_m[y, x] = np.float32(FAR_M * NEAR_M) / np.float32(FAR_M - (FAR_M - NEAR_M) * depth[y, x])
            body, link = bodies[y, x] & ((1 << _LINK_BITS) - 1), bodies[y, x] >> _LINK_BITS
            surface[y, x] = kinds[body, link] if body < len(kinds) else PART
