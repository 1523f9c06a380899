"""From directions to pixels and back, with the lens's distortion (Brown, 1966, in OpenCV's terms)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import Intrinsics

_ITERATIONS = 12
_BORDER_POINTS = 33


def distort(k: Intrinsics, rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where a lens brings the directions (..., 2) = (x/z, y/z): directions as a pinhole would see them."""
    x, y = rays[..., 0], rays[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k.k1 + r2 * k.k2)
    return np.stack(
        [
            x * radial + 2 * k.p1 * x * y + k.p2 * (r2 + 2 * x * x),
            y * radial + k.p1 * (r2 + 2 * y * y) + 2 * k.p2 * x * y,
        ],
        axis=-1,
    )


def undistort(k: Intrinsics, bent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the directions (..., 2) that `distort` brings to `bent`, by fixed-point iteration."""
    rays = bent
    for _ in range(_ITERATIONS):
        rays = rays + (bent - distort(k, rays))
    return rays


def pixels_of(k: Intrinsics, rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pixel coordinates (..., 2), x then y, in which directions (..., 2) = (x/z, y/z) are seen.

    Only for directions about as far out as the picture reaches: far beyond, the polynomial turns back.
    """
    return distort(k, rays) * (k.fx, k.fy) + (k.cx, k.cy)


def rays_of(k: Intrinsics, pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the directions (..., 2) = (x/z, y/z) that pixel coordinates (..., 2) see."""
    return undistort(k, (pixels - (k.cx, k.cy)) / (k.fx, k.fy))


@lru_cache(maxsize=8)
def field_of_view(k: Intrinsics) -> tuple[float, float, float, float]:
    """Return the smallest rectangle of directions, left, top, right, bottom, that holds all of the picture."""
    across, down = np.linspace(0, k.width, _BORDER_POINTS), np.linspace(0, k.height, _BORDER_POINTS)
    border = [np.stack(np.broadcast_arrays(across, edge), -1) for edge in (0.0, float(k.height))]
    border += [np.stack(np.broadcast_arrays(edge, down), -1) for edge in (0.0, float(k.width))]
    rays = rays_of(k, np.concatenate(border))
    (left, top), (right, bottom) = rays.min(axis=0), rays.max(axis=0)
    return float(left), float(top), float(right), float(bottom)
