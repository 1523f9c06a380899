"""Mahalanobis distances from packed whitening factors, and the plain reference they are tested against."""

from functools import partial
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from detection.kernels import CHUNKS, parallel_kernel
from detection.vectors import LANES, load, prefetch, spread, total, widened

_SHORT = 5  # rows: with the sixth, a position has more numbers than a vector


def squared_mahalanobis(
    features: NDArray[np.float32],
    mean: NDArray[np.float32],
    factors: NDArray[np.float32] | NDArray[np.uint16],
    *,
    out: NDArray[np.float32],
) -> None:
    """Squared Mahalanobis distance of every patch to its own Gaussian.

    Parameters
    ----------
    features : (B, P, d) float32
        Features of one picture or a small batch, a row for each of the P grid positions.
    mean : (P, d) float32
        Means μ of the positions.
    factors : (P, d(d+1)/2) float32 or uint16
        Rows of the lower-triangular whitening factor L⁻¹ (Σ = L Lᵀ), packed row by row; uint16 holds
        bfloat16 numbers, the upper halves of float32.
    out : (B, P) float32
        Overwritten with ‖L⁻¹ (x − μ)‖² ≥ 0.

    Notes
    -----
    Reads each factor once whatever the batch, so the time of one picture is the factors' size over memory
    bandwidth; sums are float32.
    Defard et al., *PaDiM*, 2021, eq. 2.
    """
    _squared(features, mean, factors, out)


def reference_squared_mahalanobis(delta: NDArray[np.floating], covariance: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the same in float64 with an inverse covariance for each position.

    Parameters
    ----------
    delta : (P, d) float
        Feature minus mean.
    covariance : (P, d, d) float
        Regularised covariance of each position.

    Returns
    -------
    (P,) float64
        δᵀ Σ⁻¹ δ.
    """
    precision = np.linalg.inv(covariance.astype(np.float64))
    wide = delta.astype(np.float64)
    distances: NDArray[np.float64] = np.einsum("pi,pij,pj->p", wide, precision, wide)
    return distances


@partial(
    parallel_kernel,
    signatures=[
        "void(float32[:,:,::1], float32[:,::1], float32[:,::1], float32[:,::1])",
        "void(float32[:,:,::1], float32[:,::1], uint16[:,::1], float32[:,::1])",
    ],
)
def _squared(
    features: NDArray[np.float32], mean: NDArray[np.float32], factors: NDArray[Any], out: NDArray[np.float32]
) -> None:
    # A row is read in whole vectors from its end back; what the last of them holds of the rows before meets zeros in
    # front of δ. What the next position has in the same place is asked for meanwhile: by itself the processor looks
    # ahead no further than its instructions, which is too late for memory.
    batch, positions, dimensions = features.shape
    length = factors.shape[1]
    flat = factors.reshape(-1)
    chunks = min(positions, CHUNKS)
    for chunk in numba.prange(chunks):
        delta = np.zeros(LANES + dimensions, dtype=np.float32)
        for p in range(chunk * positions // chunks, (chunk + 1) * positions // chunks):
            for b in range(batch):
                for j in range(dimensions):
                    delta[LANES + j] = features[b, p, j] - mean[p, j]
                squared = np.float32(0.0)
                end = 0
                for i in range(min(dimensions, _SHORT)):
                    start, end = end, end + i + 1
                    row = np.float32(0.0)
                    for j in range(i + 1):
                        row += widened(factors[p, start + j]) * delta[LANES + j]
                    squared += row * row
                end += p * length
                for i in range(_SHORT, dimensions):
                    end += i + 1
                    sums = spread(np.float32(0.0))
                    for back in range(LANES, i + 1 + LANES, LANES):
                        prefetch(flat, end - back + length)
                        sums = sums + load(flat, end - back) * load(delta, LANES + i + 1 - back)
                    row = total(sums)
                    squared += row * row
                out[b, p] = squared
