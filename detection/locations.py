"""Where in the camera's frame a heatmap is anomalous."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.decisions import Heatmap
from detection.geometry import Box, Geometry, Mask


@dataclass(frozen=True)
class Location:
    """A connected region of the frame that is anomalous.

    Attributes
    ----------
    box : Box
        All pixels of the frame that the region touches.
    contour : (N, 2) float64
        Its outer outline, a closed polygon of x, y in pixels of the frame; whole numbers are pixels' centres, as
        in OpenCV. Holes are not traced.
    peak : float
        Its largest distance.
    peak_at : (float, float)
        x, y of that in the frame.
    area_px : float
        Its area, without holes, in pixels of the frame.
    """

    box: Box
    contour: NDArray[np.float64]
    peak: float
    peak_at: tuple[float, float]
    area_px: float


def locate(heatmap: Heatmap, valid: Mask, *, threshold: float, geometry: Geometry) -> tuple[Location, ...]:
    """Regions of a picture that reach a threshold, in pixels of the frame.

    Parameters
    ----------
    heatmap : (R, R) float32
        Distances over the prepared picture.
    valid : (R, R) bool
        Pixels that count.
    threshold : float
        Regions are the 8-connected clusters of valid pixels ≥ this, of any size.
    geometry : Geometry
        How the frame became the prepared picture.

    Returns
    -------
    tuple of Location
        The largest peak first. Boxes and contours lie within what was kept of the frame.
    """
    # As a float64: NumPy would round a plain number to float32, and a threshold just above a pixel down to it.
    reached = (heatmap >= np.float64(threshold)) & valid
    count, labels, stats, _ = cv2.connectedComponentsWithStats(reached.astype(np.uint8), connectivity=8)
    axes = geometry.to_frame([(0, 0), (1, 0), (0, 1)])
    pixel_area = abs(float(np.linalg.det(axes[1:] - axes[0])))
    kept = geometry.kept
    first, last = (kept.left, kept.top), (kept.right - 1, kept.bottom - 1)
    found = []
    for number in range(1, count):
        left, top, width, height, pixels = (int(value) for value in stats[number])
        window = slice(top, top + height), slice(left, left + width)
        inside = labels[window] == number
        outline = geometry.to_frame(_outline(inside) + np.array((left, top)))
        peak = np.where(inside, heatmap[window], -np.inf)
        row, column = np.unravel_index(int(peak.argmax()), peak.shape)
        x, y = np.clip(geometry.to_frame([(left + column, top + row)])[0], first, last)
        found.append(
            Location(
                box=_box_around(outline, kept),
                contour=np.clip(outline, first, last),
                peak=float(peak[row, column]),
                peak_at=(float(x), float(y)),
                area_px=pixels * pixel_area,
            )
        )
    return tuple(sorted(found, key=lambda location: -location.peak))


def _outline(region: Mask) -> NDArray[np.float64]:
    """Outer outline (N, 2) of one 8-connected region, x and y, along the edges of its pixels.

    `findContours` runs through the centres of pixels, and would make a line of a scratch one pixel wide. So it is
    given a lattice of twice the density that holds the pixels' corners, too.
    """
    height, width = region.shape
    lattice = np.zeros((2 * height + 1, 2 * width + 1), dtype=np.uint8)
    lattice[1::2, 1::2] = region
    corners = cv2.dilate(lattice, np.ones((3, 3), dtype=np.uint8))
    (polygon,), _ = cv2.findContours(corners, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return np.asarray(polygon[:, 0, :], dtype=np.float64) / 2 - 0.5


def _box_around(outline: NDArray[np.float64], kept: Box) -> Box:
    # A pixel reaches half a pixel to either side of its centre.
    left, top = np.floor(outline.min(axis=0) + 0.5).astype(int).tolist()
    right, bottom = np.ceil(outline.max(axis=0) + 0.5).astype(int).tolist()
    return Box(max(kept.top, top), max(kept.left, left), min(kept.bottom, bottom), min(kept.right, right))
