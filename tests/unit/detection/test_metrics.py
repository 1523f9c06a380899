import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from detection.metrics import (
    PAPER_GRID,
    PixelCounts,
    auroc,
    auroc_interval,
    clopper_pearson,
    mean_interval,
    rate,
    rate_curves,
    roc_auc,
    tnr_at_full_tpr,
)

Picture = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]


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


def test_many_pictures_of_few_parts_do_not_narrow_the_interval() -> None:
    scores, labels = np.array([1.0, 2, 3, 2.5, 4, 5]), np.array([False] * 3 + [True] * 3)
    single = auroc(scores, labels, parts=range(6))
    repeated = auroc(np.repeat(scores, 50), np.repeat(labels, 50), parts=np.repeat(range(6), 50))
    assert single == repeated


@pytest.mark.parametrize("parts", [[0, 1, 2, 3], [0, 1, 0, 1], [0, 0, 0, 0]])
def test_an_area_of_few_parts_has_a_wide_interval(parts: list[int]) -> None:
    estimate = auroc([1, 2, 3, 4], [False, False, True, True], parts=parts)
    assert estimate is not None and estimate.value == estimate.high == 1 and estimate.low < 0.5


def random_pictures(count: int, *, whole_numbers: bool) -> list[Picture]:
    """Heatmap, defects and valid pixels, 24×24; two defects a picture, one of them cut in two by an invalid row."""
    rng = np.random.default_rng(3)
    pictures = []
    for _ in range(count):
        defects = np.zeros((24, 24), dtype=np.bool_)
        defects[4:12, 5:7] = True
        defects[[15, 16, 17], [15, 16, 17]] = True  # one region only if corners connect
        valid = np.ones((24, 24), dtype=np.bool_)
        valid[8] = valid[:, 22:] = False
        heatmap = rng.gamma(2, 3, (24, 24)) + 5 * defects * rng.random((24, 24))
        if whole_numbers:
            heatmap = np.floor(heatmap)
        pictures.append((heatmap.astype(np.float32), defects, valid))
    return pictures


def pro_by_brute_force(pictures: list[Picture], *, limit: float = 0.3) -> float:
    """Every threshold, every region, one after the other."""
    thresholds = np.unique(np.concatenate([heatmap[valid] for heatmap, _, valid in pictures]))[::-1]
    rates, overlaps = [0.0], [0.0]
    for threshold in thresholds:
        false, outside, shares = 0, 0, []
        for heatmap, defects, valid in pictures:
            false += int((valid & ~defects & (heatmap >= threshold)).sum())
            outside += int((valid & ~defects).sum())
            labels, count = label(defects, structure=np.ones((3, 3)))
            for number in range(1, count + 1):
                region = (labels == number) & valid
                if region.any():
                    shares.append((heatmap[region] >= threshold).mean())
        rates.append(false / outside)
        overlaps.append(np.mean(shares))
    at_limit = float(np.interp(limit, rates, overlaps))
    inside = np.array(rates) < limit
    x, y = np.append(np.array(rates)[inside], limit), np.append(np.array(overlaps)[inside], at_limit)
    return float(np.trapezoid(y, x) / limit)


def counted(pictures: list[Picture], *, parts: int) -> PixelCounts:
    counts = PixelCounts(parts)
    for i, (heatmap, defects, valid) in enumerate(pictures):
        counts.add(heatmap, defects, valid, part=i % parts)
    return counts


@pytest.mark.parametrize(("whole_numbers", "tolerance"), [(True, 1e-12), (False, 1e-3)])
def test_pixel_figures_equal_scikit_learn_and_brute_force(whole_numbers: bool, tolerance: float) -> None:
    pictures = random_pictures(6, whole_numbers=whole_numbers)
    counts = counted(pictures, parts=3)
    area, overlap = counts.auroc(), counts.pro()
    truth = np.concatenate([defects[valid] for _, defects, valid in pictures])
    scores = np.concatenate([heatmap[valid] for heatmap, _, valid in pictures])
    assert area is not None and overlap is not None
    assert area.value == pytest.approx(roc_auc_score(truth, scores), abs=tolerance)
    assert overlap.value == pytest.approx(pro_by_brute_force(pictures), abs=tolerance)
    assert area.low < area.value < area.high and overlap.low < overlap.value < overlap.high


def test_pixel_intervals_are_those_of_leaving_out_parts() -> None:
    pictures = random_pictures(6, whole_numbers=True)
    for heatmap, defects, _ in pictures[3:]:
        heatmap -= 2 * defects * (heatmap > 2)
        defects[...] = False
    without = [pictures[:i] + pictures[i + 1 :] for i in range(6)]
    counts = counted(pictures, parts=6)
    for estimate, reference in ((counts.auroc(), area_by_scikit_learn), (counts.pro(), pro_by_brute_force)):
        assert estimate is not None
        expected = mean_interval(estimate.value, [reference(kept) for kept in without], [True] * 3 + [False] * 3)
        assert (estimate.low, estimate.high) == pytest.approx(expected, abs=1e-6)


def area_by_scikit_learn(pictures: list[Picture]) -> float:
    truth = np.concatenate([defects[valid] for _, defects, valid in pictures])
    return float(roc_auc_score(truth, np.concatenate([heatmap[valid] for heatmap, _, valid in pictures])))


def test_pro_weighs_regions_alike_and_pixels_not() -> None:
    heatmap = np.zeros((10, 10), dtype=np.float32)
    defects = np.zeros((10, 10), dtype=np.bool_)
    defects[:5, :5] = defects[8, 8] = True
    valid = np.ones_like(defects)
    heatmap[:5, :5] = 9
    counts = PixelCounts(1)
    counts.add(heatmap, defects, valid, part=0)
    estimate = counts.pro()
    # Half of the regions is found without a false pixel; the other at random.
    assert estimate is not None and estimate.value == pytest.approx(0.5 + 0.5 * 0.15)
    assert (estimate.low, estimate.high) == (0, 1)  # one part says nothing about others


def test_figures_of_pixels_without_both_classes_are_none() -> None:
    zero = np.array([[-0.0, 1]], dtype=np.float32)
    nothing, everything = np.zeros((1, 2), dtype=np.bool_), np.ones((1, 2), dtype=np.bool_)
    for defects, valid in ((nothing, everything), (everything, everything), (everything, nothing)):
        counts = PixelCounts(1)
        counts.add(zero, defects, valid, part=0)
        assert counts.auroc() is None and counts.pro() is None
    counts.add(zero, np.array([[False, True]]), np.array([[True, False]]), part=0)  # the region is not valid
    assert counts.pro() is None


def test_perfect_heatmaps_prove_only_as_much_as_there_are_parts() -> None:
    defects = np.zeros((20, 20), dtype=np.bool_)
    defects[3:6, 3:10] = True  # 21 pixels: shares of 1/21 do not add up to exactly 1
    valid = np.ones_like(defects)
    counts = PixelCounts(12)
    for part in range(12):
        counts.add((defects * 5 * (part < 8)).astype(np.float32), defects & (part < 8), valid, part=part)
    for estimate in (counts.auroc(), counts.pro()):
        assert estimate is not None and (estimate.value, estimate.high) == (1, 1)
        assert estimate.low == pytest.approx(0.025 ** (1 / 4))  # the smaller class has four parts


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


def test_a_perfect_pixel_auroc_that_coarser_bins_do_not_show_has_an_interval() -> None:
    counts = PixelCounts(4)
    everywhere = np.ones((1, 2), dtype=np.bool_)
    for part, height in enumerate((1.01, 1.02, 0, 0)):
        heatmap = np.array([[1, height]], dtype=np.float32)
        counts.add(heatmap, np.array([[False, height > 0]]), everywhere, part=part)
    estimate = counts.auroc()
    assert estimate is not None and (estimate.value, estimate.high) == (1, 1)
    assert estimate.low == pytest.approx(0.025 ** (1 / 2))


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

    grid = tnr_at_full_tpr(good, defective, grid=PAPER_GRID)
    assert grid is not None
    assert grid.threshold == min(15, np.floor(min(defective)))
    assert grid.tnr == rate(sum(g < grid.threshold for g in good), len(good))
    assert grid.tnr.value <= exact.tnr.value


def test_figures_of_a_missing_class_are_none() -> None:
    assert tnr_at_full_tpr([], [1.0]) is None
    assert tnr_at_full_tpr([1.0], []) is None
    assert tnr_at_full_tpr([1.0], [2.0], grid=[3.0]) is None
    assert auroc([1.0], [True], parts=[0]) is None
    assert rate_curves([], [1.0], thresholds=[0.0]) is None
    assert rate(0, 0) is None


def test_curves_equal_the_rates() -> None:
    rng = np.random.default_rng(0)
    good, defective = rng.integers(0, 10, 30), rng.integers(3, 15, 20)
    curves = rate_curves(good, defective, thresholds=PAPER_GRID)
    assert curves is not None
    for threshold, tpr, tnr in zip(curves.thresholds, curves.tpr, curves.tnr, strict=True):
        assert tpr == pytest.approx((defective >= threshold).mean())
        assert tnr == pytest.approx((good < threshold).mean())


@given(trials=st.integers(1, 60), share=st.floats(0, 1))
def test_intervals_equal_scipy(trials: int, share: float) -> None:
    successes = round(share * trials)
    expected = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="exact")
    assert clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_papers_interval() -> None:
    result = rate(106, 117)
    assert result is not None
    assert (round(result.value, 3), round(result.low, 3), round(result.high, 3)) == (0.906, 0.838, 0.952)
