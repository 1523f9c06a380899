"""Pictures with PyBullet's OpenGL renderer on EGL: no screen, and with Mesa no graphics card."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from types import TracebackType
from typing import Self

import numpy as np
import pybullet as p

from cell.schema import Scene
from twin.rendering.bodies import Bodies
from twin.rendering.geometry import Geometry
from twin.rendering.pinhole import Pinhole
from twin.snapshot import Snapshot

# The plugin's frame buffer stays at 1024 × 768 pixels whatever is asked for; larger pictures are upscaled copies.
_TILE = (1024, 768)
# Without this flag it draws a shadow map of 4096² first, for shadows that we do not use.
_NO_SHADOW_MAP = p.ER_USE_PROJECTIVE_TEXTURE
_PLUGIN = "_eglRendererPlugin"
_PROBE_S = 60


@cache
def egl_found() -> bool:
    """Whether pictures can be drawn on EGL here; asked once in a process.

    The plugin ends its process where EGL is missing or cannot start, so another process tries.
    """
    load = f"p.loadPlugin({_library()!r}, {_PLUGIN!r}, physicsClientId=p.connect(p.DIRECT))"
    probe = f"import pybullet as p; assert {load} >= 0"
    try:
        tried = subprocess.run([sys.executable, "-c", probe], capture_output=True, timeout=_PROBE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def _library() -> str:
    """Path of the plugin, which comes with PyBullet; empty where this build of PyBullet has none."""
    spec = importlib.util.find_spec("eglRenderer")
    return spec.origin if spec is not None and spec.origin else ""


class EglSurroundings:
    """The arm and the cell's boxes as OpenGL draws them, in tiles; see `twin.rendering.geometry.Renderer`."""

    def __init__(self, scene: Scene, *, pan_m: float) -> None:
        self._scene = scene
        self._pan_m = pan_m

    def __enter__(self) -> Self:
        self._client = p.connect(p.DIRECT)
        with _silence():
            self._plugin = p.loadPlugin(_library(), _PLUGIN, physicsClientId=self._client)
        self._bodies = Bodies(self._client, self._scene, pan_m=self._pan_m)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _silence():
            p.unloadPlugin(self._plugin, physicsClientId=self._client)
            p.disconnect(physicsClientId=self._client)

    def render(self, snapshot: Snapshot, camera: Pinhole) -> Geometry:
        """Draw what a camera sees, without distortion."""
        self._bodies.pose(snapshot)
        width, height = camera.intrinsics.width, camera.intrinsics.height
        drawn = Geometry(np.empty((height, width), np.float32), np.empty((height, width), np.uint8))
        for top, bottom in _split(height, _TILE[1]):
            for left, right in _split(width, _TILE[0]):
                self._bodies.take(
                    camera,
                    (left, top, right, bottom),
                    renderer=p.ER_BULLET_HARDWARE_OPENGL,
                    flags=_NO_SHADOW_MAP,
                    shift=0.0,
                    out=Geometry(drawn.depth_m[top:bottom, left:right], drawn.surface[top:bottom, left:right]),
                )
        return drawn


def _split(length: int, most: int) -> list[tuple[int, int]]:
    """Cut a length into pieces of at most so much, about equally long."""
    edges = np.linspace(0, length, -(-length // most) + 1).astype(int).tolist()
    return list(pairwise(edges))


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what the plugin tells about the graphics driver away from the standard output."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        # What the plugin printed still lies in C's own buffer.
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
