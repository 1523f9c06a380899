import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detection import ModelError
from detection.shared import SharedGaussians, SharedMoments, leave_one_out

EPSILON = 0.01


def pictures(count: int, grid: int, dimensions: int, *, seed: int = 0, offset: float = 3.0) -> NDArray[np.float32]:
    """Features of positions that vary alike, but not equally strongly."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dimensions, dimensions))
    strength = 0.5 + rng.random((grid * grid, 1))
    return (offset + strength * (rng.normal(size=(count, grid * grid, dimensions)) @ mix)).astype(np.float32)


def masks(count: int, positions: int, *, seed: int = 0) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((count, positions)) < 0.2


def moments(samples: NDArray[np.float32], hidden: NDArray[np.bool_] | None = None) -> SharedMoments:
    result = SharedMoments.empty(positions=samples.shape[1], dimensions=samples.shape[2])
    result.update_each((one, None if hidden is None else hidden[i]) for i, one in enumerate(samples))
    return result


def trained(samples: NDArray[np.float32], hidden: NDArray[np.bool_] | None = None) -> SharedGaussians:
    return SharedGaussians.from_moments(moments(samples, hidden), epsilon=EPSILON)


def assert_alike(one: SharedGaussians, other: SharedGaussians) -> None:
    scored = one.scored
    np.testing.assert_array_equal(scored, other.scored)
    np.testing.assert_allclose(one.mean[scored], other.mean[scored], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(one.whitening, other.whitening, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(one.scale[scored], other.scale[scored], rtol=1e-3)


@settings(max_examples=25)
@given(st.integers(2, 20), st.integers(2, 5), st.integers(1, 9), st.sampled_from([0.0, 100.0]), st.booleans())
def test_one_pass_equals_two_passes(count: int, grid: int, dimensions: int, offset: float, masked: bool) -> None:
    samples = pictures(count, grid, dimensions, offset=offset)
    hidden = masks(count, grid * grid) if masked else np.zeros((count, grid * grid), dtype=bool)
    one_pass = moments(samples, hidden if masked else None)
    comoment = np.zeros((dimensions, dimensions))
    for p in range(grid * grid):
        shown = samples[~hidden[:, p], p].astype(np.float64)
        assert one_pass.count[p] == len(shown)
        if len(shown):
            deviation = shown - shown.mean(axis=0)
            comoment += deviation.T @ deviation
            np.testing.assert_allclose(one_pass.mean[p], shown.mean(axis=0), rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(one_pass.squares[p], (deviation**2).sum(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(one_pass.comoment, comoment, rtol=1e-4, atol=1e-4 * np.abs(comoment).max())


@settings(max_examples=25)
@given(st.integers(4, 12), st.integers(2, 5), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_leaving_one_out_is_training_without_it(
    count: int, grid: int, dimensions: int, masked: bool, seed: int
) -> None:
    samples = pictures(count, grid, dimensions, seed=seed)
    hidden = masks(count, grid * grid, seed=seed) if masked else None
    total = moments(samples, hidden)
    for i in range(count):
        others = np.delete(samples, i, axis=0)
        without = moments(others, None if hidden is None else np.delete(hidden, i, axis=0))
        mask = None if hidden is None else hidden[i]
        left = leave_one_out(total, samples[i], epsilon=EPSILON, masked=mask)
        assert_alike(left, SharedGaussians.from_moments(without, epsilon=EPSILON))


def test_distances_are_mahalanobis_distances_where_all_positions_are_alike() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(6, 6))
    samples = (rng.normal(size=(400, 64, 6)) @ mix).astype(np.float32)
    squared = trained(samples[:200]).squared_distances(samples[200:])
    truth = np.einsum("npi,ij,npj->np", samples[200:], np.linalg.inv(mix.T @ mix), samples[200:])
    np.testing.assert_allclose(squared, truth, rtol=0.25, atol=0.3)
    assert squared.mean() == pytest.approx(6, rel=0.02)


def test_a_few_pictures_tell_as_much_about_the_covariance_as_many() -> None:
    samples = pictures(60, 16, 8)
    few, many = trained(samples[:6]), trained(samples[:50])
    np.testing.assert_allclose(few.whitening, many.whitening, rtol=0.2, atol=0.05)


def test_a_position_that_varies_more_counts_less() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(30, 256, 5)).astype(np.float32)
    wild = np.zeros((16, 16), dtype=bool)
    wild[:, 8:] = True
    samples[:, wild.reshape(-1)] *= 4
    scale = trained(samples).scale.reshape(16, 16)
    assert scale[:, 12:].max() < 0.75 * scale[:, :4].min()


def test_padding_that_never_varies_does_not_change_what_is_learned() -> None:
    samples = pictures(12, 8, 5)
    samples[:, :32] = 1.5
    padded = trained(samples)
    dof = 11 * 32
    deviation = samples[:, 32:] - samples[:, 32:].mean(axis=0)
    sigma = np.einsum("npi,npj->ij", deviation, deviation) / dof + EPSILON * np.eye(5)
    np.testing.assert_allclose(padded.whitening, np.linalg.inv(np.linalg.cholesky(sigma)), rtol=1e-3, atol=1e-4)


def test_positions_beside_padding_are_held_to_the_same_standard() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(40, 256, 5)).astype(np.float32)
    samples[:, :64] = 0.0
    scale = trained(samples).scale.reshape(16, 16)
    np.testing.assert_allclose(scale[4:], 1, atol=0.1)


def test_masks_do_not_change_the_scale_of_distances() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(10, 256, 5)).astype(np.float32)
    hidden = np.zeros((10, 256), dtype=bool)
    hidden[4:, 128:] = True  # four of ten show the lower half: too few to score it
    squared = trained(samples, hidden).squared_distances(rng.normal(size=(200, 256, 5)).astype(np.float32))
    assert squared[:, :96].mean() == pytest.approx(5, rel=0.15)  # and an estimated mean adds a tenth


def test_one_picture_is_no_training_and_nonsense_is_refused() -> None:
    samples = pictures(3, 4, 5)
    with pytest.raises(ModelError, match="1 training picture"):
        trained(samples[:1])
    samples[1, 2, 3] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        trained(samples)


def test_a_direction_does_not_depend_on_strength_or_place() -> None:
    samples = pictures(40, 8, 6)
    gaussians = trained(samples)
    speck = np.random.default_rng(1).normal(size=6)
    features = np.tile(gaussians.mean, (1, 1)).astype(np.float64)
    for position, strength in ((9, 1.0), (54, 7.0)):
        features[position] += strength * speck
    found = gaussians.directions(features.astype(np.float32), np.array([9, 54]), hidden=np.zeros(64, dtype=bool))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert found[0] @ found[1] == pytest.approx(1, abs=1e-4)


def test_hidden_neighbours_do_not_count() -> None:
    gaussians = trained(pictures(40, 8, 6))
    features = gaussians.mean + np.random.default_rng(1).normal(size=gaussians.mean.shape).astype(np.float32)
    hidden = np.zeros((8, 8), dtype=bool)
    hidden[:, :3] = True
    before = gaussians.directions(features, np.array([27]), hidden=hidden.reshape(-1))
    features.reshape(8, 8, 6)[:, :3] += 100
    np.testing.assert_array_equal(before, gaussians.directions(features, np.array([27]), hidden=hidden.reshape(-1)))
