"""Pictures with PyBullet's TinyRenderer, which needs no system library."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import cv2
import numpy as np
import pybullet as p

from cell.schema import Scene
from twin.rendering.bodies import Bodies
from twin.rendering.geometry import NOTHING, Geometry
from twin.rendering.pinhole import Pinhole
from twin.snapshot import Snapshot

# TinyRenderer draws everything half a pixel too far right and up.
_SHIFT = 0.5


class TinyScene:
    """The cell as TinyRenderer draws it; see `twin.rendering.geometry.Renderer`.

    Its time goes by pixels. The part and the fingers are drawn at full size. What lies around them, the arm in its
    dark sleeve and the cell's boxes, is out of focus: drawn at half size, it is laid behind or before them by depth.
    """

    def __init__(self, scene: Scene, *, pan_m: float) -> None:
        self._scene = scene
        self._pan_m = pan_m

    def __enter__(self) -> Self:
        self._clients = p.connect(p.DIRECT), p.connect(p.DIRECT)
        held, around = self._clients
        self._near = Bodies(held, self._scene, pan_m=self._pan_m, held=True, around=False)
        self._around = Bodies(around, self._scene, pan_m=self._pan_m, held=False, around=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            p.disconnect(physicsClientId=client)

    def render(self, snapshot: Snapshot, camera: Pinhole) -> Geometry:
        """Draw what a camera sees, without distortion."""
        k = camera.intrinsics
        near = _draw(self._near, snapshot, camera)
        around = _draw(self._around, snapshot, camera.resized(max(1, k.width // 2), max(1, k.height // 2)))
        size = (k.width, k.height)
        surface = cv2.resize(around.surface, size, interpolation=cv2.INTER_NEAREST)
        # The inverse of depth is what runs straight over a plane.
        depth = 1 / cv2.resize(1 / around.depth_m, size, interpolation=cv2.INTER_LINEAR)
        before = (surface != NOTHING) & (depth < near.depth_m)
        np.copyto(near.depth_m, depth, where=before)
        np.copyto(near.surface, surface, where=before)
        return near


def _draw(bodies: Bodies, snapshot: Snapshot, camera: Pinhole) -> Geometry:
    bodies.pose(snapshot)
    width, height = camera.intrinsics.width, camera.intrinsics.height
    drawn = Geometry(np.empty((height, width), np.float32), np.empty((height, width), np.uint8))
    bodies.take(camera, (0, 0, width, height), renderer=p.ER_TINY_RENDERER, flags=0, shift=_SHIFT, out=drawn)
    return drawn
