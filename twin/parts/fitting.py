"""Whether a part is as large as its part file says and fits between the fingers. Lengths are millimetres."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.typing import NDArray

from cell.motion.panda import OPENING_MAX_M
from cell.schema import GraspPoint, PartFile

_OPENING_MM = OPENING_MAX_M * 1000
# The hand holds a part that is up to 4 mm off; the file must be nearer than that to leave room for the part's place.
_WIDTH_TOLERANCE_MM = 2.0
_PAD_MM = (-4.0, 0.0, 4.0)
_BELOW_MM = 0.5


def check_fit(mesh: trimesh.Trimesh, part: PartFile) -> None:
    """Compare a mesh with what its part file says.

    Raises
    ------
    ValueError
        It is of another scale, lies below the place it is put, or does not fit between the fingers; says which.
    """
    extent = float(mesh.extents.max())
    share = extent / part.picture_width_mm
    if not 0.05 < share < 3:
        unit = (
            "metres" if share < 0.01 else "inches" if share < 0.05 else "micrometres" if share > 100 else "another unit"
        )
        raise ValueError(
            f"it is {extent:.4g} mm long, but picture_width_mm is {part.picture_width_mm:g}: is the mesh in {unit}? "
            "State its unit, or correct picture_width_mm"
        )
    bottom = float(mesh.bounds[0, 2])
    if abs(bottom) > _BELOW_MM:
        x, y = mesh.bounds[:, :2].mean(axis=0)
        raise ValueError(
            f"its lowest point is at z = {bottom:.2f} mm, where it would {'stick in' if bottom < 0 else 'float above'} "
            f"the feeder: the frame's origin lies in the plane that it stands on (origin_mm of a mesh file: the point "
            f"that becomes it, here for example [{x:.2f}, {y:.2f}, {bottom:.2f}] more)"
        )
    for grasp in part.grasps:
        _check_grasp(mesh, grasp)


def _check_grasp(mesh: trimesh.Trimesh, grasp: GraspPoint) -> None:
    position = np.array(grasp.position_mm)
    opening = np.array(grasp.opening) / np.linalg.norm(grasp.opening)
    aside = np.cross(opening, grasp.approach)
    reach = _OPENING_MM / 2
    starts = np.array([position + shift * aside for shift in _PAD_MM])
    spans = [_material(mesh, start, opening) for start in starts]
    if any(
        (span[:, 0] < s).any() and (span[:, 1] > s).any() and _covers(span, s)
        for span in spans
        for s in (-reach, reach)
    ):
        raise ValueError(
            f"grasp {grasp.name}: it is wider there than the hand opens ({_OPENING_MM:.0f} mm): "
            "choose a narrower place, or another direction of opening"
        )
    between = [span[(span[:, 0] > -reach) & (span[:, 1] < reach)] for span in spans]
    found = [span for span in between if len(span)]
    if not found:
        raise ValueError(f"grasp {grasp.name}: nothing is between the fingers at {grasp.position_mm} mm")
    width = max(float(span.max() - span.min()) for span in found)
    if abs(width - grasp.width_mm) > _WIDTH_TOLERANCE_MM:
        raise ValueError(
            f"grasp {grasp.name}: it is {width:.1f} mm wide there, but width_mm says {grasp.width_mm:g}: "
            "correct the position or the width"
        )


def _covers(span: NDArray[np.float64], place: float) -> bool:
    return bool(((span[:, 0] < place) & (place < span[:, 1])).any())


def _material(mesh: trimesh.Trimesh, start: NDArray[np.float64], along: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where a line runs inside the mesh: begins and ends (N, 2), measured from `start`."""
    far = 2 * float(np.linalg.norm(mesh.extents)) + float(np.linalg.norm(start - mesh.centroid))
    hits, _, _ = mesh.ray.intersects_location([start - far * along], [along], multiple_hits=True)
    distances = np.unique(np.round((hits - start) @ along, 6)) if len(hits) else np.empty(0)
    return np.reshape(distances[: len(distances) // 2 * 2], (-1, 2))
