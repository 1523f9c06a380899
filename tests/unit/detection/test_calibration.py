import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detection import ModelError, held_out_threshold, middle_of_means
from detection.calibration import (
    calibration_parts_needed,
    cross_conformal_threshold,
    share_of,
    split_conformal_threshold,
    swept_threshold,
)
from detection.decisions import part_statistic, reaches

Float64 = NDArray[np.float64]

# Few different values, so that ties are met.
tied = st.lists(st.integers(0, 12).map(float), min_size=9, max_size=60)
alphas = st.sampled_from([0.1, 0.15, 0.25, 0.3, 0.45, 0.5, 0.7, 0.9])


def test_middle_of_means() -> None:
    assert middle_of_means([1, 2, 3], [8, 12]) == 6
    with pytest.raises(ModelError, match="missing"):
        middle_of_means([1.0], [])


@settings(deadline=None)
@given(anomalous=st.lists(st.floats(0, 1000), min_size=1, max_size=30), step=st.sampled_from([0.0, 0.1, 0.25, 1.0]))
def test_a_sweep_ends_at_the_highest_threshold_that_finds_all(anomalous: list[float], step: float) -> None:
    threshold = swept_threshold(anomalous, step=step)
    assert all(reaches(value, threshold) for value in anomalous)
    assert min(anomalous) < threshold + step * (1 + 1e-9) if step else threshold == min(anomalous)


def test_the_papers_grid() -> None:
    anomalous = [11.2, 10.9, 14.0]
    grid = [t for t in range(16) if all(value >= t for value in anomalous)]
    assert swept_threshold(anomalous, step=1.0) == max(grid) == 10
    with pytest.raises(ModelError, match="anomalous"):
        swept_threshold([], step=1.0)


@settings(deadline=None)
@given(statistics=st.lists(st.floats(0, 1000), min_size=1, max_size=60), alpha=alphas)
def test_the_threshold_lets_the_ranked_part_pass(statistics: list[float], alpha: float) -> None:
    count = len(statistics)
    rank = math.ceil((1 - Fraction(str(alpha))) * (count + 1))
    ranked = sorted(statistics)[min(rank, count) - 1]
    threshold = held_out_threshold(statistics, alpha=alpha)
    assert not reaches(ranked, threshold)
    assert all(reaches(value, threshold) for value in statistics if value > ranked)


def test_the_largest_is_taken_when_there_are_too_few_parts() -> None:
    statistics = [float(value) for value in range(1, 19)]
    assert held_out_threshold(statistics, alpha=0.05) == np.nextafter(18.0, np.inf)  # 18 < 1/0.05 − 1
    assert held_out_threshold([*statistics, 19.0, 20.0], alpha=0.05) == np.nextafter(20.0, np.inf)
    assert held_out_threshold([float(value) for value in range(1, 40)], alpha=0.05) == np.nextafter(38.0, np.inf)


def test_without_parts_everything_is_anomalous() -> None:
    assert reaches(0.0, held_out_threshold([], alpha=0.05))


@settings(deadline=None)
@given(statistics=tied, new=st.integers(0, 13).map(float), alpha=alphas)
def test_split_conformal_rejects_where_the_p_value_does(statistics: list[float], new: float, alpha: float) -> None:
    p_value = Fraction(1 + sum(value >= new for value in statistics), len(statistics) + 1)
    assert reaches(new, split_conformal_threshold(statistics, alpha=alpha)) == (p_value <= Fraction(str(alpha)))


@settings(deadline=None)
@given(statistics=tied, alpha=alphas)
def test_at_most_alpha_of_exchangeable_parts_is_rejected(statistics: list[float], alpha: float) -> None:
    # Each of the parts in turn is the new one: that is the guarantee, counted out, ties included.
    rejected = sum(
        reaches(new, split_conformal_threshold([*statistics[:i], *statistics[i + 1 :]], alpha=alpha))
        for i, new in enumerate(statistics)
        if len(statistics) - 1 >= calibration_parts_needed(alpha)
    )
    assert rejected <= Fraction(str(alpha)) * len(statistics)


@pytest.mark.parametrize(
    "method",
    [held_out_threshold, split_conformal_threshold, partial(cross_conformal_threshold, trained_with=30)],
    ids=["held_out", "split_conformal", "cross_conformal"],
)
@settings(deadline=None)
@given(data=st.data(), statistics=tied)
def test_the_order_of_parts_does_not_matter_and_a_larger_alpha_rejects_more(
    method: Callable[..., float], data: st.DataObject, statistics: list[float]
) -> None:
    shuffled = data.draw(st.permutations(statistics))
    low, high = sorted(data.draw(st.tuples(alphas, alphas)))
    assert method(statistics, alpha=low) == method(shuffled, alpha=low) >= method(statistics, alpha=high)


@pytest.mark.parametrize("alpha, needed", [(0.05, 19), (0.1, 9), (0.07, 14), (0.29, 3), (0.5, 1), (0.01, 99)])
def test_too_few_parts_for_alpha_are_refused_with_how_many_are_needed(alpha: float, needed: int) -> None:
    assert calibration_parts_needed(alpha) == needed
    statistics = [float(value) for value in range(1, needed + 1)]
    assert split_conformal_threshold(statistics, alpha=alpha) == np.nextafter(float(needed), np.inf)
    with pytest.raises(ModelError, match=f"needs {needed} "):
        split_conformal_threshold(statistics[:-1], alpha=alpha)
    with pytest.raises(ModelError, match=f"needs {needed} "):
        cross_conformal_threshold(statistics[:-1], trained_with=needed, alpha=alpha)
    with pytest.raises(ModelError, match="at least 3"):
        cross_conformal_threshold(statistics, trained_with=2, alpha=alpha)


def test_shares_count_as_they_are_written() -> None:
    assert [share_of(count, share) for count, share in ((100, 0.07), (30, 0.1), (20, 0.0), (7, 0.1))] == [7, 3, 0, 1]


def correlated_views(rng: np.random.Generator, parts: int) -> Float64:
    """Scores (parts, 16): a share of each part's oddness is seen by all of its views; skewed, as maxima are."""
    return np.exp(rng.normal(3, 0.2, (parts, 1)) + rng.normal(0, 0.15, (parts, 16)))


def statistics_of(view_scores: Float64) -> list[float]:
    return [part_statistic(scores.tolist(), k=2) for scores in view_scores]


def rejected_over_draws(*, drift: float) -> int:
    """Of 1,000 draws of 25 calibration parts and one new part, how often the new one is rejected at alpha 0.1.

    The new part's scores are multiplied by 1 + drift.
    """
    rng = np.random.default_rng(20)
    rejected = 0
    for _ in range(1000):
        statistics = statistics_of(correlated_views(rng, 26))
        rejected += reaches(statistics[0] * (1 + drift), split_conformal_threshold(statistics[1:], alpha=0.1))
    return rejected


def test_split_conformal_keeps_its_promise_over_1000_draws_and_not_under_drift() -> None:
    # Standard deviation of a binomial count of 1,000 at 0.1: 9.5. Rank 24 of 25 makes it 2/26 = 0.077, not 0.1.
    assert 77 - 3 * 8.5 < rejected_over_draws(drift=0) < 100 + 3 * 9.5
    # One standard deviation of the log part statistic: calibrated in one cavity, used on another.
    assert rejected_over_draws(drift=0.22) > 200


def distances(training: Float64, pictures: Float64) -> Float64:
    """Mahalanobis distances (M, P) of pictures (M, P, d) to the Gaussians of training pictures (n, P, d)."""
    delta = pictures - training.mean(axis=0)
    spread = training - training.mean(axis=0)
    covariance = np.einsum("npi,npj->pij", spread, spread) / (len(training) - 1) + 0.01 * np.eye(training.shape[2])
    return np.sqrt(np.einsum("mpi,pij,mpj->mp", delta, np.linalg.inv(covariance), delta))


def part_statistics(training: Float64, pictures: Float64) -> Float64:
    """Second largest of three views' largest distances; four positions a view."""
    views = distances(training, pictures).reshape(len(pictures), 3, 4).max(axis=2)
    return np.sort(views, axis=1)[:, -2]


def left_out_statistics(features: Float64) -> list[float]:
    return [
        float(part_statistics(np.delete(features, i, axis=0), features[i : i + 1])[0]) for i in range(len(features))
    ]


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(3, 12), dimensions=st.integers(1, 5), scale=st.floats(0.01, 100)
)
def test_no_model_without_a_part_gives_less_than_the_bound(
    seed: int, count: int, dimensions: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    training = rng.standard_t(2, (count, 3, dimensions)) * scale
    pictures = training[rng.integers(count, size=20)] * rng.normal(1, 0.5, (20, 1, 1)) + rng.normal(
        0, rng.choice([0.01, 1, 30]), (20, 3, dimensions)
    )
    bound = math.sqrt((count - 2) / (count - 1)) * (distances(training, pictures) - 1 / math.sqrt(count))
    for i in range(count):
        without = distances(np.delete(training, i, axis=0), pictures)
        assert (without >= bound - 1e-6 * (1 + np.abs(bound))).all()


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), alpha=st.sampled_from([0.1, 0.2, 0.3]))
def test_what_cross_conformal_rejects_is_odd_to_every_model_that_left_a_part_out(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    training, new = rng.standard_t(3, (10, 12, 3)), rng.standard_t(3, (6, 12, 3)) * 2
    left_out = left_out_statistics(training)
    threshold = cross_conformal_threshold(left_out, trained_with=10, alpha=alpha)
    smallest = np.min([part_statistics(np.delete(training, i, axis=0), new) for i in range(10)], axis=0)
    for statistic, lowest in zip(part_statistics(training, new), smallest, strict=True):
        p_value = Fraction(1 + sum(value >= lowest for value in left_out), 11)
        assert not reaches(statistic, threshold) or p_value <= Fraction(str(alpha))


def cross_rejected_over_draws(*, drift: float) -> int:
    """The same 1,000 draws for cross-conformal: 9 training parts and a new one with heavy-tailed features."""
    rng = np.random.default_rng(21)
    rejected = 0
    for _ in range(1000):
        features = rng.standard_t(4, (10, 12, 3))
        threshold = cross_conformal_threshold(left_out_statistics(features[1:]), trained_with=9, alpha=0.1)
        statistic = part_statistics(features[1:], features[:1] + drift)[0]
        rejected += reaches(float(statistic), threshold)
    return rejected


def test_cross_conformal_keeps_its_promise_over_1000_draws_and_not_under_drift() -> None:
    assert 0 < cross_rejected_over_draws(drift=0) < 100 + 3 * 9.5
    assert cross_rejected_over_draws(drift=2.0) > 200
