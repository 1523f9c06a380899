"""How fast detection is and how much memory it takes, in its parts and whole.

`make bench`, or `pytest benchmarks/test_detection_speed.py`. ResNet18 has random weights here: they cost the same.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture
from safetensors.torch import save_file

from detection import Inspector, PaDiM
from detection.backbones import pretrained
from detection.config import DetectionConfig, DistanceConfig, ModelConfig, Precision, PreprocessConfig
from detection.description import InspectorInfo
from detection.gaussian import PositionGaussians
from detection.layer import LayerGaussians
from detection.mahalanobis import squared_mahalanobis
from detection.moments import Moments, packed_length
from detection.padim import arithmetic_of, pick_channels, resolved
from detection.preprocess import make_reference, prepare
from detection.training_state import grid_shapes
from detection.whitening import leave_one_out, whitening_factors

DIMENSIONS = 100
RESOLUTIONS = [256, 512, 1024]
PRECISIONS: list[Precision] = ["float32", "bfloat16"]
BACKBONES = ["resnet18", "efficientnet_lite0"]
RNG = np.random.default_rng(0)

Factors = NDArray[np.float32] | NDArray[np.uint16]


def positions(resolution: int) -> int:
    return (resolution // 4) ** 2


def some_factors(resolution: int, precision: Precision) -> Factors:
    """As many bytes as real ones, in range; one random block over and over."""
    block = RNG.standard_normal((4096, packed_length(DIMENSIONS)), dtype=np.float32) / 10
    if precision == "bfloat16":
        block = torch.from_numpy(block).to(torch.bfloat16).view(torch.uint16).numpy()
    return np.tile(block, (positions(resolution) // 4096, 1))


def some_gaussians(resolution: int, precision: Precision) -> PositionGaussians:
    mean = np.zeros((positions(resolution), DIMENSIONS), dtype=np.float32)
    return PositionGaussians(
        2, mean, some_factors(resolution, precision), np.ones(positions(resolution), dtype=np.bool_)
    )


def some_layer_gaussians(config: ModelConfig) -> LayerGaussians:
    """Of the finest layer, as parts that lie alike have."""
    count, dimensions = grid_shapes(config, "layer")[0]
    block = RNG.standard_normal((256, packed_length(dimensions)), dtype=np.float32) / 10
    mean, known = np.zeros((count, dimensions), dtype=np.float32), np.ones(count, dtype=np.bool_)
    return LayerGaussians(2, 0, PositionGaussians(2, mean, np.tile(block, (count // 256, 1)), known), 1.0)


@numba.njit(parallel=True)
def read(words: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
    """Read memory and hardly do anything with it."""
    rows, columns = words.shape
    for row in numba.prange(rows):
        total = np.uint32(0)
        for column in range(columns):
            total += words[row, column]
        out[row] = total


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(torchvision.models.resnet18(weights=None).state_dict(), path)
    return path


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_scorer(benchmark: BenchmarkFixture, resolution: int, precision: Precision) -> None:
    """Beside a plain read of the same bytes: memory is the limit."""
    gaussians = some_gaussians(resolution, precision)
    features = RNG.standard_normal((1, positions(resolution), DIMENSIONS), dtype=np.float32)
    out = np.empty((1, positions(resolution)), dtype=np.float32)
    benchmark(squared_mahalanobis, features, gaussians.mean, gaussians.factors, out=out)
    size = gaussians.factors.nbytes
    words = gaussians.factors.reshape(-1).view(np.uint32).reshape(64, -1)
    reading = fastest(lambda: read(words, np.empty(64, dtype=np.uint32)))
    if benchmark.stats is not None:
        benchmark.extra_info["GB/s"] = size / benchmark.stats.stats.median / 1e9
        benchmark.extra_info["GB/s of a plain read"] = size / reading / 1e9


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_features(benchmark: BenchmarkFixture, backbone: Any, resolution: int, weights: Path) -> None:
    arithmetic = arithmetic_of(ModelConfig(backbone=backbone))
    network = pretrained(backbone, weights=weights if backbone == "resnet18" else None, arithmetic=arithmetic)
    picture = RNG.integers(0, 256, (1, resolution, resolution, 3), dtype=np.uint8)
    benchmark(network.features, picture, channels=pick_channels(ModelConfig(backbone=backbone), "position"))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_picture_to_heatmap(
    benchmark: BenchmarkFixture, backbone: Any, resolution: Any, precision: Precision, weights: Path
) -> None:
    """A resized picture in, heatmap and score out."""
    config = resolved(ModelConfig(backbone=backbone, resolution=resolution, precision=precision))
    arithmetic = arithmetic_of(config)
    model = PaDiM.assemble(
        config,
        backbone=pretrained(backbone, weights=weights if backbone == "resnet18" else None, arithmetic=arithmetic),
        gaussians=some_gaussians(resolution, precision),
        smoothing_sigma=4.0,
        channels=pick_channels(config, "position"),
    )
    picture = RNG.integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)
    benchmark.extra_info["network"] = arithmetic
    benchmark(lambda: float(model.score(picture).max()))


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_picture_to_heatmap_of_one_layer(benchmark: BenchmarkFixture, resolution: Any) -> None:
    """The same with covariances of the finest layer alone."""
    config = resolved(ModelConfig(resolution=resolution))
    model = PaDiM.assemble(
        config,
        backbone=pretrained(config.backbone, arithmetic=arithmetic_of(config)),
        gaussians=some_layer_gaussians(config),
        smoothing_sigma=4.0,
        channels=pick_channels(config, "layer"),
    )
    picture = RNG.integers(0, 256, (resolution, resolution, 3), dtype=np.uint8)
    benchmark(lambda: float(model.score(picture).max()))


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_prepare_a_frame_of_20_megapixels(benchmark: BenchmarkFixture, resolution: int) -> None:
    """Crop, mask and resize."""
    frame = RNG.integers(0, 20, (3648, 5472, 3), dtype=np.uint8)
    frame[400:3000, 1200:3900] += 150
    mask = np.zeros(frame.shape[:2], dtype=np.bool_)
    mask[2500:, 2000:2500] = True
    benchmark(prepare, frame, resolution=resolution, config=PreprocessConfig(), bottom_share=0.13, mask=mask)


def test_moments_of_a_batch(benchmark: BenchmarkFixture) -> None:
    moments = Moments.empty(positions=positions(256), dimensions=DIMENSIONS)
    benchmark(moments.update, RNG.standard_normal((4, positions(256), DIMENSIONS), dtype=np.float32))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_whitening_factors(benchmark: BenchmarkFixture, precision: Precision) -> None:
    moments = Moments.empty(positions=positions(256), dimensions=DIMENSIONS)
    moments.update(RNG.standard_normal((8, positions(256), DIMENSIONS), dtype=np.float32))
    benchmark(whitening_factors, moments, epsilon=0.01, precision=precision)


def test_leave_one_out_of_94_pictures(benchmark: BenchmarkFixture) -> None:
    moments = Moments.empty(positions=positions(256), dimensions=DIMENSIONS)
    features = RNG.standard_normal((94, positions(256), DIMENSIONS), dtype=np.float32)
    moments.update(features)
    benchmark(leave_one_out, moments, features, epsilon=0.01)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_fit_12_pictures(benchmark: BenchmarkFixture, resolution: Any, precision: Precision, weights: Path) -> None:
    pictures = RNG.integers(0, 256, (12, resolution, resolution, 3), dtype=np.uint8)
    model = PaDiM(backbone="resnet18", weights=weights, resolution=resolution, precision=precision)
    benchmark.pedantic(model.fit, (pictures,), warmup_rounds=1)


def some_frame() -> NDArray[np.uint8]:
    """1.2 megapixels: a bright part with some structure on a dark background."""
    frame = RNG.integers(0, 20, (960, 1280, 3), dtype=np.uint8)
    frame[100:800, 300:1000] += 150
    frame[300:500, 400:450] -= 80
    return frame


@pytest.fixture(scope="module", params=["layer-512", "layer-1024", "position-512", "position-1024"])
def sixteen_views(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model of 16 views, as large as a trained one: with bfloat16 factors for each position 11 GB at 1024²."""
    covariance, size = request.param.split("-")
    of_layer, resolution = covariance == "layer", int(size)
    precision: Precision = "float32" if of_layer else "bfloat16"
    config = resolved(ModelConfig(resolution=resolution, precision=precision))
    backbone = pretrained("efficientnet_lite0", arithmetic=arithmetic_of(config))
    model = PaDiM.assemble(
        config,
        backbone=backbone,
        gaussians=some_layer_gaussians(config) if of_layer else some_gaussians(resolution, precision),
        smoothing_sigma=4.0,
        channels=pick_channels(config, covariance),
    )
    views = [f"V{i + 1}" for i in range(16)]
    info = InspectorInfo(
        config=DetectionConfig(distance=DistanceConfig(covariance=covariance)),
        backbone="efficientnet_lite0",
        network=arithmetic_of(config),
        frame_shapes=dict.fromkeys(views, (960, 1280)),
        threshold=10.0,
        guarantee=None,
        bottom_share=0.0,
        picture_width_mm=None,
        made_for={},
        files={},
        trained_with=(),
    )
    folder = tmp_path_factory.mktemp("sixteen") / "model"
    reference = make_reference(some_frame(), config=info.config.preprocess)
    Inspector(info, dict.fromkeys(views, model), dict.fromkeys(views, reference)).save(folder)
    yield folder
    for file in folder.rglob("*.safetensors"):
        file.unlink()


def test_load_sixteen_views(benchmark: BenchmarkFixture, sixteen_views: Path) -> None:
    benchmark.extra_info["GB"] = sum(file.stat().st_size for file in sixteen_views.rglob("*")) / 1e9
    benchmark.pedantic(Inspector.load, (sixteen_views,), rounds=3)


def test_score_sixteen_views(benchmark: BenchmarkFixture, sixteen_views: Path) -> None:
    """Sixteen frames of 1.2 megapixels to sixteen scores, one after the other."""
    inspector = Inspector.load(sixteen_views)
    frame = some_frame()
    benchmark.pedantic(
        lambda: [inspector.score_view(view, frame).score for view in inspector.views], rounds=3, warmup_rounds=1
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("task", ["fit 12 pictures", "score"])
def test_peak_memory(
    benchmark: BenchmarkFixture, task: str, resolution: int, precision: Precision, weights: Path, tmp_path: Path
) -> None:
    """Of a process that does nothing else, less that of one that only has the libraries. Its time is not the point."""
    common = f"""
from pathlib import Path
import numpy as np
from detection import PaDiM
def peak():  # getrusage would count the process that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e6
PaDiM(resolution={resolution})
picture = np.zeros(({resolution}, {resolution}, 3), dtype=np.uint8)
empty = peak()
"""
    fit = f"""
model = PaDiM(backbone="resnet18", weights={str(weights)!r}, resolution={resolution}, precision={precision!r})
model.fit(picture + np.uint8(i) for i in range(12))
"""
    score = f"PaDiM.load({str(tmp_path / 'model')!r}).score(picture)"
    run("from detection import PaDiM")  # compiles the kernels where that was not done yet
    if task == "score":
        run(f"{common}{fit}model.save({str(tmp_path / 'model')!r})")
    script = common + (score if task == "score" else fit) + "\nprint(peak() - empty)"
    gigabytes = benchmark.pedantic(run, (script,))
    benchmark.extra_info["peak GB"] = float(gigabytes)


def test_train_a_view_of_94_pictures(benchmark: BenchmarkFixture, weights: Path, tmp_path: Path) -> None:
    """From files to a saved model with its threshold, at 1024²; `extra_info` has the peak, libraries included."""
    good = tmp_path / "photographs" / "train" / "good"
    good.mkdir(parents=True)
    base = RNG.integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    for number in range(94):
        noise = RNG.integers(0, 9, base.shape, dtype=np.uint8)
        Image.fromarray(np.maximum(base, noise)).save(good / f"{number:03}.png", compress_level=0)
    script = f"""
from pathlib import Path
from detection import read_dataset, train
from detection.config import DetectionConfig, DistanceConfig, ModelConfig, PreprocessConfig
model, weights = ModelConfig(backbone="resnet18", resolution=1024), Path({str(weights)!r})
config = DetectionConfig(preprocess=PreprocessConfig(crop="none"), distance=DistanceConfig(covariance="position"))
dataset, folder = read_dataset(Path({str(good.parent.parent)!r})), Path({str(tmp_path / "model")!r})
train(dataset, folder, config=config, model=model, weights=weights)
print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e6)
"""
    benchmark.extra_info["peak GB"] = float(benchmark.pedantic(run, (script,)))


def run(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout


def fastest(action: Any) -> float:
    import timeit

    return min(timeit.repeat(action, number=1, repeat=7))
