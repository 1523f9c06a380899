import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detection import ModelError
from detection.config import Precision
from detection.mahalanobis import reference_squared_mahalanobis
from detection.moments import Moments, packed_length, unpack_lower
from detection.whitening import leave_one_out, whitening_factors


def features(count: int, positions: int, dimensions: int, *, seed: int = 0, offset: float = 3.0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dimensions, dimensions))
    return (rng.normal(size=(count, positions, dimensions)) @ mix + offset).astype(np.float32)


def moments(samples: NDArray[np.float32], *, batch: int = 4) -> Moments:
    result = Moments.empty(positions=samples.shape[1], dimensions=samples.shape[2])
    for first in range(0, len(samples), batch):
        result.update(samples[first : first + batch])
    return result


def reference_covariance(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = samples.astype(np.float64)
    return np.stack(
        [np.cov(wide[:, p], rowvar=False, ddof=1).reshape(2 * samples.shape[2:]) for p in range(wide.shape[1])]
    )


def assert_same(first: Moments, second: Moments, *, rtol: float = 1e-4) -> None:
    np.testing.assert_array_equal(first.count, second.count)
    np.testing.assert_allclose(first.mean, second.mean, rtol=1e-6, atol=1e-6)
    scale = np.abs(second.comoment).max()
    np.testing.assert_allclose(first.comoment, second.comoment, rtol=rtol, atol=rtol * scale)


@settings(deadline=None, max_examples=25)
@given(
    count=st.integers(2, 30),
    positions=st.integers(1, 9),
    dimensions=st.integers(1, 12),
    batch=st.integers(1, 8),
    offset=st.sampled_from([0.0, 100.0]),
)
def test_one_pass_equals_two_passes(count: int, positions: int, dimensions: int, batch: int, offset: float) -> None:
    samples = features(count, positions, dimensions, offset=offset)
    one_pass = moments(samples, batch=batch)
    covariance = unpack_lower(one_pass.comoment / (count - 1), dimensions=dimensions)
    expected = np.tril(reference_covariance(samples))
    np.testing.assert_allclose(one_pass.mean, samples.astype(np.float64).mean(axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(covariance, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_order_of_pictures_does_not_matter() -> None:
    samples = features(20, 5, 7)
    assert_same(moments(samples), moments(samples[::-1].copy(), batch=3))


@settings(deadline=None, max_examples=25)
@given(count=st.integers(3, 20), positions=st.integers(1, 20), dimensions=st.integers(1, 30), seed=st.integers(0, 99))
def test_leaving_one_out_is_training_without_it(count: int, positions: int, dimensions: int, seed: int) -> None:
    samples = np.random.default_rng(seed).normal(5.0, 2.0, (count, positions, dimensions)).astype(np.float32)
    total = moments(samples)
    first = positions // 2
    squared = leave_one_out(total, samples[:, first:], epsilon=0.01, first=first)
    for i in range(count):
        others = np.delete(samples[:, first:], i, axis=0).astype(np.float64)
        covariance = reference_covariance(others) + 0.01 * np.eye(dimensions)
        expected = reference_squared_mahalanobis(samples[i, first:] - others.mean(axis=0), covariance)
        np.testing.assert_allclose(squared[i], expected, rtol=2e-3, atol=1e-4)


def test_two_pictures_are_too_few_to_leave_one_out() -> None:
    samples = features(2, 2, 2)
    np.testing.assert_array_equal(leave_one_out(moments(samples), samples, epsilon=0.01), np.zeros((2, 2)))


@settings(deadline=None, max_examples=25)
@given(
    count=st.integers(4, 20),
    positions=st.integers(1, 12),
    dimensions=st.integers(1, 10),
    batch=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_masked_positions_are_as_if_their_pictures_did_not_exist(
    count: int, positions: int, dimensions: int, batch: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.normal(5.0, 2.0, (count, positions, dimensions)).astype(np.float32)
    masked = rng.random((count, positions)) < 0.3
    poisoned = np.where(masked[..., np.newaxis], np.float32(np.nan), samples)
    total = Moments.empty(positions=positions, dimensions=dimensions)
    for first in range(0, count, batch):
        total.update(poisoned[first : first + batch], masked=masked[first : first + batch])
    squared = leave_one_out(total, poisoned, epsilon=0.01, masked=masked)
    for p in range(positions):
        seen = samples[~masked[:, p]][:, [p]]
        assert total.count[p] == len(seen)
        assert total.scored()[p] == (len(seen) >= max(2, count / 2))
        if not len(seen):
            continue
        alone = moments(seen)
        np.testing.assert_allclose(total.mean[p], alone.mean[0], rtol=1e-6)
        np.testing.assert_allclose(total.comoment[p], alone.comoment[0], rtol=1e-3, atol=1e-3)
        if total.scored(left_out=1)[p]:
            expected = leave_one_out(alone, seen, epsilon=0.01)[:, 0]
            np.testing.assert_allclose(squared[~masked[:, p], p], expected, rtol=1e-2, atol=1e-3)
            assert not squared[masked[:, p], p].any()
        else:
            assert not squared[:, p].any()


@settings(deadline=None, max_examples=25)
@given(count=st.integers(2, 25), positions=st.integers(1, 70), dimensions=st.integers(1, 20))
def test_factors_whiten_the_covariance(count: int, positions: int, dimensions: int) -> None:
    samples = features(count, positions, dimensions)
    factors = unpack_lower(whitening_factors(moments(samples), epsilon=0.01), dimensions=dimensions)
    covariance = reference_covariance(samples) + 0.01 * np.eye(dimensions)
    expected = np.linalg.inv(np.linalg.cholesky(covariance))
    np.testing.assert_allclose(factors, expected, rtol=2e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_factors_may_take_the_place_of_the_moments(precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detection.whitening._POSITIONS", 2)
    total = moments(features(9, 7, 8))
    expected = whitening_factors(total, epsilon=0.01, precision=precision)
    in_place = whitening_factors(total, epsilon=0.01, precision=precision, keep_moments=False)
    assert np.shares_memory(in_place, total.comoment)
    np.testing.assert_array_equal(in_place, expected)


def test_identical_pictures_leave_only_the_regularisation() -> None:
    samples = np.repeat(features(1, 3, 4), 5, axis=0)
    factors = unpack_lower(whitening_factors(moments(samples), epsilon=0.01), dimensions=4)
    np.testing.assert_allclose(factors, np.broadcast_to(10 * np.eye(4), (3, 4, 4)), rtol=1e-5)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_pictures_have_no_covariance(count: int) -> None:
    with pytest.raises(ModelError, match="at least 2"):
        whitening_factors(moments(features(count, 2, 3)), epsilon=0.01)


def test_features_that_are_not_finite_are_refused() -> None:
    samples = features(4, 2, 3)
    samples[1, 1, 1] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        whitening_factors(moments(samples), epsilon=0.01)


def test_packing_is_row_by_row() -> None:
    assert packed_length(3) == 6
    expected = [[1, 0, 0], [2, 3, 0], [4, 5, 6]]
    np.testing.assert_array_equal(unpack_lower(np.arange(1.0, 7.0), dimensions=3), expected)
