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
from detection.layer import (
    PRIOR,
    LayeredMoments,
    LayerGaussians,
    chosen_layer,
    correlation_ratio,
    nearest_neighbour,
)
from detection.moments import Moments, unpack_lower
from detection.padim import unseen_positions
from detection.pictures import read_picture
from detection.preprocess import prepare
from detection.training import train
from detection.view_training import HeldOut, hold_out_folds
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


def layer_of(pictures: list[Any], layer: int) -> LayerGaussians:
    return LayerGaussians.from_moments(
        moments_of(pictures).layers[layer], layer=layer, epsilon=0.01, precision="float32"
    )


def held_out_of(pictures: list[Any], layer: int) -> HeldOut:
    nothing_yet = Moments.empty(positions=(GRID >> layer) ** 2, dimensions=CHANNELS[layer])
    read = [one[layer] for one in pictures].__getitem__
    return hold_out_folds(nothing_yet, [None] * len(pictures), read, layer=layer, epsilon=0.01)


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
    unseen = np.zeros((GRID, GRID), dtype=np.bool_)
    unseen[:2, 1] = True  # half of the first cell of the next grid, an eighth of that of the last
    moments = moments_of(pictures, unseen.reshape(-1))
    for layer, own in enumerate(moments.layers):
        alone = Moments.empty(positions=(GRID >> layer) ** 2, dimensions=CHANNELS[layer])
        alone.update_each((one[layer], coarser(unseen.reshape(-1), len(own.mean))) for one in pictures)
        np.testing.assert_allclose(own.mean, alone.mean, rtol=1e-6)
        np.testing.assert_allclose(own.comoment, alone.comoment, rtol=1e-3, atol=1e-3)
    assert [np.flatnonzero(own.count == 0).tolist() for own in moments.layers] == [[1, GRID + 1], [0], []]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_heatmap_is_as_large_as_the_picture_whatever_the_layer(pictures: list[Any], layer: int) -> None:
    gaussians = layer_of(pictures, layer)
    grid = GRID >> layer
    squared = np.zeros((grid, grid), np.float32)
    squared[0, -1] = 36.0 * gaussians.unit**2
    heatmap = gaussians.heatmap_of(squared.reshape(-1), np.zeros(grid**2, np.bool_), sigma=4.0)
    assert heatmap.shape == (4 * GRID, 4 * GRID)
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert row < 4 << layer and column >= 4 * GRID - (4 << layer)
    assert heatmap.max() == pytest.approx(6.0) if layer == 0 else 1.0 < heatmap.max() < 6.0


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0])
def test_what_is_hidden_does_not_flow_into_its_neighbours(sigma: float) -> None:
    distances = np.full((GRID, GRID), 3.0, np.float32)
    hidden = np.zeros((GRID, GRID), np.bool_)
    distances[2, 2], hidden[2, 2] = 1e6, True
    smooth = enlarged(distances, resolution=4 * GRID, sigma=sigma, hidden=hidden)
    away = ~hidden.repeat(4, 0).repeat(4, 1)
    np.testing.assert_allclose(smooth[away], 3.0, rtol=1e-5)
    assert not enlarged(distances, resolution=4 * GRID, sigma=sigma, hidden=np.ones_like(hidden)).any()


def test_the_unit_is_what_nine_of_ten_good_pictures_stay_below(pictures: list[Any]) -> None:
    gaussians = layer_of(pictures, 1)
    held_out = held_out_of(pictures, 1)
    heights = held_out.heights(gaussians, lambda i, hidden: np.ones((4 * GRID, 4 * GRID), np.bool_))
    counted = gaussians.counted_in(heights)
    again = held_out.heights(counted, lambda i, hidden: np.ones((4 * GRID, 4 * GRID), np.bool_))
    assert np.quantile(again, 0.9) == pytest.approx(1.0, rel=1e-5)
    assert max(held_out.heights(gaussians, lambda i, hidden: np.zeros((4 * GRID, 4 * GRID), np.bool_))) == 0.0


def test_where_nothing_was_held_out_or_measured_the_unit_is_the_root_of_the_channels(pictures: list[Any]) -> None:
    gaussians = layer_of(pictures[:2], 2)
    assert gaussians.unit == pytest.approx(np.sqrt(CHANNELS[2])) and gaussians.pictures == 2
    assert gaussians.counted_in([0.0, 0.0, 0.0]).unit == gaussians.unit


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


@pytest.mark.parametrize("alike", [0, 1, 2, None])
def test_the_finest_layer_in_which_parts_lie_alike_is_chosen(pictures: list[Any], alike: int | None) -> None:
    """Else the last one: what stands at a position of a finer one is another place in each picture."""
    rng = np.random.default_rng(3)
    scene = pictures[0]

    def picture(anyhow: tuple[NDArray[np.float32], ...]) -> tuple[NDArray[np.float32], ...]:
        return tuple(
            (fixed + rng.normal(0.0, 0.1, fixed.shape)).astype(np.float32)
            if alike is not None and i >= alike
            else other
            for i, (fixed, other) in enumerate(zip(scene, anyhow, strict=True))
        )

    assert chosen_layer(moments_of([picture(one) for one in pictures])) == (2 if alike is None else alike)


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


@pytest.mark.parametrize("layer", [0, 2])
def test_a_picture_is_held_out_from_models_that_have_not_seen_it(pictures: list[Any], layer: int) -> None:
    """Nine pictures in eight folds: the first and the last share one."""
    held_out = held_out_of(pictures, layer)
    for i in (0, 3):
        others = [one for n, one in enumerate(pictures) if n % 8 != i]
        expected = layer_of(others, layer).squared_distances(pictures[i][layer])
        np.testing.assert_allclose(held_out.squared[i], expected, rtol=1e-3)


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


@pytest.mark.parametrize(("alike", "layer"), [(0.75, 0), (2.0, 2)])
def test_a_trained_inspector_is_saved_whole_and_finds_what_is_wrong(
    alike: float,
    layer: int,
    dataset: Dataset,
    small_config: DetectionConfig,
    small_model: ModelConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its parts lie alike in the finest layer; whatever lies anyhow is measured in the last."""
    monkeypatch.setattr("detection.layer._ALIKE", alike)
    of_a_layer = small_config.model_copy(update={"distance": DistanceConfig(covariance="layer")})
    trained = train(dataset, tmp_path / "model", config=of_a_layer, model=small_model, train_parts=7)
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
    assert isinstance(gaussians, LayerGaussians) and gaussians.layer == layer
    assert gaussians.unit != pytest.approx(np.sqrt(gaussians.positions.mean.shape[1]))  # counted in what was held out


def test_what_touches_a_mask_and_what_is_padding_is_not_seen() -> None:
    frame = np.full((64, 32, 3), 200, np.uint8)
    mask = np.zeros((64, 32), np.bool_)
    mask[32:36, 12:16] = True
    seen = prepare(frame, resolution=64, config=PreprocessConfig(crop="none", registration="none"), mask=mask)
    unseen = unseen_positions(seen, "layer")
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
    model = PaDiM(covariance="layer").fit(strips)
    assert isinstance(model.gaussians, LayerGaussians) and model.gaussians.layer == 2
    assert not model.gaussians.scored.reshape(16, 16)[:, :6].any()


def test_a_layer_that_sees_nothing_of_narrow_parts_is_not_chosen() -> None:
    """Eight pixels of 256, noise: half a cell of the last layer at most, two cells of the finest."""
    rng = np.random.default_rng(0)
    narrow = [rng.integers(0, 255, (256, 8, 3), np.uint8) for _ in range(4)]
    model = PaDiM(covariance="layer").fit(narrow)
    assert isinstance(model.gaussians, LayerGaussians) and model.gaussians.scored.any()
    assert model.score(np.full((256, 8, 3), 255, np.uint8)).max() > 0


@pytest.mark.parametrize("count", [0, 1])
def test_positions_that_no_two_pictures_show_say_nothing(pictures: list[Any], count: int) -> None:
    moments = LayeredMoments.empty([one.shape for one in pictures[0]])
    moments.update_each((one, None) for one in pictures[:count])
    moments.update_each((one, np.ones(GRID**2, np.bool_)) for one in pictures[count:])
    assert correlation_ratio(moments.layers[0]) == 0.0


@pytest.mark.parametrize("scale", [{"layer": 0}, {"layer": 3}, {"layer": -1}, {"unit": 0}, {"unit": None}, None])
def test_a_description_of_another_layer_is_refused(scale: dict[str, Any] | None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (256, 256, 3), np.uint8) for _ in range(3)]
    PaDiM(covariance="layer").fit(pictures).save(tmp_path / "m")
    file = tmp_path / "m" / "padim.json"
    said = json.loads(file.read_text())
    assert said["scale"]["layer"] == 2
    file.write_text(json.dumps({**said, "scale": None if scale is None else {**said["scale"], **scale}}))
    with pytest.raises(ModelError, match=r"train it again|not this model's file"):
        PaDiM.load(tmp_path / "m")
