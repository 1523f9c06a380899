import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detection import DetectionConfig, ModelConfig, ModelError, PaDiM
from detection.backbones import Backbone
from detection.config import DistanceConfig, PreprocessConfig
from detection.datasets import Dataset
from detection.gaussian import PositionGaussians, coarser
from detection.heatmap import enlarged
from detection.inspector import Inspector
from detection.layered import (
    PRIOR,
    LayeredGaussians,
    LayeredMoments,
    correlation_ratio,
    layered_heatmap,
    nearest_neighbour,
    units_of,
)
from detection.moments import Moments, unpack_lower
from detection.padim import unseen_positions
from detection.pictures import read_picture
from detection.preprocess import prepare
from detection.training import train
from detection.view_training import hold_out_folds
from detection.whitening import whitening_factors

GRID, CHANNELS = 8, (3, 4, 5)


def features_of(rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
    shapes = [((GRID >> layer) ** 2, channels) for layer, channels in enumerate(CHANNELS)]
    return tuple(rng.normal(2.0, 1.0 + layer, shape).astype(np.float32) for layer, shape in enumerate(shapes))


@pytest.fixture
def pictures() -> list[tuple[NDArray[np.float32], ...]]:
    rng = np.random.default_rng(0)
    return [features_of(rng) for _ in range(9)]


def moments_of(pictures: list[Any], masked: NDArray[np.bool_] | None = None) -> LayeredMoments:
    moments = LayeredMoments.empty([one.shape for one in pictures[0]])
    moments.update_each((one, masked) for one in pictures)
    return moments


def common_covariance(samples: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    deviations = samples - samples.mean(axis=0)
    free = (len(samples) - 1) * samples.shape[1]
    return np.einsum("npi,npj->ij", deviations, deviations) / free + epsilon * np.eye(samples.shape[2])


@settings(deadline=None, max_examples=25)
@given(count=st.integers(2, 20), positions=st.integers(1, 9), dimensions=st.integers(1, 8), prior=st.floats(0.5, 90))
def test_a_prior_draws_every_covariance_to_the_common_one(
    count: int, positions: int, dimensions: int, prior: float
) -> None:
    samples = np.random.default_rng(count).normal(1.0, 2.0, (count, positions, dimensions)).astype(np.float32)
    moments = Moments.empty(positions=positions, dimensions=dimensions)
    moments.update(samples)
    factors = unpack_lower(whitening_factors(moments, epsilon=0.01, prior=prior), dimensions=dimensions)
    wide = samples.astype(np.float64)
    common, deviations = common_covariance(wide, 0.01), wide - wide.mean(axis=0)
    comoment = np.einsum("npi,npj->pij", deviations, deviations)
    expected = np.linalg.inv(np.linalg.cholesky((comoment + prior * common) / (count - 1 + prior)))
    np.testing.assert_allclose(factors, expected, rtol=2e-3, atol=1e-3 * np.abs(expected).max())


def test_padding_does_not_make_the_common_covariance_smaller() -> None:
    samples = np.random.default_rng(0).normal(0.0, 2.0, (12, 6, 3)).astype(np.float32)
    padded = np.concatenate([samples, np.full((12, 30, 3), 7.0, np.float32)], axis=1)
    factors = []
    for some in (samples, padded):
        moments = Moments.empty(positions=some.shape[1], dimensions=3)
        moments.update(some)
        factors.append(whitening_factors(moments, epsilon=0.01, prior=30.0)[:6])
    np.testing.assert_allclose(*factors, rtol=1e-5)


def test_each_layer_learns_on_its_own_grid(pictures: list[Any]) -> None:
    masked = np.zeros(GRID**2, dtype=np.bool_)
    masked[GRID + 1] = True  # row 1, column 1: in the first cell of every coarser grid
    moments = moments_of(pictures, masked)
    for layer, own in enumerate(moments.layers):
        alone = Moments.empty(positions=(GRID >> layer) ** 2, dimensions=CHANNELS[layer])
        alone.update(np.stack([one[layer] for one in pictures]), masked=np.tile(coarser(masked, len(own.mean)), (9, 1)))
        np.testing.assert_allclose(own.mean, alone.mean, rtol=1e-6)
        np.testing.assert_allclose(own.comoment, alone.comoment, rtol=1e-3, atol=1e-3)
    assert [np.flatnonzero(own.count == 0).tolist() for own in moments.layers] == [[GRID + 1], [0], [0]]


def test_the_most_surprised_layer_decides_in_its_own_unit() -> None:
    squared = [np.zeros((GRID >> layer) ** 2, np.float32) for layer in range(3)]
    squared[0][0], squared[2][3] = 36.0, 400.0  # 6 at one corner of the finest, 20 at the other of the coarsest
    hidden = [np.zeros(len(one), np.bool_) for one in squared]
    units = np.array([2.0, 1.0, 10.0], np.float32)
    heatmap = layered_heatmap(tuple(squared), hidden, units)
    assert heatmap.shape == (4 * GRID, 4 * GRID)
    assert heatmap[:4, :4].max() == pytest.approx(3.0, rel=0.25) and heatmap[-1, -1] <= 2.0
    louder = layered_heatmap(tuple(squared), hidden, np.array([2.0, 1.0, 1.0], np.float32))
    assert louder[-1, -1] == pytest.approx(10 * heatmap[-1, -1], rel=1e-5)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0])
def test_what_is_hidden_does_not_flow_into_its_neighbours(sigma: float) -> None:
    distances = np.full((GRID, GRID), 3.0, np.float32)
    hidden = np.zeros((GRID, GRID), np.bool_)
    distances[2, 2], hidden[2, 2] = 1e6, True
    smooth = enlarged(distances, resolution=4 * GRID, sigma=sigma, hidden=hidden)
    away = ~hidden.repeat(4, 0).repeat(4, 1)
    np.testing.assert_allclose(smooth[away], 3.0, rtol=1e-5)
    assert not enlarged(distances, resolution=4 * GRID, sigma=sigma, hidden=np.ones_like(hidden)).any()


def test_a_layers_unit_is_what_nine_of_ten_good_pictures_stay_below(pictures: list[Any]) -> None:
    nothing_yet = LayeredMoments.empty([one.shape for one in pictures[0]])
    held_out = hold_out_folds(nothing_yet, [None] * 9, pictures.__getitem__, epsilon=0.01)
    valid = np.ones((4 * GRID, 4 * GRID), np.bool_)
    usual = held_out.usual(lambda i: valid)
    for layer in range(3):
        alone = np.ones(3, np.float32)
        nothing = [np.ones_like(one[0]) if k != layer else one[0] for k, one in enumerate(held_out.hidden)]
        heights = [layered_heatmap(tuple(one[i] for one in held_out.squared), nothing, alone).max() for i in range(9)]
        assert usual[layer] == pytest.approx(np.quantile(heights, 0.9), rel=1e-5)


def test_two_pictures_are_counted_in_roots_of_the_channels(pictures: list[Any]) -> None:
    gaussians = LayeredGaussians.from_moments(moments_of(pictures[:2]), epsilon=0.01, precision="float32")
    np.testing.assert_allclose(gaussians.units, np.sqrt(CHANNELS), rtol=1e-6)
    assert gaussians.pictures == 2 and PRIOR > 2


def test_a_layer_in_which_nothing_can_be_measured_is_counted_in_roots_too(pictures: list[Any]) -> None:
    units = units_of(moments_of(pictures), np.array([2.0, 0.0, 3.0], np.float32))
    np.testing.assert_allclose(units, [2.0, 2.0, 3.0])  # √4 channels


@pytest.mark.parametrize("count", [2, 40])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_the_correlation_ratio_does_not_depend_on_how_many_pictures_there_are(count: int, share: float) -> None:
    rng = np.random.default_rng(count)
    scene = rng.normal(5.0, np.sqrt(share), (3000, 3))
    moments = Moments.empty(positions=3100, dimensions=3)
    samples = scene + rng.normal(0.0, np.sqrt(1 - share), (count, 3000, 3))
    padded = np.concatenate([samples, np.zeros((count, 100, 3))], axis=1).astype(np.float32)
    moments.update(padded, masked=np.tile(np.arange(3100) >= 3000, (count, 1)))
    assert correlation_ratio(moments) == pytest.approx(share, abs=0.03)


def test_where_parts_lie_alike_the_finest_layer_decides_alone(pictures: list[Any]) -> None:
    rng = np.random.default_rng(3)
    scene = pictures[0]
    alike = [tuple((one + rng.normal(0.0, 0.1, one.shape)).astype(np.float32) for one in scene) for _ in range(9)]
    gaussians = LayeredGaussians.from_moments(moments_of(alike), epsilon=0.01, precision="float32")
    assert len(gaussians.layers) == len(gaussians.units) == len(gaussians.scored) == 1
    changed = tuple(one.copy() for one in scene)
    changed[0][3] += 10.0
    found = [gaussians.heatmap(one, sigma=4.0) for one in (changed, changed[:1])]
    np.testing.assert_array_equal(*found)
    assert found[0].argmax() // (4 * GRID) // 4 == 0 and found[0].max() > 3 * gaussians.heatmap(scene, sigma=4.0).max()
    moved = [pictures[i] for i in range(9)]
    assert len(LayeredGaussians.from_moments(moments_of(moved), epsilon=0.01, precision="float32").layers) == 3


def test_pictures_that_are_all_the_same_lie_alike() -> None:
    moments = Moments.empty(positions=4, dimensions=2)
    moments.update(np.ones((3, 4, 2), np.float32))
    assert correlation_ratio(moments) == 1.0


def test_the_network_runs_no_further_than_the_layers_that_are_asked_for(
    lite0: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = lite0.layers(picture)

    def refuse(pictures: Any) -> None:
        raise AssertionError("a later stage was run")

    for stage in list(lite0._network.stages)[1:]:
        monkeypatch.setattr(stage, "forward", refuse)
    (finest,) = lite0.layers(picture, count=1)
    np.testing.assert_array_equal(finest, whole[0])
    with pytest.raises(AssertionError, match="later stage"):
        lite0.layers(picture)


def test_layers_are_those_of_the_joint_features(lite0: Backbone) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    joint = lite0.features(picture[np.newaxis], channels=np.arange(176))[0].reshape(16, 16, 176)
    for layer, (first, last) in enumerate(((0, 24), (24, 64), (64, 176))):
        own = lite0.layers(picture)[layer].reshape(16 >> layer, 16 >> layer, last - first)
        np.testing.assert_array_equal(own, joint[:: 1 << layer, :: 1 << layer, first:last])


def test_a_picture_is_held_out_from_models_that_have_not_seen_it(pictures: list[Any]) -> None:
    """Nine pictures in eight folds: the first and the last share one."""
    held_out = hold_out_folds(
        LayeredMoments.empty([one.shape for one in pictures[0]]), [None] * 9, pictures.__getitem__, epsilon=0.01
    )
    for i in (0, 3):
        others = [one for n, one in enumerate(pictures) if n % 8 != i]
        model = LayeredGaussians.from_moments(moments_of(others), epsilon=0.01, precision="float32")
        for found, expected in zip(held_out.squared, model.squared_distances(pictures[i]), strict=True):
            np.testing.assert_allclose(found[i], expected, rtol=1e-3)


def test_an_edge_may_lie_a_cell_beside_where_it_was() -> None:
    rng = np.random.default_rng(1)
    scene = rng.normal(0.0, 5.0, (GRID, GRID, 3))
    moments = Moments.empty(positions=GRID**2, dimensions=3)
    moments.update((scene + rng.normal(0, 0.3, (20, GRID, GRID, 3))).reshape(20, -1, 3).astype(np.float32))
    layer = PositionGaussians.from_moments(moments, epsilon=0.01, precision="float32", prior=PRIOR)
    moved = np.roll(scene, (1, 1), (0, 1)).reshape(-1, 3).astype(np.float32)
    inside = np.zeros((GRID, GRID), np.bool_)
    inside[1:-1, 1:-1] = True
    near, strict = nearest_neighbour(layer, moved), layer.squared(moved[np.newaxis])[0]
    assert near[inside.reshape(-1)].max() < 1.0 < np.median(strict)
    assert (near <= strict + 1e-3).all()


def test_a_neighbour_that_nothing_is_known_of_measures_nothing() -> None:
    samples = np.random.default_rng(2).normal(0.0, 1.0, (10, GRID**2, 3)).astype(np.float32)
    masked = np.zeros((10, GRID**2), np.bool_)
    masked[:, 9] = True
    moments = Moments.empty(positions=GRID**2, dimensions=3)
    moments.update(samples, masked=masked)
    layer = PositionGaussians.from_moments(moments, epsilon=0.01, precision="float32", prior=PRIOR)
    far = np.full((GRID**2, 3), 50.0, np.float32)
    assert nearest_neighbour(layer, far).min() > 100


@pytest.mark.parametrize(("alike", "layers"), [(0.75, 1), (2.0, 3)])
def test_a_trained_inspector_is_saved_whole_and_finds_what_is_wrong(
    alike: float,
    layers: int,
    dataset: Dataset,
    small_config: DetectionConfig,
    small_model: ModelConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its parts lie alike, so that the finest layer decides alone; whatever lies anyhow is measured by all three."""
    monkeypatch.setattr("detection.layered._ALIKE", alike)
    layered = small_config.model_copy(update={"distance": DistanceConfig(covariance="layered")})
    trained = train(dataset, tmp_path / "model", config=layered, model=small_model, train_parts=7)
    loaded = Inspector.load(tmp_path / "model", verify=True)
    statistics = []
    for part in dataset.parts[7:]:
        scores = [
            {view: one.score_view(view, read_picture(part.pictures[view])).score for view in one.views}
            for one in (trained, loaded)
        ]
        assert scores[0] == scores[1]
        statistics.append(trained.decide(scores[0]).statistic)
    assert min(statistics[3:]) > max(trained.threshold, *statistics[:3])  # three good parts, then the defective ones
    gaussians = loaded.models["front"].gaussians
    assert isinstance(gaussians, LayeredGaussians) and len(gaussians.layers) == layers and (gaussians.units > 0).all()


def test_what_touches_a_mask_and_what_is_padding_is_not_seen() -> None:
    frame = np.full((64, 32, 3), 200, np.uint8)
    mask = np.zeros((64, 32), np.bool_)
    mask[32:36, 12:16] = True
    seen = prepare(frame, resolution=64, config=PreprocessConfig(crop="none", registration="none"), mask=mask)
    unseen = unseen_positions(seen, "layered")
    expected = np.ones((16, 16), np.bool_)
    expected[:, 4:12] = False  # the frame, between padding of 16 pixels left and right
    expected[7:10, 6:9] = True  # the masked cell and its neighbours
    assert unseen is not None and (unseen.reshape(16, 16) == expected).all()
    plain = unseen_positions(seen, "position")
    assert plain is not None and np.argwhere(plain.reshape(16, 16)).tolist() == [[8, 7]]
    bare = prepare(frame, resolution=64, config=PreprocessConfig(crop="none", registration="none"))
    assert unseen_positions(bare, "position") is None


def test_padding_does_not_make_parts_lie_alike(lite0: Backbone) -> None:
    """Noise in a strip, the rest of the square black: nothing is at the same place twice."""
    rng = np.random.default_rng(0)
    strips = [np.repeat(np.repeat(rng.integers(0, 255, (64, 8, 3), np.uint8), 4, 0), 4, 1) for _ in range(6)]
    model = PaDiM(covariance="layered").fit(strips)
    assert len(model.gaussians.scored) == 3
    assert not model.gaussians.scored[0].reshape(64, 64)[:, :24].any()


@pytest.mark.parametrize("count", [0, 1])
def test_positions_that_no_two_pictures_show_say_nothing(pictures: list[Any], count: int) -> None:
    moments = LayeredMoments.empty([one.shape for one in pictures[0]])
    moments.update_each((one, None) for one in pictures[:count])
    moments.update_each((one, np.ones(GRID**2, np.bool_)) for one in pictures[count:])
    assert correlation_ratio(moments.layers[0]) == 0.0


@pytest.mark.parametrize("grids", [0, 2, 99, None])
def test_a_description_of_layers_that_are_not_there_is_refused(grids: int | None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    PaDiM(covariance="layered").fit(rng.integers(0, 255, (256, 256, 3), np.uint8) for _ in range(3)).save(
        tmp_path / "m"
    )
    file = tmp_path / "m" / "padim.json"
    said = json.loads(file.read_text())
    assert said["grids"] == 3
    file.write_text(json.dumps({**said, "grids": grids}))
    with pytest.raises(ModelError, match=r"train it again|not this model's file"):
        PaDiM.load(tmp_path / "m")
