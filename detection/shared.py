"""One covariance for all grid positions of a view, scaled at each."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.errors import ModelError
from detection.gaussian import Gaussians
from detection.moments import shown_often

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

_NEIGHBOURS = 1.5
"""Standard deviation, in grid positions, over which variances of neighbours are averaged."""


@dataclass
class SharedMoments:
    """Running means of every position's features, their variances, and the co-moment of all positions together.

    Attributes
    ----------
    pictures : int
        Number of pictures seen.
    count : (P,) int64
        Number of pictures that show the position, n.
    mean : (P, d) float64
        Mean feature of each position.
    squares : (P, d) float64
        Σ (x − mean)² of each position and channel.
    comoment : (d, d) float64
        Σ (x − mean)(x − mean)ᵀ over all positions.

    Notes
    -----
    Welford's recurrence, *Note on a method for calculating corrected sums of squares and products*, 1962.
    """

    pictures: int
    count: NDArray[np.int64]
    mean: Float64
    squares: Float64
    comoment: Float64

    @classmethod
    def empty(cls, *, positions: int, dimensions: int) -> SharedMoments:
        """Return the moments of no picture at all."""
        count, mean = np.zeros(positions, dtype=np.int64), np.zeros((positions, dimensions))
        return cls(0, count, mean, np.zeros_like(mean), np.zeros((dimensions, dimensions)))

    def copy(self) -> SharedMoments:
        """Return the same moments in memory of their own."""
        return copy.deepcopy(self)

    def update_each(self, pictures: Iterable[tuple[Float32, Mask | None]]) -> None:
        """Add pictures one by one: features (P, d) float32, finite, and which positions (P,) bool are masked."""
        for features, masked in pictures:
            deviation = features - self.mean
            if masked is not None:
                deviation[masked] = 0
            self.count += 1 if masked is None else ~masked
            some = np.maximum(self.count, 1)[:, np.newaxis]
            self.mean += deviation / some
            deviation *= np.sqrt((some - 1) / some)
            self.comoment += deviation.T @ deviation
            self.squares += np.square(deviation, out=deviation)
            self.pictures += 1

    def scored(self, *, left_out: int = 0) -> Mask:
        """Return which positions (P,) bool have a Gaussian; see `detection.moments.shown_often`."""
        return shown_often(self.count, self.pictures, left_out=left_out)


@dataclass(frozen=True)
class SharedGaussians(Gaussians):
    """What training learned: N(μ_p, s_p² Σ) at position p.

    Attributes
    ----------
    pictures : int
        Number of training pictures, ≥ 2.
    mean : (P, d) float32
        μ_p.
    whitening : (d, d) float32
        L⁻¹ with L Lᵀ = Σ, lower triangular.
    scale : (P,) float32
        1/s_p.
    scored : (P,) bool
        Positions that have a Gaussian.

    Notes
    -----
    Proportional covariances (Flury, *Common Principal Components and Related Multivariate Models*, 1988, ch. 5): some
    10⁴ positions estimate one Σ, where a Gaussian of its own leaves each position d(d+1)/2 numbers to learn from as
    many vectors as there are pictures. s_p² is the position's variance, relative to Σ, averaged over channels and
    neighbours and drawn halfway to 1.
    """

    pictures: int
    mean: Float32
    whitening: Float32
    scale: Float32
    scored: Mask

    @classmethod
    def from_moments(cls, moments: SharedMoments, *, epsilon: float) -> SharedGaussians:
        """Estimate Σ and s_p.

        Parameters
        ----------
        moments : SharedMoments
            Of at least two pictures.
        epsilon : float
            Added to Σ's diagonal.

        Raises
        ------
        ModelError
            With fewer than two pictures, or when a feature was not finite.
        """
        if moments.pictures < 2:
            raise ModelError(
                f"{moments.pictures} training picture(s) have no covariance: train with at least 2, better 16 and more"
            )
        free = np.maximum(moments.count - 1, 0)
        spread = moments.squares.sum(axis=1)
        varying = spread > np.finfo(np.float32).eps * spread.max()  # padding is not, and would make all else look wild
        dimensions = len(moments.comoment)
        sigma = moments.comoment / max(int(free[varying].sum()), 1) + epsilon * np.eye(dimensions)
        if not np.isfinite(sigma).all():
            raise ModelError("the training features are not finite: check the backbone's weights and the pictures")
        whitening = np.linalg.inv(np.linalg.cholesky(sigma))
        variance = moments.squares @ (1 / np.diag(sigma)) / (dimensions * np.maximum(free, 1))
        scored = moments.scored()
        scale = 1 / np.sqrt((1 + _smooth(variance, scored & varying)) / 2)
        return cls(
            moments.pictures,
            moments.mean.astype(np.float32),
            whitening.astype(np.float32),
            scale.astype(np.float32),
            scored,
        )

    def squared_distances(self, features: Float32) -> Float32:
        """Squared distances (B, P) float32 of the features (B, P, d) float32 of some pictures."""
        squared = np.empty(features.shape[:2], dtype=np.float32)
        for one, out in zip(features, squared, strict=True):
            deviations = self._whitened(one)
            np.einsum("pd,pd->p", deviations, deviations, out=out)
        return squared

    def directions(self, features: Float32, positions: NDArray[np.int64], *, hidden: Mask) -> Float32:
        """Whitened deviations at some positions, each averaged with its neighbours, without their length.

        Parameters
        ----------
        features : (P, d) float32
            Of one picture.
        positions : (m,) int64
            Not hidden.
        hidden : (P,) bool
            Neighbours that do not count.

        Returns
        -------
        (m, d) float32
            Of length 1. What all positions share is taken out by means and Σ: the same speck of dust has about the
            same direction wherever it lies.
        """
        grid = math.isqrt(len(hidden))
        rows, columns = np.divmod(positions, grid)
        total = np.zeros((len(positions), self.mean.shape[1]), dtype=np.float32)
        for down, right in np.ndindex(3, 3):
            row, column = rows + down - 1, columns + right - 1
            inside = (row >= 0) & (row < grid) & (column >= 0) & (column < grid)
            place = np.where(inside, row * grid + column, positions)
            counts = inside & ~hidden[place]
            deviation = (features[place] - self.mean[place]) * self.scale[place, np.newaxis]
            total += deviation * counts[:, np.newaxis]
        total = total @ self.whitening.T
        length = np.linalg.norm(total, axis=1, keepdims=True)
        return np.asarray(total / np.maximum(length, np.finfo(np.float32).tiny), dtype=np.float32)

    def _whitened(self, features: Float32) -> Float32:
        deviations = (features - self.mean) @ self.whitening.T
        deviations *= self.scale[:, np.newaxis]
        return np.asarray(deviations, dtype=np.float32)


def leave_one_out(
    moments: SharedMoments, features: Float32, *, epsilon: float, masked: Mask | None = None
) -> SharedGaussians:
    """Return what training without one of the pictures would have given.

    Parameters
    ----------
    moments : SharedMoments
        Of all training pictures, at least 3.
    features : (P, d) float32
        Of the picture to leave out.
    epsilon : float
        Added to Σ's diagonal.
    masked : (P,) bool, optional
        True where the picture does not show the position.

    Notes
    -----
    Leaving a picture out shifts the mean by −δ/(n−1) and takes n/(n−1)·δδᵀ from the co-moment, with δ its deviation
    from the mean of all.
    """
    deviation = features - moments.mean
    if masked is not None:
        deviation[masked] = 0
    count = moments.count - (1 if masked is None else ~masked)
    some = np.maximum(count, 1)[:, np.newaxis]
    mean = moments.mean - deviation / some
    deviation *= np.sqrt((some + 1) / some)
    comoment = moments.comoment - deviation.T @ deviation
    squares = np.maximum(moments.squares - np.square(deviation, out=deviation), 0)
    return SharedGaussians.from_moments(
        SharedMoments(moments.pictures - 1, count, mean, squares, comoment), epsilon=epsilon
    )


def _smooth(variance: Float64, known: Mask) -> Float64:
    """Average (P,) over neighbouring positions that are known; 1 where there is none."""
    grid = math.isqrt(len(variance))
    weights = known.reshape(grid, grid).astype(np.float64)
    total, weight = (
        cv2.GaussianBlur(field, (0, 0), _NEIGHBOURS, borderType=cv2.BORDER_REFLECT)
        for field in (weights * variance.reshape(grid, grid), weights)
    )
    around: Float64 = np.divide(total, weight, out=np.ones_like(total), where=weight > np.finfo(np.float32).eps)
    return around.reshape(-1)
