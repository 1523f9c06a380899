import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detection.mahalanobis import reference_squared_mahalanobis, squared_mahalanobis
from detection.moments import Moments, unpack_lower
from detection.whitening import whitening_factors


def bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Rounded by torch, each number by itself."""
    return torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()


def widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def distances_to(
    features: NDArray[np.float32], mean: NDArray[np.float64], factors: NDArray[np.float32] | NDArray[np.uint16]
) -> NDArray[np.float32]:
    out = np.empty(features.shape[:2], dtype=np.float32)
    squared_mahalanobis(features, mean.astype(np.float32), factors, out=out)
    return out


def correlated(rng: np.random.Generator, count: int, positions: int, dimensions: int) -> NDArray[np.float32]:
    """Features as networks make them: a few directions vary much, most hardly."""
    mix = rng.normal(size=(positions, dimensions, dimensions)) * 0.7 ** np.arange(dimensions)
    return np.einsum("pij,npj->npi", mix, rng.normal(size=(count, positions, dimensions))).astype(np.float32)


def moments_of(samples: NDArray[np.float32]) -> Moments:
    moments = Moments.empty(positions=samples.shape[1], dimensions=samples.shape[2])
    moments.update(samples)
    return moments


@settings(deadline=None, max_examples=40)
@given(
    positions=st.integers(1, 80),
    dimensions=st.integers(1, 40),
    count=st.integers(2, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_reference_with_inverse_covariances(positions: int, dimensions: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(count, positions, dimensions)).astype(np.float32)
    moments = moments_of(samples)
    pictures = rng.normal(size=(2, positions, dimensions)).astype(np.float32)
    distances = distances_to(pictures, moments.mean, whitening_factors(moments, epsilon=0.01))

    centred = samples.astype(np.float64) - samples.astype(np.float64).mean(axis=0)
    covariance = np.einsum("npi,npj->pij", centred, centred) / (count - 1) + 0.01 * np.eye(dimensions)
    for picture, found in zip(pictures, distances, strict=True):
        delta = picture - moments.mean.astype(np.float32)
        np.testing.assert_allclose(found, reference_squared_mahalanobis(delta, covariance), rtol=1e-4)


def test_a_triangle_by_hand() -> None:
    factors = np.array([[1, 2, 3, 4, 5, 6]], dtype=np.float32)  # [[1], [2, 3], [4, 5, 6]]
    distances = distances_to(np.array([[[2, 11, 101]]], dtype=np.float32), np.ones((1, 3)), factors)
    assert distances[0, 0] == 1**2 + (2 + 30) ** 2 + (4 + 50 + 600) ** 2


def test_bfloat16_is_the_distance_of_the_rounded_factors() -> None:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(130, 55)).astype(np.float32)
    pictures = rng.normal(size=(3, 130, 10)).astype(np.float32)
    distances = distances_to(pictures, np.zeros((130, 10)), bfloat16(factors))
    triangle = unpack_lower(widened(bfloat16(factors)), dimensions=10)
    expected = (np.einsum("pij,bpj->bpi", triangle, pictures.astype(np.float64)) ** 2).sum(axis=2)
    np.testing.assert_allclose(distances, expected, rtol=1e-4)


@settings(deadline=None, max_examples=25)
@given(positions=st.integers(1, 40), dimensions=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
def test_bfloat16_is_within_half_a_percent_of_float32(positions: int, dimensions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(dimensions + 20, positions, dimensions)).astype(np.float32)
    moments = moments_of(samples)
    pictures = rng.normal(size=(5, positions, dimensions)).astype(np.float32)
    exact = distances_to(pictures, moments.mean, whitening_factors(moments, epsilon=0.01))
    rounded = whitening_factors(moments, epsilon=0.01, precision="bfloat16")
    np.testing.assert_allclose(np.sqrt(distances_to(pictures, moments.mean, rounded)), np.sqrt(exact), rtol=5e-3)


def test_rounding_to_bfloat16_makes_up_for_itself_along_what_varies() -> None:
    rng = np.random.default_rng(4)
    samples = correlated(rng, 90, 50, 40)
    moments = moments_of(samples)
    factors = whitening_factors(moments, epsilon=0.01)
    exact = distances_to(samples, moments.mean, factors)
    together = whitening_factors(moments, epsilon=0.01, precision="bfloat16")
    error = np.abs(np.sqrt(distances_to(samples, moments.mean, together) / exact) - 1)
    one_by_one = np.abs(np.sqrt(distances_to(samples, moments.mean, bfloat16(factors)) / exact) - 1)
    assert error.mean() < 0.5 * one_by_one.mean()
    assert np.quantile(error, 0.99) < 5e-3


def test_mean_squared_distance_of_training_data_is_what_theory_says() -> None:
    # Without regularisation the sum of d² over n training samples is (n − 1)·d, and none exceeds (n − 1)²/n.
    samples = np.random.default_rng(2).normal(size=(30, 6, 5)).astype(np.float32)
    moments = moments_of(samples)
    distances = distances_to(samples, moments.mean, whitening_factors(moments, epsilon=1e-9))
    np.testing.assert_allclose(distances.sum(axis=0), 29 * 5, rtol=1e-4)
    assert distances.max() <= 29**2 / 30
