import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

from detection.intervals import mean_interval
from detection.pixel_metrics import PixelCounts

Picture = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]


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


def test_a_perfect_pixel_auroc_that_coarser_bins_do_not_show_has_an_interval() -> None:
    counts = PixelCounts(4)
    everywhere = np.ones((1, 2), dtype=np.bool_)
    for part, height in enumerate((1.01, 1.02, 0, 0)):
        heatmap = np.array([[1, height]], dtype=np.float32)
        counts.add(heatmap, np.array([[False, height > 0]]), everywhere, part=part)
    estimate = counts.auroc()
    assert estimate is not None and (estimate.value, estimate.high) == (1, 1)
    assert estimate.low == pytest.approx(0.025 ** (1 / 2))
