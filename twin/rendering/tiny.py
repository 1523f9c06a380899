"""Pictures with PyBullet's TinyRenderer, which needs no system library."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
import pybullet as p

from cell.schema import Scene
from twin.rendering.bodies import Bodies
from twin.rendering.geometry import Geometry
from twin.rendering.pinhole import Pinhole
from twin.snapshot import Snapshot

# TinyRenderer draws everything half a pixel too far right and up.
_SHIFT = 0.5


class TinySurroundings:
    """The arm and the cell's boxes as TinyRenderer draws them; see `twin.rendering.geometry.Renderer`."""

    def __init__(self, scene: Scene, *, pan_m: float) -> None:
        self._scene = scene
        self._pan_m = pan_m

    def __enter__(self) -> Self:
        self._client = p.connect(p.DIRECT)
        self._bodies = Bodies(self._client, self._scene, pan_m=self._pan_m)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        p.disconnect(physicsClientId=self._client)

    def render(self, snapshot: Snapshot, camera: Pinhole) -> Geometry:
        """Draw what a camera sees, without distortion."""
        self._bodies.pose(snapshot)
        width, height = camera.intrinsics.width, camera.intrinsics.height
        drawn = Geometry(np.empty((height, width), np.float32), np.empty((height, width), np.uint8))
        self._bodies.take(camera, (0, 0, width, height), renderer=p.ER_TINY_RENDERER, flags=0, shift=_SHIFT, out=drawn)
        return drawn
