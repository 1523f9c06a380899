"""The opaque things of the cell as triangles, and the light that they scatter."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import pybullet as p
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cell.interfaces import Pose
from cell.schema import Scene
from twin.rendering.geometry import ARM, BOXES, FINGER, PAN
from twin.rendering.shading import Lamp, corner_normals
from twin.snapshot import Snapshot
from twin.world import ARM_JOINTS, FINGER_JOINTS, panda_urdf

# Light runs straight between corners; on faces larger than this it would not.
_LARGEST_M = 0.05


@dataclass(frozen=True)
class Surface:
    """Triangles that share no corners.

    Attributes
    ----------
    points_m, normals : (3 T, 3) float64
        Corners and unit normals in the frame of the robot's base.
    kinds : (3 T,) uint8
        What they are, as in `Geometry.surface`.
    """

    points_m: NDArray[np.float64]
    normals: NDArray[np.float64]
    kinds: NDArray[np.uint8]


class MattBodies:
    """The arm, the fingers, the cell's boxes and the pan, from a PyBullet client that only knows their poses."""

    def __init__(self, scene: Scene, *, pan_m: float) -> None:
        self._scene = scene
        self._pan_m = pan_m

    def __enter__(self) -> Self:
        self._client = p.connect(p.DIRECT)
        self._robot = p.loadURDF(str(panda_urdf()), useFixedBase=True, physicsClientId=self._client)
        self._links: list[tuple[int, Surface]] = []
        for shape in p.getVisualShapeData(self._robot, physicsClientId=self._client):
            link, scale, path, at, turn = shape[1], shape[3], shape[4].decode(), shape[5], shape[6]
            loaded = trimesh.load_mesh(path)
            loaded.apply_scale(scale)
            kind = FINGER if link in FINGER_JOINTS else ARM
            local = Pose(Rotation.from_quat(turn).as_matrix(), np.array(at))
            self._links.append((link, _moved(_surface(loaded, kind), local)))
        self._boxes = [_box(box.size_m, box.position_m, BOXES + number) for number, box in enumerate(self._scene.boxes)]
        x, y, z = self._scene.scale.position_m
        self._boxes.append(_box((self._pan_m, self._pan_m, 0.01), (x, y, z - 0.005), PAN))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        p.disconnect(physicsClientId=self._client)

    def surfaces(self, snapshot: Snapshot) -> list[Surface]:
        """Return everything where it is."""
        for joints, values in ((ARM_JOINTS, snapshot.joints), (FINGER_JOINTS, snapshot.fingers_m)):
            for joint, value in zip(joints, values, strict=True):
                p.resetJointState(self._robot, joint, value, physicsClientId=self._client)
        return [*(_moved(surface, self._link_pose(link)) for link, surface in self._links), *self._boxes]

    def _link_pose(self, link: int) -> Pose:
        if link < 0:
            return Pose(np.eye(3), np.zeros(3))
        state = p.getLinkState(self._robot, link, computeForwardKinematics=1, physicsClientId=self._client)
        return Pose(Rotation.from_quat(state[5]).as_matrix(), np.array(state[4]))


def _surface(mesh: trimesh.Trimesh, kind: int) -> Surface:
    """Take a mesh in metres."""
    normals = corner_normals(mesh).reshape(-1, 3).astype(np.float64)
    return Surface(np.asarray(mesh.triangles).reshape(-1, 3), normals, np.full(3 * len(mesh.faces), kind, np.uint8))


def _box(size_m: tuple[float, ...], position_m: tuple[float, ...], kind: int) -> Surface:
    box = trimesh.creation.box(size_m).subdivide_to_size(_LARGEST_M)
    box.apply_translation(position_m)
    return _surface(box, kind)


def _moved(surface: Surface, pose: Pose) -> Surface:
    return Surface(pose.apply(surface.points_m), surface.normals @ pose.rotation.T, surface.kinds)


def matt_light(
    to_camera: Pose, points_m: NDArray[np.float64], normals: NDArray[np.float64], lamp: Lamp
) -> NDArray[np.float32]:
    """Return the radiance (N,) of matt white at points (N, 3), lit by the ring as from its middle, and ambient."""
    points = to_camera.apply(points_m)
    distance = np.linalg.norm(points, axis=1)
    facing = np.maximum(0.0, -(points * (normals @ to_camera.rotation.T)).sum(axis=1) / distance)
    direct = lamp.distance_m**2 * facing * np.maximum(0.0, points[:, 2]) / distance**3
    return np.asarray(lamp.white * (direct + lamp.ambient), dtype=np.float32)
