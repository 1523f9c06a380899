"""Pictures with PyBullet's TinyRenderer, which needs no system library."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import pybullet as p
import trimesh
from numpy.typing import NDArray

from cell.interfaces import Pose
from cell.schema import Rgb, Scene
from twin.rendering.pinhole import Pinhole
from twin.world import ARM_JOINTS, FINGER_JOINTS, HAND_LINK, PartBody, Snapshot, panda_urdf, quaternion

_NEAR_M = 0.1
_FAR_M = 2.5
_FINGER_RGB = (0.45, 0.45, 0.46)
_PAN_RGB = (0.55, 0.55, 0.55)
_INVISIBLE = (0, 0, 0, 0)
_NOTHING, _AROUND = -1, -2


@dataclass(frozen=True)
class Rendered:
    """A picture without noise, and what it shows.

    Attributes
    ----------
    radiance : (H, W, 3) float32
        Light that reaches the camera; 1 is white under full light at the part's distance.
    depth_m : (H, W) float32
        Along the optical axis; far where nothing is.
    defect : (H, W) bool
        Where a skin that is a defect, or a face that a good part has not, is seen.
    """

    radiance: NDArray[np.float32]
    depth_m: NDArray[np.float32]
    defect: NDArray[np.bool_]


class TinyScene:
    """The cell as TinyRenderer draws it, in clients of its own: it knows a snapshot, not the physics.

    A ring light around the lens is approximated by one light from the camera's direction, whose strength
    falls with the square of the distance; it throws no shadows that the camera could see. The part and the
    fingers are drawn at full size. What lies around them, the arm in its loose dark sleeve and the cell's boxes, is
    drawn at half size and laid behind or before them by depth: TinyRenderer's time goes by pixels.
    """

    def __init__(self, scene: Scene, *, part_rgb: Rgb, arm_rgb: Rgb, pan_m: float, part_distance_m: float) -> None:
        self._scene = scene
        self._part_rgb = part_rgb
        self._arm_rgb = arm_rgb
        self._pan_m = pan_m
        self._distance_m = part_distance_m

    def __enter__(self) -> Self:
        self._shown: tuple[PartBody | None, int] = (None, 0)
        self._part_bodies: list[int] = []
        self._defect_bodies: list[int] = []
        self._near, self._around = p.connect(p.DIRECT), p.connect(p.DIRECT)
        self._hand = _load_panda(self._near)
        self._arm = _load_panda(self._around)
        for link in range(-1, HAND_LINK + 1):
            p.changeVisualShape(self._hand, link, rgbaColor=_INVISIBLE, physicsClientId=self._near)
            _paint(self._around, self._arm, link, self._arm_rgb)
        for link in FINGER_JOINTS:
            _paint(self._near, self._hand, link, _FINGER_RGB)
            p.changeVisualShape(self._arm, link, rgbaColor=_INVISIBLE, physicsClientId=self._around)
        for box in self._scene.boxes:
            self._show_box(box.size_m, box.position_m, box.rgb)
        x, y, z = self._scene.scale.position_m
        self._show_box((self._pan_m, self._pan_m, 0.01), (x, y, z - 0.005), _PAN_RGB)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        p.disconnect(physicsClientId=self._near)
        p.disconnect(physicsClientId=self._around)

    def render(self, snapshot: Snapshot, camera: Pinhole) -> Rendered:
        """Draw what the camera sees."""
        self._pose(snapshot)
        rgb, depth, bodies = self._draw(camera)
        falloff = np.square(np.float32(self._distance_m) / depth) * np.float32(1 / 255)
        falloff[bodies == _NOTHING] = 0
        return Rendered(rgb * falloff[..., np.newaxis], depth, np.isin(bodies, self._defect_bodies))

    def where_missing(self, snapshot: Snapshot, camera: Pinhole) -> NDArray[np.bool_]:
        """Return the pixels (H, W) in which the part's missing pieces would be seen if they were there."""
        self._pose(snapshot)
        part = snapshot.part
        pieces = [self._show_mesh(piece, self._part_rgb) for piece in (part.removed if part else ())]
        try:
            for body in pieces:
                self._move(body, snapshot.part_pose)
            return np.isin(self._draw(camera)[2], pieces)
        finally:
            for body in pieces:
                p.removeBody(body, physicsClientId=self._near)

    def _pose(self, snapshot: Snapshot) -> None:
        for client, robot in ((self._near, self._hand), (self._around, self._arm)):
            for joints, values in ((ARM_JOINTS, snapshot.joints), (FINGER_JOINTS, snapshot.fingers_m)):
                for joint, value in zip(joints, values, strict=True):
                    p.resetJointState(robot, joint, value, physicsClientId=client)
        shown = (snapshot.part, snapshot.grasp)
        if shown != self._shown:
            for body in self._part_bodies:
                p.removeBody(body, physicsClientId=self._near)
            self._shown, self._part_bodies, self._defect_bodies = shown, [], []
            if snapshot.part is not None:
                self._part_bodies = [self._show_mesh(snapshot.part.mesh, self._part_rgb)]
                for skin in snapshot.skins:
                    share = 1 + skin.opacity * (skin.reflectance - 1)
                    r, g, b = (min(1.0, share * value) for value in self._part_rgb)
                    body = self._show_mesh(skin.mesh, (r, g, b))
                    self._part_bodies.append(body)
                    if skin.defect:
                        self._defect_bodies.append(body)
                for faces in snapshot.part.altered:
                    body = self._show_mesh(faces, self._part_rgb)
                    self._part_bodies.append(body)
                    self._defect_bodies.append(body)
        for body in self._part_bodies:
            self._move(body, snapshot.part_pose)

    def _draw(self, camera: Pinhole) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int32]]:
        """Colours, depths in metres, and the bodies of the near client, `_AROUND` or `_NOTHING`."""
        k = camera.intrinsics
        rgb, depth, bodies = _take(self._near, camera)
        half = camera.resized(max(1, k.width // 2), max(1, k.height // 2))
        around_rgb, around_depth, around = (
            cv2.resize(layer, (k.width, k.height), interpolation=cv2.INTER_NEAREST)
            for layer in _take(self._around, half)
        )
        before = around_depth < depth
        rgb[before] = around_rgb[before]
        depth[before] = around_depth[before]
        bodies[before] = np.where(around[before] == _NOTHING, _NOTHING, _AROUND)
        return rgb, depth, bodies

    def _show_box(self, size_m: tuple[float, ...], position_m: tuple[float, ...], rgb: Rgb) -> None:
        shape = p.createVisualShape(
            p.GEOM_BOX,
            halfExtents=[edge / 2 for edge in size_m],
            rgbaColor=(*rgb, 1),
            physicsClientId=self._around,
        )
        p.createMultiBody(0, -1, shape, position_m, physicsClientId=self._around)

    def _show_mesh(self, mesh: trimesh.Trimesh, rgb: Rgb) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mesh.obj"
            mesh.export(path, include_normals=False)
            shape = p.createVisualShape(
                p.GEOM_MESH,
                fileName=str(path),
                meshScale=[0.001] * 3,
                rgbaColor=(*rgb, 1),
                specularColor=(0.3, 0.3, 0.3),
                physicsClientId=self._near,
            )
        body: int = p.createMultiBody(0, -1, shape, physicsClientId=self._near)
        return body

    def _move(self, body: int, pose: Pose | None) -> None:
        if pose is not None:
            p.resetBasePositionAndOrientation(
                body, pose.position_m.tolist(), quaternion(pose.rotation), physicsClientId=self._near
            )


def _load_panda(client: int) -> int:
    """Load the Panda to be looked at: its links wear a loose sleeve, drawn as their contact meshes."""
    urdf = panda_urdf()
    text = urdf.read_text(encoding="utf-8")
    text = text.replace("package://meshes/visual/link", "package://meshes/collision/link")
    text = text.replace("package://", f"{urdf.parent}/")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "panda.urdf"
        path.write_text(text, encoding="utf-8")
        robot: int = p.loadURDF(str(path), useFixedBase=True, physicsClientId=client)
    return robot


def _paint(client: int, body: int, link: int, rgb: Rgb) -> None:
    p.changeVisualShape(body, link, rgbaColor=(*rgb, 1), specularColor=(0.1, 0.1, 0.1), physicsClientId=client)


def _take(client: int, camera: Pinhole) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int32]]:
    """Draw one client: colours (H, W, 3), depths (H, W) in metres, body numbers (H, W)."""
    k = camera.intrinsics
    eye, axes = camera.pose.position_m, camera.pose.rotation
    view = p.computeViewMatrix(eye.tolist(), (eye + axes[:, 2]).tolist(), (-axes[:, 1]).tolist())
    # TinyRenderer draws everything half a pixel too far right and up.
    cx, cy = k.cx - 0.5, k.cy + 0.5
    left, right, bottom, top = -cx / k.fx, (k.width - cx) / k.fx, (cy - k.height) / k.fy, cy / k.fy
    edges = (edge * _NEAR_M for edge in (left, right, bottom, top))
    projection = p.computeProjectionMatrix(*edges, _NEAR_M, _FAR_M)
    _, _, rgba, depth, bodies = p.getCameraImage(
        k.width,
        k.height,
        view,
        projection,
        lightDirection=(-axes[:, 2]).tolist(),
        lightColor=(1, 1, 1),
        lightDistance=10,
        lightAmbientCoeff=0.15,
        lightDiffuseCoeff=0.65,
        lightSpecularCoeff=0.15,
        shadow=0,
        renderer=p.ER_TINY_RENDERER,
        physicsClientId=client,
    )
    shape = (k.height, k.width)
    metres = _FAR_M * _NEAR_M / (_FAR_M - (_FAR_M - _NEAR_M) * np.reshape(depth, shape))
    return (
        np.array(np.reshape(rgba, (*shape, 4))[..., :3], dtype=np.uint8),
        metres.astype(np.float32),
        np.array(np.reshape(bodies, shape), dtype=np.int32),
    )
