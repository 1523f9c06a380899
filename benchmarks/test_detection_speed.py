"""How fast detection is, in its parts and whole: `make bench`, or `pytest benchmarks/test_detection_speed.py`."""

import cv2
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from detection import PaDiM
from detection.backbones import pretrained
from detection.config import ModelConfig, Precision, PreprocessConfig, ScoreConfig
from detection.decisions import image_score
from detection.gaussian import Moments, packed_length, whitening_factors
from detection.mahalanobis import squared_mahalanobis, to_bfloat16
from detection.padim import Gaussians, pick_channels
from detection.preprocess import Reference, make_reference, prepare

DIMENSIONS = 100
RESOLUTIONS = [256, 512]
RNG = np.random.default_rng(0)


def positions(resolution: int) -> int:
    return (resolution // 4) ** 2


def some_factors(resolution: int) -> np.ndarray:
    shape = positions(resolution), packed_length(DIMENSIONS)
    return RNG.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_scorer(benchmark: BenchmarkFixture, resolution: int, precision: Precision) -> None:
    factors = some_factors(resolution)
    stored = to_bfloat16(factors) if precision == "bfloat16" else factors
    delta = RNG.standard_normal((positions(resolution), DIMENSIONS), dtype=np.float32)
    out = np.empty(positions(resolution), dtype=np.float32)
    benchmark.extra_info["bytes_read"] = stored.nbytes
    benchmark(squared_mahalanobis, delta, stored, out=out)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_features(benchmark: BenchmarkFixture, resolution: int) -> None:
    backbone = pretrained("efficientnet_lite0")
    pictures = RNG.integers(0, 256, (1, resolution, resolution, 3), dtype=np.uint8)
    benchmark(backbone.features, pictures, channels=pick_channels(ModelConfig()))


def test_moments_of_a_batch(benchmark: BenchmarkFixture) -> None:
    moments = Moments.empty(positions=positions(256), dimensions=DIMENSIONS)
    features = RNG.standard_normal((8, positions(256), DIMENSIONS), dtype=np.float32)
    benchmark(moments.update, features)


def test_whitening_factors(benchmark: BenchmarkFixture) -> None:
    moments = Moments.empty(positions=positions(256), dimensions=DIMENSIONS)
    moments.update(RNG.standard_normal((8, positions(256), DIMENSIONS), dtype=np.float32))
    out = np.empty_like(moments.comoment)
    benchmark(whitening_factors, moments, epsilon=0.01, out=out)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_frame_to_score(benchmark: BenchmarkFixture, resolution: int) -> None:
    """A 1.2 MP frame: crop, resize, features, heatmap, score."""
    config = ModelConfig.model_validate({"resolution": resolution})
    mean = np.zeros((positions(resolution), DIMENSIONS), dtype=np.float32)
    model = PaDiM.assemble(
        config,
        backbone=pretrained("efficientnet_lite0"),
        gaussians=Gaussians(2, mean, some_factors(resolution)),
        smoothing_sigma=4.0,
        channels=pick_channels(config),
    )
    frame = RNG.integers(0, 20, (960, 1280, 3), dtype=np.uint8)
    frame[100:800, 300:1000] += 150

    def frame_to_score() -> float:
        prepared = prepare(frame, resolution=resolution, config=PreprocessConfig())
        heatmap = model.score(prepared.image)
        return image_score(heatmap, prepared.valid, config=ScoreConfig(), picture_width_mm=None)

    benchmark(frame_to_score)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("registration", ["none", "ecc"])
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_preparing_a_20_mp_frame(benchmark: BenchmarkFixture, resolution: int, registration: str, masked: bool) -> None:
    """Crop or register, mask, resize: at most 0.15 s on two cores."""
    frame = np.full((3648, 5472, 3), 15, dtype=np.uint8)
    cv2.circle(frame, (2736, 1600), 1400, (150, 150, 150), 200)
    cv2.circle(frame, (1900, 800), 80, (90, 90, 90), -1)
    config = PreprocessConfig(classes=2)
    reference: Reference | None = None
    if registration == "ecc":
        reference = make_reference(np.roll(frame, (3, -4), axis=(0, 1)), config=config, bottom_share=0.13)
    mask = np.zeros((3648, 5472), dtype=np.bool_)
    mask[2900:, 2500:3000] = True
    benchmark(
        prepare,
        frame,
        resolution=resolution,
        config=config,
        bottom_share=0.13,
        mask=mask if masked else None,
        reference=reference,
    )
