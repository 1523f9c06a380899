"""Thresholds: where good ends."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

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
        Part statistics of n good parts.
    alpha : float
        Share of good parts that may be rejected.

    Returns
    -------
    float
        The smallest number above the ⌈(1 − alpha)(n + 1)⌉-th smallest statistic, or above the largest when
        alpha < 1/(n + 1). Just above, because a statistic ≥ T is anomalous. Without any part 0: then nothing is
        known to be good, and every part is anomalous.

    Notes
    -----
    An estimate, not a guarantee: the models that scored here share their training parts, and each has seen one
    part less than the final ones.
    """
    count = len(statistics)
    if count == 0:
        return 0.0
    rank = min(count, math.ceil((1 - alpha) * (count + 1)))
    return float(np.nextafter(np.sort(np.asarray(statistics, dtype=np.float64))[rank - 1], np.inf))
