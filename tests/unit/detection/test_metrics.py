import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from detection.metrics import (
    PAPER_GRID,
    PixelAuroc,
    clopper_pearson,
    rate,
    rate_curves,
    roc_auc,
    tnr_at_full_tpr,
    true_negative_rate,
    true_positive_rate,
)


@given(values=st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=50))
def test_roc_auc_equals_scikit_learn_with_ties(values: list[tuple[int, bool]]) -> None:
    scores, labels = [score for score, _ in values], [label for _, label in values]
    expected = roc_auc_score(labels, scores) if len(set(labels)) == 2 else None
    assert roc_auc(scores, labels) == (None if expected is None else pytest.approx(expected))


def test_pixel_auroc_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    counter = PixelAuroc()
    scores, labels = [], []
    for _ in range(3):
        positive = rng.random((50, 50)) < 0.1
        pixels = (rng.gamma(2, 3, (50, 50)) + 4 * positive).astype(np.float32)
        counter.add(pixels.ravel(), positive.ravel())
        scores.append(pixels.ravel())
        labels.append(positive.ravel())
    expected = roc_auc_score(np.concatenate(labels), np.concatenate(scores))
    assert counter.value() == pytest.approx(expected, abs=1e-4)


def test_pixel_auroc_needs_both_classes() -> None:
    counter = PixelAuroc()
    counter.add(np.array([1, -0.0], dtype=np.float32), np.array([False, False]))
    assert counter.value() is None


@given(
    good=st.lists(st.floats(0, 20), min_size=1, max_size=20),
    defective=st.lists(st.floats(0, 20), min_size=1, max_size=20),
)
def test_tnr_at_full_tpr_by_brute_force(good: list[float], defective: list[float]) -> None:
    exact = tnr_at_full_tpr(good, defective)
    assert exact is not None
    assert true_positive_rate(defective, exact.threshold) == 1
    assert true_positive_rate(defective, np.nextafter(exact.threshold, np.inf)) < 1
    candidates = [t for t in [*good, *defective] if all(d >= t for d in defective)]
    assert exact.tnr == max(sum(g < t for g in good) / len(good) for t in candidates)

    grid = tnr_at_full_tpr(good, defective, grid=PAPER_GRID)
    assert grid is not None
    assert grid.threshold == min(15, np.floor(min(defective)))
    assert grid.tnr == true_negative_rate(good, grid.threshold) <= exact.tnr


def test_figures_of_a_missing_class_are_none() -> None:
    assert tnr_at_full_tpr([], [1.0]) is None
    assert tnr_at_full_tpr([1.0], []) is None
    assert tnr_at_full_tpr([1.0], [2.0], grid=[3.0]) is None
    assert true_positive_rate([], 1) is None
    assert true_negative_rate([], 1) is None
    assert rate_curves([], [1.0], thresholds=[0.0]) is None
    assert rate(0, 0) is None


def test_curves_equal_the_rates() -> None:
    rng = np.random.default_rng(0)
    good, defective = rng.integers(0, 10, 30), rng.integers(3, 15, 20)
    curves = rate_curves(good, defective, thresholds=PAPER_GRID)
    assert curves is not None
    for threshold, tpr, tnr in zip(curves.thresholds, curves.tpr, curves.tnr, strict=True):
        assert tpr == pytest.approx(true_positive_rate(defective, threshold))
        assert tnr == pytest.approx(true_negative_rate(good, threshold))


@given(trials=st.integers(1, 60), share=st.floats(0, 1))
def test_intervals_equal_scipy(trials: int, share: float) -> None:
    successes = round(share * trials)
    expected = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="exact")
    assert clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_papers_interval() -> None:
    result = rate(106, 117)
    assert result is not None
    assert (round(result.value, 3), round(result.low, 3), round(result.high, 3)) == (0.906, 0.838, 0.952)
