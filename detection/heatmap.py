"""From a grid of distances to a smooth heatmap of the picture, and between their resolutions."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

STRIDE = 4
"""Pixels of the network's input for each grid position: those of its first layer used."""


def smooth_heatmap(
    distances: Float32, *, resolution: int, sigma: float = 4.0, hidden: NDArray[np.bool_] | None = None
) -> Float32:
    """Enlarge distances to the picture's size and smooth them.

    Parameters
    ----------
    distances : (g, g) float32
        Mahalanobis distance of each grid position.
    resolution : int
        Side R of the picture.
    sigma : float
        Standard deviation of the Gaussian filter in pixels of the picture, > 0.
    hidden : (g, g) bool, optional
        Positions of which nothing is known. What stands there does not flow into its neighbours.

    Returns
    -------
    (R, R) float32
        Bilinear between the centres of the grid's cells, then filtered, cut off at 4σ and mirrored at the rim
        (the edge pixel twice, SciPy's "reflect"). With `hidden` the weights of the known positions add up to 1
        everywhere (Knutsson, Westin, *Normalized and differential convolution*, 1993); 0 stands where there is none.
    """
    if hidden is None:
        return _smooth(distances, resolution, sigma)
    weight = _smooth((~hidden).astype(np.float32), resolution, sigma)
    known = _smooth(np.where(hidden, np.float32(0), distances), resolution, sigma)
    return np.divide(known, weight, out=np.zeros_like(known), where=weight > np.finfo(np.float32).eps)


def heatmap_of(
    squared: NDArray[np.float32], hidden: NDArray[np.bool_] | None = None, *, sigma: float
) -> NDArray[np.float32]:
    """Return the smooth heatmap (R, R) float32 of squared distances (P,) float32, of which some may be `hidden`."""
    grid = math.isqrt(len(squared))
    unknown = hidden.reshape(grid, grid) if hidden is not None and hidden.any() else None
    return smooth_heatmap(np.sqrt(squared).reshape(grid, grid), resolution=STRIDE * grid, sigma=sigma, hidden=unknown)


def enlarged(distances: Float32, *, resolution: int, sigma: float, hidden: NDArray[np.bool_]) -> Float32:
    """Smooth distances on their own grid, then enlarge them to the picture's size.

    Parameters
    ----------
    distances : (g, g) float32
        Mahalanobis distance of each grid position.
    resolution : int
        Side R of the picture.
    sigma : float
        Standard deviation of the Gaussian filter in grid positions, ≥ 0; mirrored at the rim.
    hidden : (g, g) bool
        Positions of which nothing is known. What stands there does not flow into its neighbours.

    Returns
    -------
    (R, R) float32
        Bilinear between the centres of the grid's cells; 0 where nothing is known.
    """
    known = (~hidden).astype(np.float32)
    fields = [np.where(hidden, np.float32(0), distances), known]
    if sigma > 0:
        fields = [cv2.GaussianBlur(field, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for field in fields]
        fields = [field * known for field in fields]
    value, weight = (cv2.resize(field, (resolution, resolution), interpolation=cv2.INTER_LINEAR) for field in fields)
    return np.divide(value, weight, out=np.zeros_like(value), where=weight > np.finfo(np.float32).eps)


def positions_of(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the grid positions (P,) bool of which any pixel is marked in (R, R) bool."""
    grid = len(pixels) // STRIDE
    return pixels.reshape(grid, STRIDE, grid, STRIDE).any(axis=(1, 3)).reshape(-1)


def pixels_of(positions: NDArray[np.bool_], *, resolution: int) -> NDArray[np.bool_]:
    """Return the pixels (R, R) bool of marked positions (P,) bool of any grid."""
    grid = math.isqrt(len(positions))
    return positions.reshape(grid, grid).repeat(resolution // grid, axis=0).repeat(resolution // grid, axis=1)


def _smooth(distances: Float32, resolution: int, sigma: float) -> Float32:
    enlarged = cv2.resize(distances, (resolution, resolution), interpolation=cv2.INTER_LINEAR)
    width = 2 * int(4 * sigma + 0.5) + 1
    smooth = cv2.GaussianBlur(enlarged, (width, width), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(smooth, dtype=np.float32)
