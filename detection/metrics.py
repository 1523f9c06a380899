"""Rates and areas under curves of parts and pictures, with their intervals.

`None` stands where a figure is not defined because one of the two classes is missing. Anomalous is a score ≥ T.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from detection.intervals import Estimate, auroc_interval, jackknife_variance, rate

PAPER_STEP = 1.0
"""Between the thresholds that the paper tries."""


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold with the true negative rate that it gives."""

    threshold: float
    tnr: Estimate


@dataclass(frozen=True)
class RateCurves:
    """TPR and TNR for each of several thresholds, all (T,) float64."""

    thresholds: NDArray[np.float64]
    tpr: NDArray[np.float64]
    tnr: NDArray[np.float64]


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


def auroc(scores: ArrayLike, positive: ArrayLike, *, parts: ArrayLike) -> Estimate | None:
    """Area under the ROC curve of parts or of their pictures, with an interval.

    Parameters
    ----------
    scores : (N,) float
        Higher is more anomalous.
    positive : (N,) bool
        True for anomalous.
    parts : (N,) int
        Which part each score is of.

    Returns
    -------
    Estimate or None
        None when a class is missing. The interval is `auroc_interval`'s, with the spread found by leaving
        out one part after the other (0 where a class has only one). For one score a part that is DeLong's
        variance.

    Notes
    -----
    DeLong, DeLong, Clarke-Pearson, 1988; for several pictures a part Obuchowski, *Nonparametric analysis of
    clustered ROC curve data*, 1997, is the same to first order.
    """
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=np.bool_)
    area = roc_auc(values, labels)
    if area is None:
        return None
    owners, owner = np.unique(parts, return_inverse=True)
    has_positive, has_negative = np.zeros((2, len(owners)), dtype=np.bool_)
    has_positive[owner[labels]] = True
    has_negative[owner[~labels]] = True
    without = [roc_auc(values[owner != i], labels[owner != i]) for i in range(len(owners))]
    variance, _ = jackknife_variance(without, has_positive) or (0.0, 0.0)
    counts = {"negative": int(has_negative.sum()), "positive": int(has_positive.sum())}
    return Estimate(area, *auroc_interval(area, **counts, variance=variance))


def tnr_at_full_tpr(good: ArrayLike, defective: ArrayLike, *, step: float | None = None) -> ThresholdChoice | None:
    """TNR at the highest threshold that still finds every defective part (the paper's D_T).

    Parameters
    ----------
    good, defective : (N,) float
        Part statistics.
    step : float, optional
        Thresholds to choose from are 0, step, 2·step … (`PAPER_STEP` in the paper, which ends at 15); without it
        any number, so the exact figure.

    Returns
    -------
    ThresholdChoice or None
        With the Clopper–Pearson interval of the TNR. None when a class is missing.

    Notes
    -----
    Optimistic, and so is the interval: the threshold is chosen by the very defects it is then said to find, and
    the hardest defect of the next test may be harder. The interval is about the good parts alone, at this
    threshold. Only a threshold that was frozen before the test gives rates that can be promised.
    """
    statistics = np.asarray(defective, dtype=np.float64)
    if statistics.size == 0:
        return None
    highest = float(statistics.min())
    if step is not None and math.isfinite(highest):
        highest = min(highest, math.floor(highest / step) * step)
    passed = np.asarray(good, dtype=np.float64) < highest
    tnr = rate(int(passed.sum()), passed.size)
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
