import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detection.heatmap import smooth_heatmap
from detection.nuisances import Peaks, discounted, held_out_novelty, novelty, peaks_of
from detection.shared import SharedGaussians, SharedMoments

GRID, DIMENSIONS = 16, 5


def gaussians() -> SharedGaussians:
    rng = np.random.default_rng(0)
    moments = SharedMoments.empty(positions=GRID * GRID, dimensions=DIMENSIONS)
    moments.update_each((rng.normal(size=(GRID * GRID, DIMENSIONS)).astype(np.float32), None) for _ in range(30))
    return SharedGaussians.from_moments(moments, epsilon=0.01)


def unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), dtype=np.float32)


def some_peaks(heatmap: NDArray[np.float32], valid: NDArray[np.bool_], count: int) -> Peaks:
    learned = gaussians()
    hidden = np.zeros(GRID * GRID, dtype=bool)
    return peaks_of(heatmap, valid, learned.mean + 1, learned, hidden=hidden, count=count)


def noise(seed: int) -> NDArray[np.float32]:
    distances = np.random.default_rng(seed).random((GRID, GRID)).astype(np.float32)
    return smooth_heatmap(distances, resolution=4 * GRID)


@settings(max_examples=30)
@given(st.integers(0, 999), st.integers(1, 12))
def test_peaks_fall_in_height_and_keep_their_distance(seed: int, count: int) -> None:
    heatmap, valid = noise(seed), np.ones((4 * GRID, 4 * GRID), dtype=bool)
    peaks = some_peaks(heatmap, valid, count)
    assert peaks.heights[0] == heatmap.max() and (np.diff(peaks.heights) <= 0).all()
    places = np.stack(np.divmod(peaks.positions, GRID), axis=1)
    apart = np.linalg.norm(places[:, np.newaxis] - places, axis=2)[~np.eye(len(places), dtype=bool)]
    assert (apart > 4).all() or len(places) == 1


def test_what_is_not_valid_is_no_peak() -> None:
    heatmap, valid = noise(0), np.zeros((4 * GRID, 4 * GRID), dtype=bool)
    assert not len(some_peaks(heatmap, valid, 5).positions)
    valid[:20, :20] = True
    found = some_peaks(heatmap, valid, 5)
    assert found.heights[0] == heatmap[:20, :20].max()


@settings(max_examples=30)
@given(st.integers(0, 999), st.integers(1, 12))
def test_the_highest_pixel_that_is_left_is_a_peaks(seed: int, count: int) -> None:
    heatmap = noise(seed)
    valid = np.random.default_rng(seed).random(heatmap.shape) < 0.9
    peaks = some_peaks(heatmap, valid, count)
    factors = np.random.default_rng(seed + 1).random(len(peaks.heights)).astype(np.float32)
    left = discounted(heatmap, peaks, factors)
    assert left[valid].max() == pytest.approx((peaks.heights * factors).max(), rel=1e-6)
    assert (left <= heatmap).all()


def test_what_is_known_counts_nothing_and_what_is_new_counts_whole() -> None:
    axes = np.eye(3, DIMENSIONS, dtype=np.float32)
    np.testing.assert_allclose(novelty(axes, [axes[:1]]), [0, 1, 1])
    np.testing.assert_allclose(novelty(axes, []), 1)
    np.testing.assert_allclose(novelty(axes, [-axes]), 1)
    between = unit(np.array([[1.0, 1.0, 0, 0, 0]]))
    np.testing.assert_allclose(novelty(between, [axes[:1], axes[1:]]), np.sqrt(1 - np.sqrt(0.5)), rtol=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 999))
def test_knowing_more_never_makes_anything_newer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen, known = unit(rng.normal(size=(6, DIMENSIONS))), unit(rng.normal(size=(9, DIMENSIONS)))
    assert (novelty(seen, [known]) <= novelty(seen, [known[:4]]) + 1e-7).all()


def test_a_held_out_part_is_judged_by_what_the_others_show() -> None:
    axes = np.eye(DIMENSIONS, dtype=np.float32)
    places, heights = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.float32)

    def peak(axis: int) -> Peaks:
        return Peaks(places, heights, axes[axis : axis + 1])

    # Two views of three parts: part 1 shows in its second view what part 0 shows in its first.
    seen = [[peak(0), peak(1), peak(2)], [peak(3), peak(0), peak(2)]]
    found = held_out_novelty(seen, [])
    assert [[float(part[0]) for part in view] for view in found] == [[0, 1, 1], [1, 0, 1]]
    assert float(held_out_novelty(seen, [axes[2:3]])[0][2][0]) == 0
