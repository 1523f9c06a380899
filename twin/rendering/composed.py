"""A picture's geometry: what is in focus triangle by triangle, before what a renderer draws around it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numba import prange
from numpy.typing import NDArray

from cell.motion.panda import forward
from detection.kernels import parallel_kernel
from twin.rendering.geometry import ARM, FINGER, NOTHING, PART, Geometry, Renderer
from twin.rendering.hand import fingers_m, palm_m
from twin.rendering.pinhole import Pinhole
from twin.rendering.raster import nearest_faces, project_triangles
from twin.snapshot import Snapshot


class ComposedScene:
    """The cell as the camera sees it; see `twin.rendering.geometry.Renderer`.

    The part, the fingers and the palm are drawn triangle by triangle, at the middle of each pixel, the same whatever
    draws the rest. The arm in its dark sleeve and the cell's boxes are mostly far out of focus: `around` draws them at
    half size, and they are laid behind or before by depth.
    """

    def __init__(self, around: Renderer) -> None:
        self.around = around

    def __enter__(self) -> Self:
        self.around.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.around.__exit__(kind, error, trace)

    def render(self, snapshot: Snapshot, camera: Pinhole) -> Geometry:
        """Draw what a camera sees, without distortion."""
        k = camera.intrinsics
        to_camera = camera.pose.inverse()
        hand = to_camera @ forward(snapshot.joints)
        palm, fingers = hand.apply(palm_m()), hand.apply(fingers_m(snapshot.fingers_m))
        part = np.empty((0, 3, 3))
        if snapshot.part is not None and snapshot.part_pose is not None:
            part = (to_camera @ snapshot.part_pose).apply(np.asarray(snapshot.part.mesh.triangles) / 1000)
        triangles = project_triangles(np.concatenate([part, palm, fingers]), k)
        faces, depth = nearest_faces(triangles, k.height, k.width)
        kinds = np.repeat(np.array([PART, ARM, FINGER], np.uint8), [len(part), len(palm), len(fingers)])

        around = self.around.render(snapshot, camera.resized(max(1, k.width // 2), max(1, k.height // 2)))
        surface, inverse = _enlarged(around, (k.width, k.height))
        _compose(kinds, len(part), inverse, depth, surface, faces)
        return Geometry(depth, surface, faces)


def _enlarged(drawn: Geometry, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return surfaces and inverse depths (H, W), 1/m, of a size (W, H) from about half of it."""
    beside = np.ones((3, 3), np.uint8)
    rim = (cv2.dilate(drawn.surface, beside) != cv2.erode(drawn.surface, beside)).astype(np.uint8)
    near = 1 / drawn.depth_m
    surface, rim, stepped = (
        cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST_EXACT) for plane in (drawn.surface, rim, near)
    )
    # The inverse of depth is what runs straight over a plane; at its rim nothing runs on.
    inverse = np.where(rim, stepped, cv2.resize(near, size, interpolation=cv2.INTER_LINEAR))
    return np.asarray(surface, np.uint8), np.asarray(inverse, np.float32)


@parallel_kernel
def _compose(
    kinds: NDArray[np.uint8],
    n_part: int,
    inverse: NDArray[np.float32],
    depth: NDArray[np.float32],
    surface: NDArray[np.uint8],
    faces: NDArray[np.int32],
) -> None:
    """Lay triangles, their numbers and depths, over what is around, its inverse depths and surfaces, in place."""
    height, width = faces.shape
    for y in prange(height):
        for x in range(width):
            face = faces[y, x]
            if surface[y, x] != NOTHING and inverse[y, x] * depth[y, x] > 1:
                depth[y, x] = 1 / inverse[y, x]
                faces[y, x] = -1
            elif face >= 0:
                surface[y, x] = kinds[face]
                if face >= n_part:
                    faces[y, x] = -1
            else:
                surface[y, x] = NOTHING
