"""Mahalanobis distances from packed whitening factors, and the plain reference they are tested against."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from detection.kernels import CHUNKS, parallel_kernel


def squared_mahalanobis(
    delta: NDArray[np.float32],
    factors: NDArray[np.float32] | NDArray[np.uint16],
    *,
    out: NDArray[np.float32],
) -> None:
    """Squared Mahalanobis distance of every patch to its own Gaussian.

    Parameters
    ----------
    delta : (P, d) float32
        Feature minus mean, a row for each of the P grid positions.
    factors : (P, d(d+1)/2) float32 or uint16
        Rows of the lower-triangular whitening factor L⁻¹ (Σ = L Lᵀ), packed row by row; uint16 holds
        bfloat16 numbers (see `to_bfloat16`).
    out : (P,) float32
        Overwritten with ‖L⁻¹ δ‖² ≥ 0.

    Notes
    -----
    Reads each factor once, so the time is the factors' size over memory bandwidth; sums are float32.
    Defard et al., *PaDiM*, 2021, eq. 2.
    """
    kernel = _squared_bfloat16 if factors.dtype == np.uint16 else _squared_float32
    kernel(delta, factors, out)


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


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to bfloat16 (nearest, ties to even), kept as the upper 16 bits of the float32.

    Parameters
    ----------
    values : float32
        Finite.

    Returns
    -------
    uint16
        Same shape; relative error at most 2⁻⁹.
    """
    rounded = np.empty(values.shape, dtype=np.uint16)
    _round_bfloat16(np.ascontiguousarray(values).reshape(-1).view(np.uint32), rounded.reshape(-1))
    return rounded


@parallel_kernel
def _round_bfloat16(bits: NDArray[np.uint32], out: NDArray[np.uint16]) -> None:
    for k in numba.prange(bits.shape[0]):
        word = np.uint32(bits[k])
        out[k] = np.uint16((word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@parallel_kernel
def _squared_float32(delta: NDArray[np.float32], factors: NDArray[Any], out: NDArray[np.float32]) -> None:
    positions, dimensions = delta.shape
    for p in numba.prange(positions):
        squared = np.float32(0.0)
        start = 0
        for i in range(dimensions):
            total = np.float32(0.0)
            for j in range(i + 1):
                total += factors[p, start + j] * delta[p, j]
            squared += total * total
            start += i + 1
        out[p] = squared


@parallel_kernel
def _squared_bfloat16(delta: NDArray[np.float32], factors: NDArray[Any], out: NDArray[np.float32]) -> None:
    positions, dimensions = delta.shape
    length = factors.shape[1]
    chunks = min(positions, CHUNKS)
    for chunk in numba.prange(chunks):
        bits = np.empty(length, dtype=np.uint32)
        factor = bits.view(np.float32)
        for p in range(chunk * positions // chunks, (chunk + 1) * positions // chunks):
            for k in range(length):
                bits[k] = np.uint32(factors[p, k]) << np.uint32(16)
            squared = np.float32(0.0)
            start = 0
            for i in range(dimensions):
                total = np.float32(0.0)
                for j in range(i + 1):
                    total += factor[start + j] * delta[p, j]
                squared += total * total
                start += i + 1
            out[p] = squared
