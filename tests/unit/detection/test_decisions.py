import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import area_opening

from detection import DecisionError, PictureError
from detection.config import ScoreConfig
from detection.decisions import (
    cluster_area_px,
    cluster_score,
    image_score,
    max_score,
    part_statistic,
    percentile_score,
    reaches,
)

ALL = np.ones((40, 40), dtype=np.bool_)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2, 3, (40, 40)).astype(np.float32)


def test_max_ignores_invalid_pixels() -> None:
    heatmap, valid = noise(), ALL.copy()
    heatmap[3, 4], valid[3, 4] = 1000, False
    assert max_score(heatmap, valid) == heatmap[valid].max() < 1000


def test_percentile_ignores_invalid_pixels() -> None:
    heatmap, valid = noise(), ALL.copy()
    valid[:20], heatmap[:20] = False, 0
    expected = np.quantile(heatmap[20:].astype(np.float64), 0.9)
    assert percentile_score(heatmap, valid, percentile=90) == pytest.approx(expected, rel=1e-5)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), area=st.integers(1, 60), levels=st.sampled_from([3, 20, 0]))
def test_cluster_is_the_maximum_after_area_opening(seed: int, area: int, levels: int) -> None:
    heatmap = noise(seed)
    if levels:  # plateaus and ties
        heatmap = np.round(heatmap * levels / heatmap.max()).astype(np.float32)
    expected = area_opening(heatmap, area_threshold=area, connectivity=2).max()
    assert cluster_score(heatmap, ALL, area_px=area) == expected


def test_cluster_reaches_a_threshold_exactly_when_a_component_is_there() -> None:
    heatmap = np.zeros((40, 40), dtype=np.float32)
    heatmap[5:9, 5:9] = 7  # 16 pixels
    heatmap[20:30, 20:30] = 4
    assert cluster_score(heatmap, ALL, area_px=15.2) == 7
    assert cluster_score(heatmap, ALL, area_px=16) == 7
    assert cluster_score(heatmap, ALL, area_px=16.01) == 4


def test_cluster_joins_diagonal_neighbours() -> None:
    heatmap = np.zeros((40, 40), dtype=np.float32)
    heatmap[range(5), range(5)] = 3
    assert cluster_score(heatmap, ALL, area_px=5) == 3


def test_invalid_pixels_split_clusters() -> None:
    heatmap, valid = np.full((40, 40), 1, dtype=np.float32), ALL.copy()
    heatmap[10:14, :20] = 5
    assert cluster_score(heatmap, valid, area_px=80) == 5
    valid[:, 10] = False
    assert cluster_score(heatmap, valid, area_px=80) == 1


def test_a_region_smaller_than_the_defect_is_refused() -> None:
    valid = np.zeros_like(ALL)
    valid[:3, :3] = True
    with pytest.raises(PictureError, match="no connected region of 10"):
        cluster_score(noise(), valid, area_px=10)
    valid[20:23, 20:23] = True  # 18 pixels, but not connected
    with pytest.raises(PictureError, match="no connected region of 10"):
        cluster_score(noise(), valid, area_px=10)


@pytest.mark.parametrize("method", ["max", "percentile", "cluster"])
def test_without_valid_pixels_there_is_no_score(method: str) -> None:
    with pytest.raises(PictureError, match="no valid pixel"):
        image_score(
            noise(),
            np.zeros_like(ALL),
            config=ScoreConfig.model_validate({"method": method}),
            picture_width_mm=10.0,
        )


def test_a_single_hot_pixel_counts_for_max_but_is_no_cluster() -> None:
    heatmap = np.ones((40, 40), dtype=np.float32)
    heatmap[7, 7] = 50
    assert max_score(heatmap, ALL) == 50
    assert cluster_score(heatmap, ALL, area_px=2) == 1


@pytest.mark.parametrize(("resolution", "area"), [(1024, 131), (512, 86), (256, 67)])
def test_cluster_area_of_the_paper(resolution: int, area: int) -> None:
    size = cluster_area_px(smallest_defect_mm=0.5, resolution=resolution, picture_width_mm=1024 / 9.8, sigma=4)
    assert round(size) == area


def test_cluster_needs_the_scale() -> None:
    with pytest.raises(DecisionError, match="millimetres"):
        image_score(noise(), ALL, config=ScoreConfig(method="cluster"), picture_width_mm=None)


@given(
    scores=st.lists(st.floats(0, 100), min_size=1, max_size=16),
    threshold=st.floats(0, 100),
    k=st.integers(1, 16),
)
def test_the_statistic_is_the_vote(scores: list[float], threshold: float, k: int) -> None:
    if k > len(scores):
        with pytest.raises(DecisionError, match="votes"):
            part_statistic(scores, k=k)
        return
    votes = sum(reaches(score, threshold) for score in scores)
    assert reaches(part_statistic(scores, k=k), threshold) == (votes >= k)


def test_a_score_equal_to_the_threshold_is_anomalous() -> None:
    assert reaches(3.0, 3.0)
    assert not reaches(math.nextafter(3.0, 0.0), 3.0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused(wrong: float) -> None:
    with pytest.raises(DecisionError, match="finite"):
        part_statistic([1.0, wrong, 2.0], k=1)
