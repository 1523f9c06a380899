"""Rates, areas under curves and intervals.

`None` stands where a figure is not defined because one of the two classes is missing. Anomalous is a score ≥
T.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, rankdata

PAPER_GRID: tuple[float, ...] = tuple(float(threshold) for threshold in range(16))
"""The thresholds 0, 1 … 15 of the paper."""


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold with the true negative rate that it gives."""

    threshold: float
    tnr: float


@dataclass(frozen=True)
class RateCurves:
    """TPR and TNR for each of several thresholds, all (T,) float64."""

    thresholds: NDArray[np.float64]
    tpr: NDArray[np.float64]
    tnr: NDArray[np.float64]


@dataclass(frozen=True)
class Rate:
    """A share of counted cases with its two-sided 95 % Clopper–Pearson interval."""

    value: float
    low: float
    high: float


def roc_auc(scores: ArrayLike, positive: ArrayLike) -> float | None:
    """Area under the ROC curve, ties counted half.

    Parameters
    ----------
    scores : (N,) float
        Higher is more anomalous.
    positive : (N,) bool
        True for anomalous.

    Returns
    -------
    float or None
        P(positive > negative) + ½ P(equal); None when a class is missing.

    Notes
    -----
    From the ranks' sum (Mann–Whitney U); Hanley, McNeil, 1982.
    """
    labels = np.asarray(positive, dtype=np.bool_)
    count = int(labels.sum())
    others = len(labels) - count
    if count == 0 or others == 0:
        return None
    ranks = rankdata(np.asarray(scores, dtype=np.float64))
    return float((ranks[labels].sum() - count * (count + 1) / 2) / (count * others))


class PixelAuroc:
    """Area under the pixels' ROC curve, one picture at a time, in 8 MB however many there are.

    Scores are counted in 2¹⁹ bins, each 2⁻¹¹ (0.05 %) of its value wide; pixels in one bin count as ties.
    Distances are not negative, so the upper bits of a float32 order as the numbers do.
    """

    _SHIFT = 12

    def __init__(self) -> None:
        self._counts = np.zeros((2, 1 << (31 - self._SHIFT)), dtype=np.int64)

    def add(self, scores: NDArray[np.float32], positive: NDArray[np.bool_]) -> None:
        """Count pixels: `scores` (N,) float32 ≥ 0 and finite, `positive` (N,) bool."""
        bins = (scores + np.float32(0)).view(np.uint32) >> self._SHIFT  # adding 0 turns −0 into 0
        for label in (0, 1):
            self._counts[label] += np.bincount(bins[positive == label], minlength=self._counts.shape[1])

    def value(self) -> float | None:
        """Return the area; None when a class is missing."""
        negative, positive = self._counts
        pairs = float(negative.sum()) * float(positive.sum())
        if pairs == 0:
            return None
        below = np.cumsum(negative) - negative
        return float((positive * (below + 0.5 * negative)).sum() / pairs)


def true_positive_rate(defective: ArrayLike, threshold: float) -> float | None:
    """Share of defective parts' statistics (N,) that are ≥ threshold."""
    statistics = np.asarray(defective, dtype=np.float64)
    return float((statistics >= threshold).mean()) if statistics.size else None


def true_negative_rate(good: ArrayLike, threshold: float) -> float | None:
    """Share of good parts' statistics (N,) that are < threshold."""
    statistics = np.asarray(good, dtype=np.float64)
    return float((statistics < threshold).mean()) if statistics.size else None


def tnr_at_full_tpr(
    good: ArrayLike, defective: ArrayLike, *, grid: Sequence[float] | None = None
) -> ThresholdChoice | None:
    """TNR at the highest threshold that still finds every defective part (the paper's D_T).

    Parameters
    ----------
    good, defective : (N,) float
        Part statistics.
    grid : sequence of float, optional
        Thresholds to choose from (`PAPER_GRID` in the paper); without it any number, so the exact figure.

    Returns
    -------
    ThresholdChoice or None
        None when a class is missing, or every threshold of the grid misses a defective part.
    """
    statistics = np.asarray(defective, dtype=np.float64)
    if statistics.size == 0:
        return None
    highest = float(statistics.min())
    if grid is not None:
        possible = [threshold for threshold in grid if threshold <= highest]
        if not possible:
            return None
        highest = max(possible)
    tnr = true_negative_rate(good, highest)
    return None if tnr is None else ThresholdChoice(highest, tnr)


def rate_curves(good: ArrayLike, defective: ArrayLike, *, thresholds: ArrayLike) -> RateCurves | None:
    """TPR and TNR against T.

    Parameters
    ----------
    good, defective : (N,) float
        Part statistics.
    thresholds : (T,) float
        Where to evaluate.

    Returns
    -------
    RateCurves or None
        None when a class is missing.
    """
    at = np.asarray(thresholds, dtype=np.float64)
    passed, found = (np.sort(np.asarray(values, dtype=np.float64)) for values in (good, defective))
    if passed.size == 0 or found.size == 0:
        return None
    tnr = np.searchsorted(passed, at, side="left") / passed.size
    tpr = 1 - np.searchsorted(found, at, side="left") / found.size
    return RateCurves(at, tpr, tnr)


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a binomial share.

    Parameters
    ----------
    successes, trials : int
        0 ≤ successes ≤ trials, trials ≥ 1.
    confidence : float
        Probability that the interval holds the true share, at least.

    Returns
    -------
    (float, float)
        Lower and upper limit.

    Notes
    -----
    Clopper, Pearson, *The use of confidence or fiducial limits*, 1934.
    """
    tail = (1 - confidence) / 2
    low: Any = beta.ppf(tail, successes, trials - successes + 1) if successes else 0.0
    high: Any = beta.ppf(1 - tail, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def rate(successes: int, trials: int) -> Rate | None:
    """Share with its 95 % interval; None without trials."""
    if trials == 0:
        return None
    return Rate(successes / trials, *clopper_pearson(successes, trials))
