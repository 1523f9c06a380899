import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.gaussian import Moments, unpack_lower, whitening_factors
from detection.mahalanobis import reference_squared_mahalanobis, squared_mahalanobis, to_bfloat16


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
    moments = Moments.empty(positions=positions, dimensions=dimensions)
    moments.update(samples)
    delta = rng.normal(size=(positions, dimensions)).astype(np.float32)
    distances = np.empty(positions, dtype=np.float32)
    squared_mahalanobis(delta, whitening_factors(moments, epsilon=0.01), out=distances)

    centred = samples.astype(np.float64) - samples.astype(np.float64).mean(axis=0)
    covariance = np.einsum("npi,npj->pij", centred, centred) / (count - 1) + 0.01 * np.eye(dimensions)
    np.testing.assert_allclose(distances, reference_squared_mahalanobis(delta, covariance), rtol=1e-4)


def test_a_triangle_by_hand() -> None:
    factors = np.array([[1, 2, 3, 4, 5, 6]], dtype=np.float32)  # [[1], [2, 3], [4, 5, 6]]
    distances = np.empty(1, dtype=np.float32)
    squared_mahalanobis(np.array([[1, 10, 100]], dtype=np.float32), factors, out=distances)
    assert distances[0] == 1**2 + (2 + 30) ** 2 + (4 + 50 + 600) ** 2


def test_bfloat16_is_the_distance_of_the_rounded_factors() -> None:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(130, 55)).astype(np.float32)
    delta = rng.normal(size=(130, 10)).astype(np.float32)
    distances = np.empty(130, dtype=np.float32)
    squared_mahalanobis(delta, to_bfloat16(factors), out=distances)
    rounded = torch.from_numpy(factors).to(torch.bfloat16).double().numpy()
    triangle = unpack_lower(rounded, dimensions=10)
    expected = (np.einsum("pij,pj->pi", triangle, delta.astype(np.float64)) ** 2).sum(axis=1)
    np.testing.assert_allclose(distances, expected, rtol=1e-4)


def test_bfloat16_rounds_as_torch_does() -> None:
    rng = np.random.default_rng(1)
    values = (rng.normal(size=(50, 40)) * 10.0 ** rng.integers(-6, 6, (50, 40))).astype(np.float32)
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    np.testing.assert_array_equal(to_bfloat16(values), expected)


def test_mean_squared_distance_of_training_data_is_what_theory_says() -> None:
    # Without regularisation the sum of d² over n training samples is (n − 1)·d, and none exceeds (n − 1)²/n.
    rng = np.random.default_rng(2)
    samples = rng.normal(size=(30, 6, 5)).astype(np.float32)
    moments = Moments.empty(positions=6, dimensions=5)
    moments.update(samples)
    factors = whitening_factors(moments, epsilon=1e-9)
    distances = np.empty((30, 6), dtype=np.float32)
    for sample, out in zip(samples, distances, strict=True):
        squared_mahalanobis((sample - moments.mean).astype(np.float32), factors, out=out)
    np.testing.assert_allclose(distances.sum(axis=0), 29 * 5, rtol=1e-4)
    assert distances.max() <= 29**2 / 30
