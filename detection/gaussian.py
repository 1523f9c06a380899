"""One Gaussian for each grid position: moments in one pass, then packed whitening factors.

A symmetric or lower-triangular d×d matrix is *packed*: its rows up to the diagonal one after the other,
d(d+1)/2 numbers, row i beginning at i(i+1)/2.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from detection.errors import ModelError
from detection.kernels import CHUNKS, parallel_kernel

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


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
    count : int
        Number of pictures seen, n.
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

    count: int
    mean: Float64
    comoment: Float32

    @classmethod
    def empty(cls, *, positions: int, dimensions: int) -> "Moments":
        """Return the moments of no picture at all."""
        return cls(
            0,
            np.zeros((positions, dimensions)),
            np.zeros((positions, packed_length(dimensions)), dtype=np.float32),
        )

    def update(self, features: Float32) -> None:
        """Add a small batch of pictures.

        Parameters
        ----------
        features : (B, P, d) float32
            Features of B pictures, finite.
        """
        if len(features):
            _update(features, self.count, self.mean, self.comoment)
            self.count += len(features)


def whitening_factors(moments: Moments, *, epsilon: float, left_out: int = 0, out: Float32 | None = None) -> Float32:
    """Packed inverse Cholesky factors of every position's regularised covariance.

    Parameters
    ----------
    moments : Moments
        Of at least two pictures.
    epsilon : float
        Added to the covariance's diagonal, > 0; 0.01 in the paper.
    left_out : int
        1 for the factors that `leave_one_out` needs: the co-moment is divided by one picture less.
    out : (P, d(d+1)/2) float32, optional
        Where to write; may be `moments.comoment` itself, which is then lost.

    Returns
    -------
    (P, d(d+1)/2) float32
        Rows of L⁻¹ with L Lᵀ = Σ + epsilon·I and Σ the unbiased covariance, computed in float64.

    Raises
    ------
    ModelError
        With fewer than two pictures, or when a feature was not finite.

    Notes
    -----
    Defard et al., *PaDiM*, 2021, eq. 1.
    """
    degrees = moments.count - 1 - left_out
    if degrees < 1:
        raise ModelError(
            f"{moments.count} training picture(s) have no covariance: train with at least {2 + left_out}, "
            "better 50 and more"
        )
    factors = np.empty_like(moments.comoment) if out is None else out
    _whiten(moments.comoment, 1.0 / degrees, epsilon, factors)
    if not np.isfinite(factors[:, -1]).all():
        raise ModelError("the training features are not finite: check the backbone's weights and the pictures")
    return factors


def leave_one_out(squared: Float32, *, count: int) -> Float32:
    """Squared distances of training pictures to the Gaussians of all the other training pictures.

    Parameters
    ----------
    squared : (...) float32
        s = δᵀ(C/(n−2) + εI)⁻¹δ of a training picture, with δ its deviation from the mean of all pictures and C
        their co-moment: `squared_mahalanobis` with the factors of ``left_out=1``.
    count : int
        Number of training pictures n, at least 3.

    Returns
    -------
    (...) float32
        Exactly what training without the picture would give, up to rounding.

    Notes
    -----
    Leaving a picture out shifts the mean by δ/(n−1) and takes n/(n−1)·δδᵀ from C. By Sherman and Morrison's
    formula (1950) its squared distance is then (n/(n−1))²·s / (1 − n/((n−1)(n−2))·s).
    """
    n = float(count)
    # Not negative in exact arithmetic; at this bound a distance of 10⁵ is reached, beyond any that decides.
    remaining = np.maximum(1.0 - n / ((n - 1) * (n - 2)) * squared.astype(np.float64), 1e-9)
    return ((n / (n - 1)) ** 2 * squared / remaining).astype(np.float32)


@parallel_kernel
def _update(features: Float32, count: int, mean: Float64, comoment: Float32) -> None:
    batch, positions, dimensions = features.shape
    total = count + batch
    for p in numba.prange(positions):
        # The batch's deviations from its own mean, and one more row that accounts for the shift of the mean.
        rows = np.empty((batch + 1, dimensions), dtype=np.float32)
        shift_weight = np.sqrt(count * batch / total)
        for j in range(dimensions):
            batch_mean = 0.0
            for b in range(batch):
                batch_mean += features[b, p, j]
            batch_mean /= batch
            for b in range(batch):
                rows[b, j] = features[b, p, j] - batch_mean
            shift = batch_mean - mean[p, j]
            rows[batch, j] = shift * shift_weight
            mean[p, j] += shift * batch / total
        for b in range(batch + 1):
            start = 0
            for i in range(dimensions):
                left = rows[b, i]
                for j in range(i + 1):
                    comoment[p, start + j] += left * rows[b, j]
                start += i + 1


@parallel_kernel
def _whiten(comoment: Float32, scale: float, epsilon: float, out: Float32) -> None:
    # Row i of L is L⁻¹ (rows before i) times row i of Σ; row i of L⁻¹ follows from it and the rows before.
    # So L is never stored, Σ's row i is read once and may be overwritten, and inner loops are contiguous.
    positions = comoment.shape[0]
    dimensions = int((np.sqrt(8.0 * comoment.shape[1] + 1.0) - 1.0) / 2.0 + 0.5)
    chunks = min(positions, CHUNKS)
    for chunk in numba.prange(chunks):
        inverse = np.zeros((dimensions, dimensions))
        row = np.empty(dimensions)
        left = np.empty(dimensions)
        for p in range(chunk * positions // chunks, (chunk + 1) * positions // chunks):
            start = 0
            for i in range(dimensions):
                for j in range(i + 1):
                    row[j] = comoment[p, start + j] * scale
                pivot = row[i] + epsilon
                for k in range(i):
                    total = 0.0
                    for j in range(k + 1):
                        total += inverse[k, j] * row[j]
                    left[k] = total
                    pivot -= total * total
                diagonal = 1.0 / np.sqrt(pivot)
                for j in range(i):
                    row[j] = 0.0
                for k in range(i):
                    factor = left[k] * diagonal
                    for j in range(k + 1):
                        row[j] -= factor * inverse[k, j]
                row[i] = diagonal
                for j in range(i + 1):
                    inverse[i, j] = row[j]
                    out[p, start + j] = row[j]
                start += i + 1
