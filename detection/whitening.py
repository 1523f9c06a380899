"""Packed whitening factors from moments, and distances of training pictures to models without them."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from detection.config import Precision
from detection.errors import ModelError
from detection.kernels import CHUNKS, kernel, parallel_kernel
from detection.moments import Float32, Float64, Moments, packed_length

_POSITIONS = 512  # whose factors are computed at a time: 10 MB beside the moments


def whitening_factors(
    moments: Moments,
    *,
    epsilon: float,
    prior: float = 0.0,
    precision: Precision = "float32",
    keep_moments: bool = True,
) -> NDArray[Any]:
    """Packed inverse Cholesky factors of every position's regularised covariance.

    Parameters
    ----------
    moments : Moments
        Of at least two pictures.
    epsilon : float
        Added to the covariance's diagonal, > 0; 0.01 in the paper.
    prior : float
        So many pictures more each position is taken to have seen, all with the covariance that positions share; 0:
        none, as in the paper.
    precision : str
        "float32", or "bfloat16" (as uint16) for half the memory.
    keep_moments : bool
        Without, the factors take the place of `moments.comoment`, which is lost.

    Returns
    -------
    (P, d(d+1)/2) float32 or uint16
        Rows of L⁻¹ with L Lᵀ = Σ + epsilon·I and Σ the unbiased covariance, computed in float64; with a prior
        L Lᵀ = (C + prior·(Σ₀ + epsilon·I))/(n − 1 + prior), C the co-moment and Σ₀ what all positions have in common.
        Positions that fewer than two pictures show have zeros.

    Raises
    ------
    ModelError
        With fewer than two pictures, or when a feature was not finite.

    Notes
    -----
    Defard et al., *PaDiM*, 2021, eq. 1; the prior is that of Friedman, *Regularized discriminant analysis*, 1989,
    eq. 16, by which some 10⁴ positions help each other. What is rounded to bfloat16 is a row w of L⁻¹ whose only use is
    w·δ, and δ spreads along the columns of L: its numbers are rounded from last to first, each taking over what the
    rounding before it did along L (Babai, *On Lovász' lattice reduction and the nearest lattice point problem*, 1986).
    On good pictures that makes the error of the distance a third of what rounding each number by itself does.
    """
    if moments.pictures < 2:
        raise ModelError(
            f"{moments.pictures} training picture(s) have no covariance: train with at least 2, better 50 and more"
        )
    comoment, count, base = moments.comoment, moments.count, _base(moments, epsilon=epsilon, prior=prior)
    number: type[np.generic] = np.uint16 if precision == "bfloat16" else np.float32
    whiten = _whiten_bfloat16 if precision == "bfloat16" else _whiten_float32
    if keep_moments:
        factors = np.empty(comoment.shape, dtype=number)
    else:
        factors = comoment.reshape(-1).view(number)[: comoment.size].reshape(comoment.shape)
    for first in range(0, len(comoment), _POSITIONS):
        some = slice(first, first + _POSITIONS)
        done = np.empty(comoment[some].shape, dtype=number)
        whiten(comoment[some], count[some], prior, base, done)
        factors[some] = done  # in place, this lies in what was read by now: factors are never larger than moments
    if not np.isfinite(moments.mean).all() or not np.isfinite(_last(factors)).all():
        raise ModelError("the training features are not finite: check the backbone's weights and the pictures")
    return factors


def _base(moments: Moments, *, epsilon: float, prior: float) -> Float64:
    """Packed matrix that keeps every position's covariance from being singular: εI, or what all have in common."""
    dimensions = moments.mean.shape[1]
    base = np.zeros(packed_length(dimensions))
    diagonal = np.cumsum(np.arange(1, dimensions + 1)) - 1
    if prior > 0:
        spread = moments.comoment[:, diagonal].sum(axis=1)
        varying = spread > np.finfo(np.float32).eps * spread.max(initial=0)  # padding is not: it would make Σ₀ smaller
        free = int(np.maximum(moments.count - 1, 0)[varying].sum())
        base = moments.comoment[varying].sum(axis=0, dtype=np.float64) / max(free, 1)
    base[diagonal] += epsilon
    return base


def leave_one_out(
    moments: Moments,
    features: Float32,
    *,
    epsilon: float,
    first: int = 0,
    masked: NDArray[np.bool_] | None = None,
) -> Float32:
    """Squared distances of training pictures to the Gaussians of all the other training pictures.

    Parameters
    ----------
    moments : Moments
        Of all training pictures, at least 3.
    features : (N, K, d) float32
        Features of training pictures at K neighbouring positions.
    epsilon : float
        Added to the covariance's diagonal.
    first : int
        The first of these positions.
    masked : (N, K) bool, optional
        True where a picture does not show the position.

    Returns
    -------
    (N, K) float32
        Exactly what training without the picture would give, up to rounding, without a prior; 0 where masked, and
        where the others leave no Gaussian (see `Moments.scored`).

    Notes
    -----
    Leaving a picture out shifts the mean by δ/(n−1) and takes n/(n−1)·δδᵀ from the co-moment C, with δ its deviation
    from the mean of all. With s = δᵀ(C/(n−2) + εI)⁻¹δ its squared distance is then, by Sherman and Morrison's formula
    (1950), (n/(n−1))²·s / (1 − n/((n−1)(n−2))·s). One factorisation serves all pictures.
    """
    positions = slice(first, first + features.shape[1])
    hidden = np.zeros(features.shape[:2], dtype=np.bool_) if masked is None else masked
    count = np.where(moments.scored(left_out=1), moments.count, 0)[positions]
    squared = np.zeros(features.shape[:2], dtype=np.float32)
    base = _base(moments, epsilon=epsilon, prior=0)
    _leave_one_out(features, hidden, count, moments.mean[positions], moments.comoment[positions], base, squared)
    return squared


def _last(packed: NDArray[Any]) -> NDArray[Any]:
    """Last number of every packed row: not finite when any feature of the position was not; bfloat16 widened."""
    last = packed[:, -1]
    return (last.astype(np.uint32) << 16).view(np.float32) if last.dtype == np.uint16 else last


@kernel
def _factorise(comoment: Float32, free: float, prior: float, base: Float64, inverse: Float64, lower: Float64) -> None:
    """Overwrite the lower triangles of `lower` with L and of `inverse` with L⁻¹, for the covariance L Lᵀ of `_base`."""
    # Row i of L is L⁻¹ (rows before i) times row i of Σ; row i of L⁻¹ follows from it and the rows before. So Σ's
    # row i is read once, and all inner loops are contiguous.
    dimensions = inverse.shape[0]
    row = np.empty(dimensions)
    scale = 1.0 / (free + prior)
    weight = prior * scale if prior > 0.0 else 1.0
    start = 0
    for i in range(dimensions):
        for j in range(i + 1):
            row[j] = comoment[start + j] * scale + base[start + j] * weight
        pivot = row[i]
        for k in range(i):
            total = 0.0
            for j in range(k + 1):
                total += inverse[k, j] * row[j]
            lower[i, k] = total
            pivot -= total * total
        lower[i, i] = np.sqrt(pivot)
        diagonal = 1.0 / lower[i, i]
        for j in range(i):
            row[j] = 0.0
        for k in range(i):
            factor = lower[i, k] * diagonal
            for j in range(k + 1):
                row[j] -= factor * inverse[k, j]
        row[i] = diagonal
        for j in range(i + 1):
            inverse[i, j] = row[j]
        start += i + 1


@parallel_kernel
def _whiten_float32(comoment: Float32, count: NDArray[np.int64], prior: float, base: Float64, out: Float32) -> None:
    positions = comoment.shape[0]
    dimensions = int((np.sqrt(8.0 * comoment.shape[1] + 1.0) - 1.0) / 2.0 + 0.5)
    chunks = min(positions, CHUNKS)
    for chunk in numba.prange(chunks):
        inverse = np.zeros((dimensions, dimensions))
        lower = np.zeros((dimensions, dimensions))
        for p in range(chunk * positions // chunks, (chunk + 1) * positions // chunks):
            if count[p] < 2:
                out[p, :] = np.float32(0.0)
                continue
            _factorise(comoment[p], count[p] - 1.0, prior, base, inverse, lower)
            start = 0
            for i in range(dimensions):
                for j in range(i + 1):
                    out[p, start + j] = inverse[i, j]
                start += i + 1


@parallel_kernel
def _whiten_bfloat16(
    comoment: Float32, count: NDArray[np.int64], prior: float, base: Float64, out: NDArray[np.uint16]
) -> None:
    positions = comoment.shape[0]
    dimensions = int((np.sqrt(8.0 * comoment.shape[1] + 1.0) - 1.0) / 2.0 + 0.5)
    chunks = min(positions, CHUNKS)
    for chunk in numba.prange(chunks):
        inverse = np.zeros((dimensions, dimensions))
        lower = np.zeros((dimensions, dimensions))
        along = np.empty(dimensions)  # what roundings so far do along the columns of L
        number = np.empty(1, dtype=np.float32)
        bits = number.view(np.uint32)
        for p in range(chunk * positions // chunks, (chunk + 1) * positions // chunks):
            if count[p] < 2:
                out[p, :] = np.uint16(0)
                continue
            _factorise(comoment[p], count[p] - 1.0, prior, base, inverse, lower)
            start = 0
            for i in range(dimensions):
                for k in range(i + 1):
                    along[k] = 0.0
                for j in range(i, -1, -1):
                    number[0] = inverse[i, j] + along[j] / lower[j, j]
                    upper = np.uint32(bits[0] + np.uint32(0x7FFF) + ((bits[0] >> np.uint32(16)) & np.uint32(1)))
                    upper = upper >> np.uint32(16)
                    out[p, start + j] = np.uint16(upper)
                    bits[0] = np.uint32(upper << np.uint32(16))
                    missed = inverse[i, j] - number[0]
                    for k in range(j + 1):
                        along[k] += missed * lower[j, k]
                start += i + 1


@parallel_kernel
def _leave_one_out(
    features: Float32,
    masked: NDArray[np.bool_],
    count: NDArray[np.int64],
    mean: Float64,
    comoment: Float32,
    base: Float64,
    out: Float32,
) -> None:
    pictures, positions, dimensions = features.shape
    chunks = min(positions, CHUNKS)
    for chunk in numba.prange(chunks):
        inverse = np.zeros((dimensions, dimensions))
        lower = np.zeros((dimensions, dimensions))
        delta = np.empty(dimensions)
        for p in range(chunk * positions // chunks, (chunk + 1) * positions // chunks):
            if count[p] == 0:
                continue
            n = float(count[p])
            _factorise(comoment[p], n - 2.0, 0.0, base, inverse, lower)
            for b in range(pictures):
                if masked[b, p]:
                    continue
                for j in range(dimensions):
                    delta[j] = features[b, p, j] - mean[p, j]
                squared = 0.0
                for i in range(dimensions):
                    total = 0.0
                    for j in range(i + 1):
                        total += inverse[i, j] * delta[j]
                    squared += total * total
                # Not negative in exact arithmetic; at this bound a distance of 10⁵ is reached, beyond any that decides.
                remaining = max(1.0 - n / ((n - 1) * (n - 2)) * squared, 1e-9)
                out[b, p] = (n / (n - 1)) ** 2 * squared / remaining
