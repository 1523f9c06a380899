"""Thresholds: where good ends, and what can be promised about it."""

import math
from collections.abc import Sequence
from fractions import Fraction

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


def swept_threshold(anomalous: ArrayLike, *, step: float) -> float:
    """Highest threshold of a grid that every anomalous part still reaches.

    Parameters
    ----------
    anomalous : (M,) float
        Part statistics, not negative.
    step : float
        The grid is 0, step, 2·step and so on; the paper's step is 1. With 0 every number is tried: exact.

    Returns
    -------
    float
        Threshold.

    Raises
    ------
    ModelError
        Without an anomalous part.

    Notes
    -----
    At most the smallest of M statistics. So when models have seen none of the M parts, one more, drawn like them, stays
    below with probability ≤ 1/(M + 1).
    """
    statistics = np.asarray(anomalous, dtype=np.float64)
    if statistics.size == 0:
        raise ModelError("a sweep needs scores of anomalous parts; there are none")
    lowest = float(statistics.min())
    # Rounding must not lift the threshold over the part that it has to find.
    return min(lowest, math.floor(lowest / step) * step) if step else lowest


def held_out_threshold(statistics: Sequence[float], *, alpha: float) -> float:
    """Threshold from good parts, each scored by models of all the others.

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
    return _just_above(_ranked(statistics, min(count, _rank(count, alpha))))


def split_conformal_threshold(statistics: Sequence[float], *, alpha: float) -> float:
    """Threshold from good parts that were held back from training.

    Parameters
    ----------
    statistics : sequence of float
        Part statistics of n good parts, by the very models that will score new parts.
    alpha : float
        Largest probability with which a good part may be rejected.

    Returns
    -------
    float
        The smallest number above the ⌈(1 − alpha)(n + 1)⌉-th smallest statistic.

    Raises
    ------
    ModelError
        When alpha < 1/(n + 1): the rank would be beyond the largest.

    Notes
    -----
    P(a new good part's statistic ≥ T) ≤ alpha over the draw of the n parts and the new one, whatever their distribution
    and the models, if the n + 1 are exchangeable (Papadopoulos, Proedrou, Vovk, Gammerman, *Inductive confidence
    machines for regression*, 2002). The same as rejecting where the p-value (1 + #{statistics ≥ s})/(n + 1) ≤ alpha.
    """
    count = len(statistics)
    if count < calibration_parts_needed(alpha):
        raise ModelError(
            f"alpha = {alpha:g} needs {calibration_parts_needed(alpha)} calibration parts, {count} are there; "
            "hold back more, or choose a larger alpha"
        )
    return _just_above(_ranked(statistics, _rank(count, alpha)))


def cross_conformal_threshold(statistics: Sequence[float], *, trained_with: int, alpha: float) -> float:
    """Threshold from all training parts, each scored by models of all the others.

    Parameters
    ----------
    statistics : sequence of float
        Leave-one-out statistics of m training parts, as `detection.whitening.leave_one_out` gives them.
    trained_with : int
        Number of training parts n ≥ 3. m is less where some of them, apart from the others from the start, shaped
        more than mean and covariance: the part whose pictures are the references does.
    alpha : float
        Largest probability with which a good part may be rejected.

    Returns
    -------
    float
        T just above q·√((n − 1)/(n − 2)) + 1/√n with q the ⌈(1 − alpha)(m + 1)⌉-th smallest statistic.

    Raises
    ------
    ModelError
        When alpha < 1/(m + 1), or with fewer than 3 training parts.

    Notes
    -----
    P(a new good part's statistic by the models of all n parts ≥ T) ≤ alpha, if the m + 1 parts are exchangeable.

    A new part whose statistic s reaches T would exceed q by each of the m leave-one-out models too: at every position
    such a model's distance is d₋ᵢ ≥ √((n − 2)/(n − 1))·(d − 1/√n) with d the final model's. With deviations η of the
    new picture and δ of the left-out one from the mean of all, A = C/(n − 2) + εI, t = ηᵀA⁻¹δ and
    c = n/((n − 1)(n − 2)), the leave-one-out covariance is A − cδδᵀ, and yᵀM⁻¹y ≥ 2wᵀy − wᵀMw for any w; w = A⁻¹η gives
    d₋ᵢ² ≥ ηᵀA⁻¹η + 2t/(n − 1) + ct² ≥ ηᵀA⁻¹η − (n − 2)/(n(n − 1)), and A is at most (n − 1)/(n − 2) times the
    final covariance. Smoothing, image score and vote are monotone and keep the bound's shift and scale. Rejecting
    only what exceeds q by all m models is the jackknife-minmax rule, whose probability of error is ≤ alpha (Barber,
    Candès, Ramdas, Tibshirani, *Predictive inference with the jackknife+*, 2021).
    """
    count, needed = len(statistics), calibration_parts_needed(alpha)
    if count < needed:
        raise ModelError(
            f"alpha = {alpha:g} needs {needed} training parts, {count} are there; collect more, or choose a larger "
            "alpha"
        )
    if trained_with < 3:
        raise ModelError(f"{trained_with} training parts leave no covariance when one is left out; collect at least 3")
    ranked = _ranked(statistics, _rank(count, alpha))
    return _just_above(ranked * math.sqrt((trained_with - 1) / (trained_with - 2)) + 1 / math.sqrt(trained_with))


def calibration_parts_needed(alpha: float) -> int:
    """Return the smallest n with alpha ≥ 1/(n + 1)."""
    return math.ceil(1 / _as_written(alpha)) - 1


def share_of(count: int, share: float) -> int:
    """Return how many parts a share of `count` parts is, rounded up."""
    return math.ceil(_as_written(share) * count)


def _rank(count: int, alpha: float) -> int:
    return math.ceil((1 - _as_written(alpha)) * (count + 1))


def _as_written(number: float) -> Fraction:
    """Return the decimal number that a person wrote: 19 parts must do for 0.05, however that is rounded in binary."""
    return Fraction(str(number))


def _ranked(statistics: Sequence[float], rank: int) -> float:
    return float(np.sort(np.asarray(statistics, dtype=np.float64))[rank - 1])


def _just_above(value: float) -> float:
    return float(np.nextafter(value, np.inf))
