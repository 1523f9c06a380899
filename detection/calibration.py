"""Thresholds: where good ends."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detection.errors import ModelError


def middle_of_means(good: ArrayLike, anomalous: ArrayLike) -> float:
    """Middle between two distributions' means, as the paper's Figure 5 marks it.

    Parameters
    ----------
    good, anomalous : (N,) float
        Image scores or part statistics, at least one each.

    Returns
    -------
    float
        Threshold.

    Raises
    ------
    ModelError
        When one is empty.
    """
    means = [np.asarray(values, dtype=np.float64) for values in (good, anomalous)]
    if any(values.size == 0 for values in means):
        raise ModelError("the middle of means needs scores of good and of anomalous parts; one of them is missing")
    return float((means[0].mean() + means[1].mean()) / 2)


def held_out_threshold(statistics: Sequence[float], *, alpha: float) -> float:
    """Threshold from good parts that were scored by models that have not seen them.

    Parameters
    ----------
    statistics : sequence of float
        Part statistics of n good parts, n ≥ 1.
    alpha : float
        Share of good parts that may be rejected.

    Returns
    -------
    float
        The smallest number above the ⌈(1 − alpha)(n + 1)⌉-th smallest statistic, or above the largest when
        alpha < 1/(n + 1). Just above, because a statistic ≥ T is anomalous.

    Raises
    ------
    ModelError
        Without statistics.

    Notes
    -----
    An estimate, not a guarantee: the final models have seen all parts, the ones that scored here fewer, and
    the folds share training parts.
    """
    count = len(statistics)
    if count == 0:
        raise ModelError("a threshold needs at least one held-out part; train with more parts")
    rank = min(count, math.ceil((1 - alpha) * (count + 1)))
    return float(np.nextafter(np.sort(np.asarray(statistics, dtype=np.float64))[rank - 1], np.inf))


def split_folds(count: int, *, folds: int, seed: int) -> NDArray[np.int64]:
    """Deal parts into folds of almost equal size, at random.

    Parameters
    ----------
    count : int
        Number of parts, at least 3: each fold's rest must be two parts or more.
    folds : int
        Number of folds, ≥ 2; not more than parts are used.
    seed : int
        Of the shuffling.

    Returns
    -------
    (count,) int64
        Fold of each part.

    Raises
    ------
    ModelError
        With fewer than 3 parts.
    """
    if count < 3:
        raise ModelError(f"{count} training part(s): a held-out threshold needs at least 3, better 50 and more")
    # Two folds of three parts would leave one part alone, which has no covariance.
    used = min(count, folds if count > 3 else 3)
    return np.random.default_rng(seed).permutation(np.arange(count) % used)
