import numpy as np
import pytest

from detection.config import ModelConfig
from scenarios.alternatives import MemoryBank, learned, ledoit_wolf, oas
from scenarios.view_scores import random_directions

GRID, DIMENSIONS = 4, 5


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """Features (16, 5) of twelve pictures, whose channels vary differently and together."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(DIMENSIONS, DIMENSIONS)) * [3, 1, 1, 0.3, 0.1]
    return [(rng.normal(size=(GRID**2, DIMENSIONS)) @ mixing).astype(np.float32) for _ in range(12)]


def centred(n: int) -> np.ndarray:
    vectors = np.random.default_rng(n).normal(size=(n, 7)) * [5, 2, 1, 1, 1, 0.5, 0.1]
    return np.asarray(vectors - vectors.mean(axis=0))


@pytest.mark.parametrize("n", [4, 20, 400])
def test_ledoit_wolf_is_as_its_lemmas_say(n: int) -> None:
    """Lemmas 3.2 to 3.4 written out with d × d matrices, norms divided by d as there."""
    x = centred(n)
    s, d = x.T @ x / n, x.shape[1]
    m = np.trace(s) / d
    delta = ((s - m * np.eye(d)) ** 2).sum() / d
    beta = min(delta, sum(((np.outer(row, row) - s) ** 2).sum() for row in x) / d / n**2)
    rho, more = ledoit_wolf(x)
    assert rho == pytest.approx(beta / delta) and more == pytest.approx(beta / delta * m)


@pytest.mark.parametrize("n", [4, 20, 400])
def test_oas_is_as_its_equation_says(n: int) -> None:
    x = centred(n)
    s, d = x.T @ x / n, x.shape[1]
    square, trace = np.trace(s @ s), np.trace(s) ** 2
    expected = min(1, ((1 - 2 / d) * square + trace) / ((n + 1 - 2 / d) * (square - trace / d)))
    rho, more = oas(x)
    assert rho == pytest.approx(expected) and more == pytest.approx(expected * np.trace(s) / d)


def test_many_vectors_need_no_shrinkage() -> None:
    assert ledoit_wolf(centred(5000))[0] < 0.01 and oas(centred(5000))[0] < 0.01


def test_pooling_takes_the_covariance_of_a_position_and_its_neighbours(pictures: list[np.ndarray]) -> None:
    found = learned("pooled", pictures, [None] * len(pictures), epsilon=0.01, seed=0)
    stacked = np.stack(pictures).astype(np.float64)
    deviations = stacked - stacked.mean(axis=0)
    corner = deviations[:, [0, 1, GRID, GRID + 1]].reshape(-1, DIMENSIONS)  # the corner has three neighbours
    sigma = corner.T @ corner / (len(corner) - 4) + 0.01 * np.eye(DIMENSIONS)
    delta = pictures[3][0] - stacked.mean(axis=0)[0]
    assert found.squared_distances(pictures[3])[0] == pytest.approx(delta @ np.linalg.solve(sigma, delta), rel=1e-4)


def test_a_position_that_few_pictures_show_has_no_distance(pictures: list[np.ndarray]) -> None:
    masked = [None, *([np.arange(GRID**2) == 6] * 11)]
    for name in ("oas", "pooled", "memory_bank"):
        found = learned(name, pictures, masked, epsilon=0.01, seed=0)
        assert found.scored.tolist() == [p != 6 for p in range(GRID**2)], name


@pytest.mark.parametrize("name", ["oas", "ledoit_wolf", "pooled"])
def test_padding_that_never_changes_has_no_distance(name, pictures: list[np.ndarray]) -> None:
    padded = [picture.copy() for picture in pictures]
    for picture in padded:
        picture[:4] = 7.0
    found = learned(name, padded, [None] * len(padded), epsilon=0.01, seed=0)
    assert found.scored.tolist() == [False] * 4 + [True] * 12
    assert np.isfinite(found.squared_distances(padded[0])).all()


def test_the_bank_knows_what_it_has_seen_and_can_forget_a_picture(pictures: list[np.ndarray]) -> None:
    bank = learned("memory_bank", pictures, [None] * len(pictures), epsilon=0.01, seed=0)
    assert isinstance(bank, MemoryBank)
    assert bank.squared_distances(pictures[2]).max() < 1e-3  # so few patches that all are remembered
    others = learned("memory_bank", pictures[:2] + pictures[3:], [None] * 11, epsilon=0.01, seed=0)
    without = bank.squared_distances_without(2, pictures[2])
    np.testing.assert_allclose(without, others.squared_distances(pictures[2]), rtol=1e-3, atol=1e-3)
    assert np.median(without) > 0.05


def test_random_directions_are_orthogonal_and_follow_the_seed() -> None:
    one = random_directions(176, ModelConfig(n_features=100))
    np.testing.assert_allclose(one.T @ one, np.eye(100), atol=1e-5)
    assert not np.allclose(one, random_directions(176, ModelConfig(n_features=100, seed=1)))
