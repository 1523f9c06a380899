import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from detection.intervals import auroc_interval, clopper_pearson, mean_interval, rate
from detection.metrics import auroc


@given(area=st.floats(0, 1), negative=st.integers(1, 200), positive=st.integers(1, 200))
def test_the_interval_of_an_area_holds_it_and_is_never_empty(area: float, negative: int, positive: int) -> None:
    low, high = auroc_interval(area, negative=negative, positive=positive)
    assert 0 <= low <= area <= high <= 1 and high - low > 0.005
    mirrored = auroc_interval(1 - area, negative=negative, positive=positive)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


def test_a_perfect_area_proves_only_as_much_as_there_are_parts() -> None:
    lows = [auroc_interval(1.0, negative=n, positive=n)[0] for n in (1, 3, 10, 30, 100)]
    assert lows == sorted(lows)
    assert lows[2] == pytest.approx(0.800, abs=1e-3)  # at θ = .8: .04 = 3.84·V(θ), by hand
    assert all(auroc_interval(1.0, negative=n, positive=n)[1] == 1 for n in (1, 3, 10, 30, 100))


def covered(estimates: list[tuple[float, float]], truth: float) -> float:
    return float(np.mean([low <= truth <= high for low, high in estimates]))


@pytest.mark.parametrize(("good", "defective"), [(10, 10), (30, 10), (10, 30), (30, 30)])
@pytest.mark.parametrize("area", [0.7, 0.9, 0.97, 0.995])
@pytest.mark.parametrize("spread", [1.0, 2.5])
def test_intervals_of_the_part_auroc_hold_the_truth(good: int, defective: int, area: float, spread: float) -> None:
    rng = np.random.default_rng(1)
    distance = norm.ppf(area) * np.hypot(1, spread)
    wins = distance + spread * rng.normal(size=(400, defective, 1)) > rng.normal(
        size=(400, 1, good)
    )  # (run, defective, good)
    variances = wins.mean(2).var(1, ddof=1) / defective + wins.mean(1).var(1, ddof=1) / good
    found = [
        auroc_interval(float(one.mean()), negative=good, positive=defective, variance=float(variance))
        for one, variance in zip(wins, variances, strict=True)
    ]
    assert covered(found, area) >= 0.92


@pytest.mark.parametrize("alike", [0.1, 0.7])
@pytest.mark.parametrize("area", [0.8, 0.99])
def test_intervals_of_the_image_auroc_hold_the_truth_though_pictures_of_a_part_are_alike(
    alike: float, area: float
) -> None:
    rng = np.random.default_rng(2)
    parts, views = np.repeat(np.arange(20), 6), np.tile(np.arange(6), 20)
    seen = (parts >= 10) & (views < 1 + parts % 3)
    found = []
    for _ in range(60):
        of_part, own = rng.normal(size=20), rng.normal(size=120)
        scores = np.sqrt(alike) * of_part[parts] + np.sqrt(1 - alike) * own
        estimate = auroc(np.where(seen, norm.ppf(area) * np.sqrt(5) + 2 * scores, scores), seen, parts=parts)
        assert estimate is not None
        found.append((estimate.low, estimate.high))
    assert covered(found, area) >= 0.92


@pytest.mark.parametrize("parts", [5, 10, 30])
def test_intervals_of_means_hold_the_truth(parts: int) -> None:
    # Overlaps of parts as they are in practice: most high, some low.
    rng = np.random.default_rng(4)
    overlaps = rng.beta(17, 0.9, (500, parts))
    found = []
    for sample in overlaps:
        without = (sample.sum() - sample) / (parts - 1)
        found.append(mean_interval(float(sample.mean()), without.tolist(), np.ones(parts, dtype=np.bool_)))
    assert covered(found, 17 / 17.9) >= 0.91
    assert all(0 <= low < high <= 1 for low, high in found)


@pytest.mark.parametrize("value", [0.0, 0.7, 1.0])
def test_the_interval_of_parts_that_are_all_alike_is_not_empty(value: float) -> None:
    low, high = mean_interval(value, [value] * 9, [True] * 4 + [False] * 5)
    assert low <= value <= high and high - low > 0.5


@given(trials=st.integers(1, 60), share=st.floats(0, 1))
def test_intervals_equal_scipy(trials: int, share: float) -> None:
    successes = round(share * trials)
    expected = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="exact")
    assert clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_papers_interval() -> None:
    result = rate(106, 117)
    assert result is not None
    assert (round(result.value, 3), round(result.low, 3), round(result.high, 3)) == (0.906, 0.838, 0.952)
