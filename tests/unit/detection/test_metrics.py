import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from detection.intervals import auroc_interval, rate
from detection.metrics import PAPER_STEP, auroc, rate_curves, roc_auc, tnr_at_full_tpr


@given(values=st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=50))
def test_roc_auc_equals_scikit_learn_with_ties(values: list[tuple[int, bool]]) -> None:
    scores, labels = [score for score, _ in values], [label for _, label in values]
    expected = roc_auc_score(labels, scores) if len(set(labels)) == 2 else None
    assert roc_auc(scores, labels) == (None if expected is None else pytest.approx(expected))


def test_delongs_variance_is_what_leaving_out_parts_finds() -> None:
    # Wide defects, so that DeLong's variance is the larger one; written out from its structural components.
    rng = np.random.default_rng(0)
    good, defective = rng.normal(size=40), 1 + 3 * rng.normal(size=10)
    wins = (defective[:, np.newaxis] > good).astype(float)
    delong = wins.mean(axis=1).var(ddof=1) / 10 + wins.mean(axis=0).var(ddof=1) / 40
    found = auroc(np.concatenate([good, defective]), np.repeat([False, True], [40, 10]), parts=range(50))
    assert found is not None and found.value == pytest.approx(wins.mean())
    expected = auroc_interval(wins.mean(), negative=40, positive=10, variance=delong)
    assert (found.low, found.high) == pytest.approx(expected)
    assert expected[0] < auroc_interval(wins.mean(), negative=40, positive=10)[0]


def test_many_pictures_of_few_parts_do_not_narrow_the_interval() -> None:
    scores, labels = np.array([1.0, 2, 3, 2.5, 4, 5]), np.array([False] * 3 + [True] * 3)
    single = auroc(scores, labels, parts=range(6))
    repeated = auroc(np.repeat(scores, 50), np.repeat(labels, 50), parts=np.repeat(range(6), 50))
    assert single == repeated


@pytest.mark.parametrize("parts", [[0, 1, 2, 3], [0, 1, 0, 1], [0, 0, 0, 0]])
def test_an_area_of_few_parts_has_a_wide_interval(parts: list[int]) -> None:
    estimate = auroc([1, 2, 3, 4], [False, False, True, True], parts=parts)
    assert estimate is not None and estimate.value == estimate.high == 1 and estimate.low < 0.5


@given(
    good=st.lists(st.floats(0, 20), min_size=1, max_size=20),
    defective=st.lists(st.floats(0, 20), min_size=1, max_size=20),
)
def test_tnr_at_full_tpr_by_brute_force(good: list[float], defective: list[float]) -> None:
    exact = tnr_at_full_tpr(good, defective)
    assert exact is not None
    assert all(d >= exact.threshold for d in defective)
    assert not all(d >= np.nextafter(exact.threshold, np.inf) for d in defective)
    candidates = [t for t in [*good, *defective] if all(d >= t for d in defective)]
    passed = max(sum(g < t for g in good) for t in candidates)
    expected = binomtest(passed, len(good)).proportion_ci(confidence_level=0.95, method="exact")
    assert exact.tnr.value == passed / len(good)
    assert (exact.tnr.low, exact.tnr.high) == pytest.approx((expected.low, expected.high), abs=1e-9)

    grid = tnr_at_full_tpr(good, defective, step=PAPER_STEP)
    assert grid is not None
    assert grid.threshold == np.floor(min(defective))
    assert grid.tnr == rate(sum(g < grid.threshold for g in good), len(good))
    assert grid.tnr.value <= exact.tnr.value


def test_figures_of_a_missing_class_are_none() -> None:
    assert tnr_at_full_tpr([], [1.0]) is None
    assert tnr_at_full_tpr([1.0], []) is None
    assert tnr_at_full_tpr([1.0], [np.inf], step=1.0) is not None
    assert auroc([1.0], [True], parts=[0]) is None
    assert rate_curves([], [1.0], thresholds=[0.0]) is None
    assert rate(0, 0) is None


def test_curves_equal_the_rates() -> None:
    rng = np.random.default_rng(0)
    good, defective = rng.integers(0, 10, 30), rng.integers(3, 15, 20)
    curves = rate_curves(good, defective, thresholds=range(16))
    assert curves is not None
    for threshold, tpr, tnr in zip(curves.thresholds, curves.tpr, curves.tnr, strict=True):
        assert tpr == pytest.approx((defective >= threshold).mean())
        assert tnr == pytest.approx((good < threshold).mean())
