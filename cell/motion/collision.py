"""Whether the arm, its hand and the part in it keep their distance from the cell and from themselves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pybullet as p
import pybullet_data
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation

from cell.interfaces import Pose
from cell.motion.panda import forward
from cell.schema import Box

_ARM = tuple(range(7))
_HAND, _FINGERS = 8, (9, 10)
_LINKS = {-1: "base", **{joint: f"link {joint + 1}" for joint in _ARM}, 8: "hand", 9: "finger", 10: "finger"}
# Pairs of links that can meet at all. The others are neighbours or out of each other's reach, as the Panda's
# configuration for MoveIt lists them (moveit_resources, panda.srdf).
_SELF_PAIRS = tuple(
    (first, second)
    for first, others in {
        -1: (4, 5, 6, 8, 9, 10),
        0: (4, 5, 6, 8, 9, 10),
        1: (4, 6, 8, 9, 10),
        4: (8, 9, 10),
    }.items()
    for second in others
)
# What carries a part may be as near as this to the hand that takes it; less is a touch.
_TOUCH_M = 0.001
_MARGIN_M = 1e-4
_NOWHERE = (0.0, 0.0, -10.0)


@dataclass(frozen=True)
class Load:
    """What the hand has to do with the part.

    Attributes
    ----------
    opening_m : float
        Between the fingers.
    held : Pose or None
        The part's pose in the frame of the tool centre point.
    lying : Pose or None
        Where the part lies, in the base's frame, while the hand comes for it or leaves it.
    support : frozenset of str
        What the part lies on or is laid on: hand and part may come as near to it as they like, but not touch it
        before the part does.
    """

    opening_m: float
    held: Pose | None = None
    lying: Pose | None = None
    support: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Contact:
    """Two things that are closer than they may be; negative distances are how deep they are in each other."""

    first: str
    second: str
    distance_m: float

    def __str__(self) -> str:
        if self.distance_m <= 0:
            return f"{self.first} would stand {-self.distance_m * 1000:.0f} mm deep in {self.second}"
        return f"{self.first} would come within {self.distance_m * 1000:.1f} mm of {self.second}"


class CollisionModel:
    """The cell in PyBullet, for distances alone; a context manager.

    Parameters
    ----------
    obstacles : sequence of Box
        What stands in the cell, and where nothing may enter. Their names are unique.
    hulls_m : sequence of (N, 3) float64
        Convex pieces of the part, in its frame.
    clearance_m : float
        Distance that is kept.

    Notes
    -----
    Links are the convex hulls of the Panda's collision meshes, which PyBullet brings. A held part is the convex
    hull of its pieces: what is inside of a ring counts as part. While the hand comes for a part, the pieces count
    one by one.
    """

    def __init__(self, obstacles: Sequence[Box], hulls_m: Sequence[NDArray[np.float64]], *, clearance_m: float) -> None:
        self._obstacles = obstacles
        self._hulls = hulls_m
        self._clearance_m = clearance_m

    def __enter__(self) -> Self:
        self._client = p.connect(p.DIRECT)
        urdf = Path(pybullet_data.getDataPath()) / "franka_panda" / "panda.urdf"
        self._robot = p.loadURDF(
            str(urdf), useFixedBase=True, flags=p.URDF_IGNORE_VISUAL_SHAPES, physicsClientId=self._client
        )
        self._bodies = {self._box(box): box.name for box in self._obstacles}
        self._held = self._mesh([np.concatenate(self._hulls)])
        self._lying = self._mesh(self._hulls)
        self._sight: int | None = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        p.disconnect(physicsClientId=self._client)

    def contact(self, q: NDArray[np.float64], load: Load, *, clearance_m: float | None = None) -> Contact | None:
        """Return the first pair found closer than the clearance with the arm at `q` (7,), or None.

        `clearance_m` overrides the model's own.
        """
        clearance = self._clearance_m if clearance_m is None else clearance_m
        self._place(q, load)
        held = load.held is not None
        for body, name in self._bodies.items():
            on_it = name in load.support
            for contact in self._closest(self._robot, body, clearance):
                if contact[3] >= 0 and not (on_it and contact[3] >= _HAND and contact[8] >= _TOUCH_M):
                    return Contact(_LINKS[contact[3]], name, contact[8])
            if held:
                for contact in self._closest(self._held, body, clearance):
                    if not (on_it and contact[8] >= -_TOUCH_M):
                        return Contact("held part", name, contact[8])
        for first, second in _SELF_PAIRS:
            for contact in self._closest(self._robot, self._robot, clearance, linkIndexA=first, linkIndexB=second):
                return Contact(_LINKS[second], _LINKS[first], contact[8])
        if held:
            # The hand holds it, and the link before the hand does not turn against it.
            for contact in self._closest(self._robot, self._held, clearance):
                if contact[3] < _ARM[-1]:
                    return Contact("held part", _LINKS[contact[3]], contact[8])
        if load.lying is not None:
            for contact in self._closest(self._robot, self._lying, clearance):
                near = _TOUCH_M if contact[3] >= _HAND else clearance
                if contact[8] < near:
                    return Contact(_LINKS[contact[3]], "the part", contact[8])
        return None

    def support(self, lying: Pose) -> frozenset[str]:
        """Return the names of what a part that lies there rests on."""
        self._move(self._lying, lying)
        return frozenset(name for body, name in self._bodies.items() if self._closest(self._lying, body, _TOUCH_M))

    def look(self, apex_m: NDArray[np.float64], base_m: NDArray[np.float64]) -> None:
        """Say where the camera looks: the hull of the lens (3,) and the corners (N, 3) of what it shall see."""
        self._sight = self._mesh([np.concatenate([apex_m[np.newaxis], base_m])])

    def before_the_lens(self, q: NDArray[np.float64], load: Load) -> Contact | None:
        """Return which link of the arm hides the part from the camera; hand and fingers are part of the picture."""
        self._place(q, load)
        for contact in self._closest(self._robot, self._sight, 0.0):
            if contact[3] < _ARM[-1]:
                return Contact(_LINKS[contact[3]], "the camera's view of the part", contact[8])
        return None

    def _place(self, q: NDArray[np.float64], load: Load) -> None:
        for joint, angle in zip(_ARM, q.tolist(), strict=True):
            p.resetJointState(self._robot, joint, angle, physicsClientId=self._client)
        for joint in _FINGERS:
            p.resetJointState(self._robot, joint, load.opening_m / 2, physicsClientId=self._client)
        if load.held is not None:
            self._move(self._held, forward(q) @ load.held)
        if load.lying is not None:
            self._move(self._lying, load.lying)

    def _move(self, body: int, pose: Pose) -> None:
        turn = Rotation.from_matrix(pose.rotation).as_quat().tolist()
        p.resetBasePositionAndOrientation(body, pose.position_m.tolist(), turn, physicsClientId=self._client)

    def _closest(self, first: int, second: int | None, distance_m: float, **links: int) -> Iterable[Any]:
        found: Iterable[Any] = p.getClosestPoints(first, second, distance_m, physicsClientId=self._client, **links)
        return found or ()

    def _box(self, box: Box) -> int:
        half = [edge / 2 for edge in box.size_m]
        shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=half, physicsClientId=self._client)
        body: int = p.createMultiBody(0, shape, -1, list(box.position_m), physicsClientId=self._client)
        return body

    def _mesh(self, hulls: Iterable[NDArray[np.float64]]) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hulls.obj"
            path.write_text(hulls_as_obj(hulls), encoding="ascii")
            shape = p.createCollisionShape(p.GEOM_MESH, fileName=str(path), physicsClientId=self._client)
        body: int = p.createMultiBody(0, shape, -1, _NOWHERE, physicsClientId=self._client)
        p.changeDynamics(body, -1, collisionMargin=_MARGIN_M, physicsClientId=self._client)
        return body


def hulls_as_obj(hulls: Iterable[NDArray[np.float64]]) -> str:
    """Write convex pieces as objects of one OBJ file, which PyBullet loads as a compound of their hulls."""
    lines, first = [], 1
    for index, corners in enumerate(hulls):
        lines.append(f"o hull{index}")
        lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in corners]
        lines += [f"f {a} {b} {c}" for a, b, c in ConvexHull(corners).simplices + first]
        first += len(corners)
    return "\n".join(lines) + "\n"
