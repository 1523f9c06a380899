"""Means and co-moments of every grid position's features, in one pass.

A symmetric or lower-triangular d×d matrix is *packed*: its rows up to the diagonal one after the other,
d(d+1)/2 numbers, row i beginning at i(i+1)/2.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from detection.kernels import CHUNKS, parallel_kernel

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_BATCH = 4  # pictures that join the moments at a time: 0.1 GB of features at 1024², while 1.3 GB are read and written


def packed_length(dimensions: int) -> int:
    """Return the length d(d+1)/2 of a packed d×d triangle."""
    return dimensions * (dimensions + 1) // 2


def unpack_lower(packed: NDArray[np.floating], *, dimensions: int) -> Float64:
    """Lay packed triangles out as full lower-triangular matrices.

    Parameters
    ----------
    packed : (..., d(d+1)/2) float
        Packed rows.
    dimensions : int
        d.

    Returns
    -------
    (..., d, d) float64
        Zero above the diagonal.
    """
    full = np.zeros((*packed.shape[:-1], dimensions, dimensions))
    full[..., *np.tril_indices(dimensions)] = packed
    return full


@dataclass
class Moments:
    """Running mean and co-moment of every position's feature vectors, updated in place.

    Attributes
    ----------
    pictures : int
        Number of pictures seen.
    count : (P,) int64
        Number of pictures that show the position, n: those in which it is not masked.
    mean : (P, d) float64
        Mean feature of each position.
    comoment : (P, d(d+1)/2) float32
        Packed Σ (x − mean)(x − mean)ᵀ; the unbiased covariance is this over n − 1.

    Notes
    -----
    Each batch is centred on its own mean and joined by the pairwise formula, so no large numbers are
    subtracted from each other (Chan, Golub, LeVeque, *Updating formulae and a pairwise algorithm for
    computing sample variances*, 1979). Memory does not depend on the number of pictures.
    """

    pictures: int
    count: NDArray[np.int64]
    mean: Float64
    comoment: Float32

    @classmethod
    def empty(cls, *, positions: int, dimensions: int) -> "Moments":
        """Return the moments of no picture at all."""
        return cls(
            0,
            np.zeros(positions, dtype=np.int64),
            np.zeros((positions, dimensions)),
            np.zeros((positions, packed_length(dimensions)), dtype=np.float32),
        )

    def update(self, features: Float32, *, masked: NDArray[np.bool_] | None = None) -> None:
        """Add a small batch of pictures.

        Parameters
        ----------
        features : (B, P, d) float32
            Features of B pictures, finite.
        masked : (B, P) bool, optional
            True where a picture does not show the position; what it holds there is not used.
        """
        if len(features):
            hidden = np.zeros(features.shape[:2], dtype=np.bool_) if masked is None else masked
            _update(features, hidden, self.count, self.mean, self.comoment)
            self.pictures += len(features)

    def update_each(self, pictures: Iterable[tuple[Float32, NDArray[np.bool_] | None]]) -> None:
        """Add pictures one by one: features (P, d) float32, finite, and which positions (P,) bool are masked."""
        features = np.empty((_BATCH, *self.mean.shape), dtype=np.float32)
        masked = np.zeros((_BATCH, len(self.mean)), dtype=np.bool_)
        waiting = 0
        for one, hidden in pictures:
            features[waiting] = one
            masked[waiting] = False if hidden is None else hidden
            waiting += 1
            if waiting == _BATCH:
                self.update(features, masked=masked)
                waiting = 0
        self.update(features[:waiting], masked=masked[:waiting])

    def scored(self, *, left_out: int = 0) -> NDArray[np.bool_]:
        """Return which positions (P,) bool have a Gaussian; see `shown_often`."""
        return shown_often(self.count, self.pictures, left_out=left_out)

    def copy(self) -> "Moments":
        """Return the same moments in memory of their own."""
        return Moments(self.pictures, self.count.copy(), self.mean.copy(), self.comoment.copy())


def shown_often(count: NDArray[np.int64], pictures: int, *, left_out: int = 0) -> NDArray[np.bool_]:
    """Return which positions (P,) bool at least two of so many pictures show, and half of them.

    With `left_out`, which would be if so many of the pictures that show them were not there.
    """
    enough: NDArray[np.bool_] = count - left_out >= max(2, -(-(pictures - left_out) // 2))
    return enough


@parallel_kernel
def _update(
    features: Float32, masked: NDArray[np.bool_], count: NDArray[np.int64], mean: Float64, comoment: Float32
) -> None:
    batch, positions, dimensions = features.shape
    chunks = min(positions, CHUNKS)
    for chunk in numba.prange(chunks):
        # The batch's deviations from its own mean, and one more row that accounts for the shift of the mean.
        rows = np.empty((batch + 1, dimensions), dtype=np.float32)
        for p in range(chunk * positions // chunks, (chunk + 1) * positions // chunks):
            shown = 0
            for b in range(batch):
                if not masked[b, p]:
                    for j in range(dimensions):
                        rows[shown, j] = features[b, p, j]
                    shown += 1
            if shown == 0:
                continue
            before, total = count[p], count[p] + shown
            shift_weight = np.sqrt(before * shown / total)
            for j in range(dimensions):
                batch_mean = 0.0
                for b in range(shown):
                    batch_mean += rows[b, j]
                batch_mean /= shown
                for b in range(shown):
                    rows[b, j] -= batch_mean
                shift = batch_mean - mean[p, j]
                rows[shown, j] = shift * shift_weight
                mean[p, j] += shift * shown / total
            for b in range(shown + 1):
                start = 0
                for i in range(dimensions):
                    left = rows[b, i]
                    for j in range(i + 1):
                        comoment[p, start + j] += left * rows[b, j]
                    start += i + 1
            count[p] = total
