"""How sure a figure is: two-sided intervals, 95 % where not said otherwise.

They count parts, not pictures or pixels: those of one part are alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import beta, norm
from scipy.stats import t as student_t

_CONFIDENCE = 0.95
_NO_SPREAD = 1e-12  # a variance below this is rounding

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A figure with its two-sided 95 % interval."""

    value: float
    low: float
    high: float


def clopper_pearson(successes: int, trials: int, *, confidence: float = _CONFIDENCE) -> Interval:
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


def rate(successes: int, trials: int) -> Estimate | None:
    """Share with its 95 % Clopper–Pearson interval; None without trials."""
    if trials == 0:
        return None
    return Estimate(successes / trials, *clopper_pearson(successes, trials))


def auroc_interval(area: float, *, negative: int, positive: int, variance: float = 0.0) -> Interval:
    """Interval of an area under a ROC curve; not empty at 0 and 1.

    Parameters
    ----------
    area : float
        As found, 0 … 1.
    negative, positive : int
        Independent cases (parts) of each class, ≥ 1.
    variance : float
        Of the area, as far as the cases themselves show it.

    Returns
    -------
    (float, float)
        All areas θ with |area − θ| ≤ 1.96·√V(θ). V is Newcombe's, widened by the factor by which `variance`
        is above it at the area found; a smaller `variance` does not narrow the interval.

    Notes
    -----
    Newcombe, *Confidence intervals for an effect size measure based on the Mann–Whitney statistic*, part 2,
    method 5, 2006. DeLong's interval has no width at an area of 1 and is too narrow near it, as every
    resampling is, because few parts show no mistake. Newcombe's alone is too narrow where the
    defective parts' scores spread more than the good ones', as they do. In simulations with 10 to 117 parts a
    class (binormal, spreads 1 : 1 to 1 : 2.5, areas .7 to .995) the larger of both held the true area in at
    least 93 % of cases. For several pictures a part it is wide: they count as one picture.
    """

    def model(theta: float) -> float:
        # Newcombe takes the mean of both counts here, so that the interval of 1 − area is the mirror image.
        others = (negative + positive) / 2 - 1
        spread = 1 + others * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return theta * (1 - theta) * spread / (negative * positive)

    # At an area of exactly 0 or 1 the area itself is a second root, so start a little away from it.
    start = min(max(area, 1e-9), 1 - 1e-9)
    factor = max(1.0, variance / model(start))
    reach = float(norm.ppf((1 + _CONFIDENCE) / 2)) ** 2 * factor

    def excess(theta: float) -> float:
        return (area - theta) ** 2 - reach * model(theta)

    return min(area, float(brentq(excess, 0, start))), max(area, float(brentq(excess, start, 1)))


def mean_interval(value: float, without: Sequence[float | None], defective: ArrayLike) -> Interval:
    """Interval of a figure between 0 and 1 that is a mean over many pixels or regions of each part.

    Parameters
    ----------
    value : float
        Of all parts.
    without : sequence of float or None
        The same figure with one of the P parts left out; None where it is not defined then.
    defective : (P,) bool
        True for parts with a visible defect. They and the others are separate samples, each of its own size.

    Returns
    -------
    (float, float)
        On the logit scale, from the jackknife's variance and Student's t with Satterthwaite's degrees of
        freedom; so it stays within 0 … 1. Where the parts show no spread (all are perfect), the
        Clopper–Pearson interval as if each part of the smaller class were one yes or no. From 0 to 1 where a
        class has only one part.

    Notes
    -----
    Deterministic, and at 5 to 30 parts with skewed overlaps it holds the true mean more often (89 to 95 %)
    than the bootstrap does (78 to 96 %). It knows what the parts show: a rare defect that is missed altogether
    is outside of it when the test had none such.
    """
    labels = np.asarray(defective, dtype=np.bool_)
    jackknife = jackknife_variance(without, labels)
    if jackknife is None:
        return 0.0, 1.0
    variance, degrees = jackknife
    # Leaving out parts is counted in coarse bins, which can show a spread where the figure itself is perfect.
    if variance < _NO_SPREAD or not 0 < value < 1:
        fewest = min(count for count in (int(labels.sum()), int((~labels).sum())) if count)
        return clopper_pearson(round(value * fewest), fewest)
    slope = value * (1 - value)
    reach = float(student_t.ppf((1 + _CONFIDENCE) / 2, degrees)) * math.sqrt(variance) / slope
    # odds·e^−reach, not e^(logit − reach): the latter overflows for two parts that differ much.
    shrink = math.exp(-reach)
    return value * shrink / (1 - value + value * shrink), value / (value + (1 - value) * shrink)


def jackknife_variance(without: Sequence[float | None], defective: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Variance of a figure of two samples of parts, and its degrees of freedom (Satterthwaite).

    None where a sample is a single part, or the figure is not defined without some part.
    """
    if any(value is None for value in without):
        return None
    values = np.array(without, dtype=np.float64)
    samples = [sample for sample in (values[defective], values[~defective]) if sample.size]
    if any(sample.size == 1 for sample in samples):
        return None
    variances = np.array([(sample.size - 1) * sample.var() for sample in samples])
    total = float(variances.sum())
    if total == 0:
        return 0.0, 1.0
    return total, total**2 / sum(v**2 / (sample.size - 1) for v, sample in zip(variances, samples, strict=True))
