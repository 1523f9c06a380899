"""What good parts are known to show, dust, fibres and glints: peaks that look like one of these count less."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.heatmap import STRIDE
from detection.shared import SharedGaussians

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

_RADIUS = 4  # grid positions, a heatmap's peak with its flanks: what lies nearer to a higher peak belongs to that


@dataclass(frozen=True)
class Peaks:
    """Where a heatmap is highest, and how the picture differs from good ones there.

    Attributes
    ----------
    positions : (m,) int64
        Grid positions, highest first.
    heights : (m,) float32
        Of the highest valid pixel of each.
    directions : (m, d) float32
        Of length 1; see `SharedGaussians.directions`.
    """

    positions: NDArray[np.int64]
    heights: Float32
    directions: Float32


def peaks_of(
    heatmap: Float32, valid: Mask, features: Float32, gaussians: SharedGaussians, *, hidden: Mask, count: int
) -> Peaks:
    """Find the highest peaks of a heatmap.

    Parameters
    ----------
    heatmap : (R, R) float32
        Distances.
    valid : (R, R) bool
        Pixels that count.
    features : (P, d) float32
        Of the picture.
    gaussians : SharedGaussians
        That the heatmap is from.
    hidden : (P,) bool
        Positions of which nothing is known.
    count : int
        How many to find at most, > 0.
    """
    grid = len(heatmap) // STRIDE
    cells = np.where(valid, heatmap, 0).reshape(grid, STRIDE, grid, STRIDE).max(axis=(1, 3)).astype(np.float32)
    left, found = cells.copy(), list[int]()
    while len(found) < count and left.max() > 0:
        found.append(int(left.argmax()))
        row, column = divmod(found[-1], grid)
        cv2.circle(left, (column, row), _RADIUS, 0, cv2.FILLED)
    positions = np.array(found, dtype=np.int64)
    return Peaks(positions, cells.reshape(-1)[positions], gaussians.directions(features, positions, hidden=hidden))


def novelty(directions: Float32, known: Iterable[Float32]) -> Float32:
    """How little peaks look like what is known.

    Parameters
    ----------
    directions : (m, d) float32
        Of peaks; see `Peaks.directions`.
    known : iterable of (K, d) float32
        Directions of peaks of good pictures.

    Returns
    -------
    (m,) float32
        √(1 − cos) of the angle to the nearest of them, at most 1: 0 for the same direction, whatever the strength.
    """
    nearest = np.zeros(len(directions), dtype=np.float32)
    for some in known:
        if some.size and nearest.size:
            np.maximum(nearest, (directions @ some.T).max(axis=1), out=nearest)
    return np.asarray(np.sqrt(1 - np.clip(nearest, 0, 1)), dtype=np.float32)


def discounted(heatmap: Float32, peaks: Peaks, factors: Float32) -> Float32:
    """Multiply a heatmap by the novelty of its peaks.

    Parameters
    ----------
    heatmap : (R, R) float32
        Distances.
    peaks : Peaks
        Of the heatmap.
    factors : (m,) float32
        For each peak.

    Returns
    -------
    (R, R) float32
        Each pixel times the factor of the highest peak that it is a flank of, or else of the nearest peak. So the
        highest valid pixel is max(heights · factors): a flank is lower than its peak, and what is none than all peaks.
    """
    if not len(factors):
        return heatmap
    grid = len(heatmap) // STRIDE
    places = np.stack(np.divmod(peaks.positions, grid), axis=1)
    along = np.arange(grid)
    rows, columns = places.T[:, :, np.newaxis, np.newaxis]
    field = factors[((along[:, np.newaxis] - rows) ** 2 + (along - columns) ** 2).argmin(axis=0)]
    for (row, column), factor in zip(places[::-1].tolist(), factors[::-1].tolist(), strict=True):
        cv2.circle(field, (column, row), _RADIUS, factor, cv2.FILLED)
    return np.asarray(heatmap * field.repeat(STRIDE, axis=0).repeat(STRIDE, axis=1), dtype=np.float32)


def held_out_novelty(seen: Sequence[Sequence[Peaks]], known: Sequence[Float32]) -> list[list[Float32]]:
    """Novelty of every peak by what all other parts, and only they, are known to show.

    Parameters
    ----------
    seen : sequence of sequence of Peaks
        By view and part.
    known : sequence of (K, d) float32
        Directions that are known beside these.

    Returns
    -------
    list of list of (m,) float32
        By view and part.
    """
    parts = len(seen[0])
    shown = [np.concatenate([view[i].directions for view in seen]) for i in range(parts)]
    return [[novelty(view[i].directions, [*known, *shown[:i], *shown[i + 1 :]]) for i in range(parts)] for view in seen]
