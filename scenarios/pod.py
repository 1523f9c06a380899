"""Probability of detection against defect size, from hit/miss data.

POD(a) = α · logistic(b0 + b1 · ln a), a in mm. (b0, b1) maximise the likelihood penalised with Jeffreys' prior, which
stays finite where hits and misses separate perfectly: Firth, Biometrika 80 (1993) 27; Heinze and Schemper, Statistics
in Medicine 21 (2002) 2409. The upper asymptote α is taken as known: see `visible_share`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.special import expit, logit
from scipy.stats import norm

_Z = float(norm.ppf(0.95))
_TARGET = 0.9
_LOG_SLOPES = (-6.0, 7.0)
_LEAST_SLOPE = 1e-3


@dataclass(frozen=True)
class Pod:
    """A fitted curve.

    Attributes
    ----------
    b0, b1 : float
        Intercept and slope over ln(size in mm).
    alpha : float
        Upper asymptote, in (0, 1].
    covariance : (2, 2) float64
        Inverse of the Fisher information at (b0, b1).
    smallest_mm, largest_mm : float
        Of the sizes tried; nothing is said of others.
    a90_mm : float or None
        Size found with probability .9; None where the curve reaches it at no size that was tried.
    a90_95_mm : float or None
        Upper 95 % confidence bound on it (MIL-HDBK-1823A, a90/95), not less than the smallest size tried; None where
        the data set none within the sizes tried.
    """

    b0: float
    b1: float
    alpha: float
    covariance: NDArray[np.float64]
    smallest_mm: float
    largest_mm: float
    a90_mm: float | None
    a90_95_mm: float | None

    def at(self, sizes_mm: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of detection, in [0, α], at sizes > 0 in mm."""
        return np.asarray(self.alpha * expit(self.b0 + self.b1 * np.log(sizes_mm)), dtype=np.float64)

    def band(self, sizes_mm: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the one-sided 95 % bounds, lower and upper, at each size in mm: Wald's, on the logit scale.

        For pictures; a90/95 is not read from it.
        """
        design = _design(np.asarray(sizes_mm, dtype=np.float64))
        centre = design @ np.array([self.b0, self.b1])
        half = _Z * np.sqrt(np.einsum("...i,ij,...j->...", design, self.covariance, design))
        return self.alpha * expit(centre - half), self.alpha * expit(centre + half)


def visible_share(views: Sequence[int], needed: int) -> float:
    """Return the share of parts whose defect at least `needed` views show: the asymptote α.

    Where a defect lies does not depend on its size, so occlusion lowers POD by one factor at all sizes. The views that
    show a defect are known from the geometry; the share is used rather than fitted because hits and misses alone
    hardly tell an asymptote from a flat slope. Its own uncertainty is not in a90/95.

    Raises
    ------
    ValueError
        Without parts.
    """
    if not views:
        raise ValueError("no parts to take the visible share of; give at least one")
    return sum(count >= needed for count in views) / len(views)


def fit_pod(sizes_mm: ArrayLike, hits: ArrayLike, *, alpha: float = 1.0) -> Pod:
    """Fit the curve to independent parts.

    Parameters
    ----------
    sizes_mm : (n,) float
        Defect sizes > 0, of at least two values.
    hits : (n,) bool
        Whether each was found.
    alpha : float
        Upper asymptote, in (0, 1].

    Raises
    ------
    ValueError
        Where shapes, sizes or alpha are not as above.

    Notes
    -----
    a90/95 is where the profile of the penalised likelihood has fallen by z(.95)²/2. Heinze and Schemper recommend the
    profile over Wald's (delta) band: with few misses near the transition the likelihood is skew in ln a90. Where the
    slope is nothing but noise, as when all are hits, a90 is no size that was tried; the profile still bounds it.
    """
    sizes, found = np.asarray(sizes_mm, dtype=np.float64), np.asarray(hits, dtype=bool)
    if sizes.ndim != 1 or sizes.shape != found.shape or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError("sizes_mm and hits must be of one length, and sizes finite and above 0")
    if len(np.unique(sizes)) < 2 or not 0 < alpha <= 1:
        raise ValueError(f"give at least two different sizes, and alpha in (0, 1] instead of {alpha}")
    design = _design(sizes)
    centre, scale = float(design[:, 1].mean()), float(design[:, 1].std())
    back = np.array([[1.0, -centre / scale], [0.0, 1.0 / scale]])

    def loss(scaled: NDArray[np.float64]) -> float:
        return -penalised_log_likelihood(back @ scaled, design, found, alpha)

    # Wide apart, or the search creeps: by default it starts with steps of 1/4000 from a coordinate of 0.
    corners = np.array([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    limits = {"xatol": 1e-7, "fatol": 1e-10, "maxfev": 2000, "initial_simplex": corners}
    best = minimize(loss, corners[0], method="Nelder-Mead", options=limits)
    assert best.success  # two smooth parameters with a single peak
    b0, b1 = (float(value) for value in back @ best.x)
    information = _information(np.array([b0, b1]), design, alpha)
    covariance = np.asarray(np.linalg.inv(information), dtype=np.float64)
    smallest, largest = float(sizes.min()), float(sizes.max())
    if alpha <= _TARGET:
        return Pod(b0, b1, alpha, covariance, smallest, largest, None, None)
    level = float(logit(_TARGET / alpha))
    flat = -np.inf if b0 + b1 * centre >= level else np.inf
    log_a90 = (level - b0) / b1 if b1 > _LEAST_SLOPE else flat

    def excess(log_size: float) -> float:
        def along(log_slope: float) -> float:
            slope = float(np.exp(log_slope)) / scale
            beta = np.array([level - slope * log_size, slope])
            return -penalised_log_likelihood(beta, design, found, alpha)

        profile = minimize_scalar(along, bounds=_LOG_SLOPES, method="bounded")
        return float(2 * (profile.fun - best.fun) - _Z**2)

    lowest, highest = max(log_a90, np.log(smallest)), np.log(largest)
    a90 = float(np.exp(log_a90)) if np.log(smallest) <= log_a90 <= highest else None
    if log_a90 > highest or excess(highest) <= 0:
        bound = None
    elif excess(lowest) >= 0:
        bound = smallest if log_a90 < np.log(smallest) else None
    else:
        bound = float(np.exp(brentq(excess, lowest, highest, xtol=1e-4)))
    return Pod(b0, b1, alpha, covariance, smallest, largest, a90, bound)


def penalised_log_likelihood(
    beta: NDArray[np.float64], design: NDArray[np.float64], hits: NDArray[np.bool_], alpha: float, weight: float = 0.5
) -> float:
    """Return ln L + weight · ln det I at (b0, b1): Firth's with weight ½, the plain likelihood with 0."""
    chance = _chance(beta, design, alpha)
    plain = float(np.where(hits, np.log(chance), np.log1p(-chance)).sum())
    if weight == 0:
        return plain
    determinant = float(np.linalg.det(_information(beta, design, alpha)))
    return plain + weight * float(np.log(max(determinant, 1e-300)))


def _design(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.ones_like(sizes), np.log(sizes)], axis=-1)


def _chance(beta: NDArray[np.float64], design: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    return np.asarray(alpha * expit(np.clip(design @ beta, -30, 30)), dtype=np.float64)


def _information(beta: NDArray[np.float64], design: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    chance = _chance(beta, design, alpha)
    slope = chance * (1 - chance / alpha)
    return np.asarray(design.T @ (design * (slope**2 / (chance * (1 - chance)))[:, None]), dtype=np.float64)
