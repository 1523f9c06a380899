"""Where in a picture the hand is, by the robot's pose and the declared shape of the hand alone."""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

from cell.interfaces import Intrinsics, Pose
from cell.motion.panda import forward, hand_hulls_mm
from cell.projection import field_of_view, pixels_of
from cell.schema import HandShape

# Closer to the lens than this nothing is projected: coordinates in the picture stay finite.
_NEAR_M = 0.01
_SUBPIXEL_BITS = 4
# A picture's first pixel covers 0 to 1, and OpenCV counts from its centre.
_HALF_PIXEL = 0.5
# Directions a little outside of the picture are kept, so that no outline ends inside of it.
_BEYOND = 0.05
# A lens bends straight outlines: each is followed in so many pieces.
_PIECES = 16


def hand_mask(
    hand: HandShape,
    joints_rad: NDArray[np.float64],
    opening_m: float,
    camera: Pose,
    intrinsics: Intrinsics,
) -> NDArray[np.bool_]:
    """Mark the pixels in which the fingers are, or would be if nothing stood before them; on demand the palm too.

    Parameters
    ----------
    hand : HandShape
        What covers a finger, the margin, and whether the palm is marked.
    joints_rad : (7,) float64
        The arm's joint positions at exposure.
    opening_m : float
        Between the fingers, metres.
    camera : Pose
        z along the optical axis, y down in the picture, in the frame of the robot's base.
    intrinsics : Intrinsics
        Of the picture of H × W pixels.

    Returns
    -------
    (H, W) bool
        True on the hand; all False where it is outside of the picture or behind the camera.

    Notes
    -----
    The silhouette of a convex body is the convex hull of its projected corners, and that of several bodies is the
    union of theirs. The margin widens the bodies themselves, so it is as wide at the part as at the back of the hand.
    Where the lens makes an outline hollow, its hull is drawn: a little more than the body covers.
    """
    to_camera = camera.inverse() @ forward(joints_rad)
    drawn = np.zeros((intrinsics.height, intrinsics.width), dtype=np.uint8)
    for corners in _blocks(hand, opening_m):
        seen = _before_the_camera(to_camera.apply(corners))
        if len(seen) == 0:
            continue
        outline = _within_the_picture(seen[:, :2] / seen[:, 2:], intrinsics)
        if len(outline) == 0:
            continue
        pixels = pixels_of(intrinsics, _in_pieces(outline))
        fine = np.rint((pixels - _HALF_PIXEL) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillConvexPoly(drawn, cv2.convexHull(fine), 1, shift=_SUBPIXEL_BITS)
    return drawn.view(np.bool_)


def _blocks(hand: HandShape, opening_m: float) -> list[NDArray[np.float64]]:
    """Corners (N, 3) of every convex piece with its margin, metres in the tool centre point's frame."""
    own = hand_hulls_mm()
    palm = [_widened(corners, hand.margin_mm) for corners in own["palm"]] if hand.palm else []
    if hand.finger is None:
        fingers = own["finger"]
    else:
        fingers = tuple(np.array(list(product(*zip(b.low_mm, b.high_mm, strict=True)))) for b in hand.finger)
    closed = [_widened(corners, hand.margin_mm) for corners in fingers]
    one = [corners + np.array([0.0, opening_m / 2, 0.0]) for corners in closed]
    other = [corners * np.array([-1.0, -1.0, 1.0]) for corners in one]
    return palm + one + other


def _widened(corners_mm: NDArray[np.float64], margin_mm: float) -> NDArray[np.float64]:
    """Return points, metres, whose hull is that of the corners (N, 3), so much wider along each axis."""
    cube = margin_mm * np.array(list(product((-1.0, 1.0), repeat=3)))
    return (corners_mm[:, np.newaxis] + cube).reshape(-1, 3) / 1000


def _before_the_camera(corners_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut a convex body, given by its corners (N, 3) in the camera's frame, at the plane just before the lens.

    Returns
    -------
    (M, 3) float64
        Points whose convex hull is what is left of the body; none where nothing is.
    """
    before, behind = corners_m[corners_m[:, 2] >= _NEAR_M], corners_m[corners_m[:, 2] < _NEAR_M]
    # Lines that are no edges of the body cross the plane inside of it and do not change the hull.
    start, way = before[:, np.newaxis], behind[np.newaxis] - before[:, np.newaxis]
    share = (_NEAR_M - start[..., 2:]) / way[..., 2:]
    return np.concatenate([before, (start + share * way).reshape(-1, 3)])


def _within_the_picture(points: NDArray[np.float64], k: Intrinsics) -> NDArray[np.float64]:
    """Cut the hull of directions (N, 2) at the edges of the field of view (Sutherland and Hodgman, 1974)."""
    outline = cv2.convexHull(points.astype(np.float32)).reshape(-1, 2).astype(np.float64)
    left, top, right, bottom = field_of_view(k)
    wide, high = _BEYOND * (right - left), _BEYOND * (bottom - top)
    for axis, sign, edge in ((0, 1, left - wide), (1, 1, top - high), (0, -1, -right - wide), (1, -1, -bottom - high)):
        kept: list[NDArray[np.float64]] = []
        for start, end in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            inside, outside = sign * start[axis] - edge, sign * end[axis] - edge
            if inside >= 0:
                kept.append(start)
            if inside * outside < 0:
                kept.append(start + (end - start) * inside / (inside - outside))
        if not kept:
            return np.empty((0, 2))
        outline = np.array(kept)
    return outline


def _in_pieces(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the corners (N, 2) of an outline and points between them."""
    share = np.arange(_PIECES)[:, np.newaxis, np.newaxis] / _PIECES
    points: NDArray[np.float64] = outline + share * (np.roll(outline, -1, axis=0) - outline)
    return points.reshape(-1, 2)
