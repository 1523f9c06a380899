"""What training goes through and continues from, of a model's size, in memory and on disk; and what it leads to."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.backbones import ARCHITECTURES
from detection.config import Covariance, ModelConfig
from detection.errors import ModelError
from detection.gaussian import Features, Gaussians, PositionGaussians
from detection.heatmap import STRIDE
from detection.layered import LayeredGaussians, LayeredMoments
from detection.moments import Moments, packed_length
from detection.storage import read_tensors, write_tensors

_FILE = "moments.safetensors"
_NAMES = ("mean", "factors", "known")
_STATE = ("count", "mean", "comoment")


def grid_shapes(config: ModelConfig, covariance: Covariance) -> list[tuple[int, int]]:
    """Return of each of a model's grids, finest first, how many positions it has, and how many features each."""
    positions = (config.resolution // STRIDE) ** 2
    if covariance == "position":
        return [(positions, config.n_features)]
    channels = ARCHITECTURES[config.backbone].layer_channels
    return [(positions // 4**layer, count) for layer, count in enumerate(channels)]


def no_moments(config: ModelConfig, covariance: Covariance) -> Moments | LayeredMoments:
    """Return the moments of no picture, of a model's size."""
    shapes = grid_shapes(config, covariance)
    if covariance == "layered":
        return LayeredMoments.empty(shapes)
    ((positions, dimensions),) = shapes
    return Moments.empty(positions=positions, dimensions=dimensions)


def learn(moments: Moments | LayeredMoments, pictures: Iterable[tuple[Features, NDArray[np.bool_] | None]]) -> None:
    """Add pictures one by one: features on each grid, and which positions (P,) of the finest are not seen."""
    if isinstance(moments, LayeredMoments):
        moments.update_each(pictures)
    else:
        moments.update_each((features[0], masked) for features, masked in pictures)


def gaussians_of(
    moments: Moments | LayeredMoments,
    config: ModelConfig,
    *,
    units: NDArray[np.float32] | None = None,
    keep_moments: bool = False,
) -> Gaussians:
    """Return what moments say; without `keep_moments`, they may be lost. `ModelError` with fewer than two pictures."""
    epsilon, precision = config.epsilon, config.precision
    if isinstance(moments, LayeredMoments):
        return LayeredGaussians.from_moments(
            moments, epsilon=epsilon, precision=precision, units=units, keep_moments=keep_moments
        )
    return PositionGaussians.from_moments(moments, epsilon=epsilon, precision=precision, keep_moments=keep_moments)


def tensors_of(gaussians: Gaussians) -> dict[str, NDArray[Any]]:
    """Return the arrays that a model's file holds, by their names."""
    if isinstance(gaussians, LayeredGaussians):
        named = {f"{name}.{i}": array for i, one in enumerate(gaussians.layers) for name, array in _arrays(one).items()}
        return named | {"units": gaussians.units}
    assert isinstance(gaussians, PositionGaussians)
    return _arrays(gaussians)


def _arrays(gaussians: PositionGaussians) -> dict[str, NDArray[Any]]:
    return {name: getattr(gaussians, name) for name in _NAMES}


def gaussians_from(tensors: Mapping[str, NDArray[Any]], *, covariance: Covariance, pictures: int) -> Gaussians:
    """Return what `tensors_of` took apart."""
    if covariance == "position":
        return PositionGaussians(pictures, **{name: tensors[name] for name in _NAMES})
    layers = tuple(
        PositionGaussians(pictures, **{name: tensors[f"{name}.{i}"] for name in _NAMES})
        for i in range(len(tensors["units"]))
    )
    if not (np.isfinite(tensors["units"]) & (tensors["units"] > 0)).all():
        raise ModelError(f"the units of a model's layers are {tensors['units']}; the model is damaged, train it again")
    return LayeredGaussians(pictures, layers, tensors["units"])


def shapes_of(config: ModelConfig, covariance: Covariance, *, grids: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and type of the arrays that a model's file shall hold, by their names; so many grids decide."""
    factor_type = np.uint16 if config.precision == "bfloat16" else np.float32
    expected: dict[str, tuple[tuple[int, ...], Any]] = {}
    shapes = grid_shapes(config, covariance)[:grids]
    for layer, (positions, dimensions) in enumerate(shapes):
        suffix = "" if covariance == "position" else f".{layer}"
        expected[f"mean{suffix}"] = (positions, dimensions), np.float32
        expected[f"factors{suffix}"] = (positions, packed_length(dimensions)), factor_type
        expected[f"known{suffix}"] = (positions,), np.bool_
    if covariance == "layered":
        expected["units"] = (len(shapes),), np.float32
    return expected


def training_bytes(config: ModelConfig, covariance: Covariance) -> int:
    """Return about how much memory the training of a view takes; layers are held beside those of a fold."""
    once = sum(4 * positions * packed_length(dimensions) for positions, dimensions in grid_shapes(config, covariance))
    return 3 * once if covariance == "layered" else once


def has_moments(folder: Path) -> bool:
    """Whether a folder of a view's model keeps its training state."""
    return (folder / _FILE).is_file()


def require_moments(folder: Path) -> None:
    """Refuse the folder of a view's model that keeps no training state."""
    if not has_moments(folder):
        raise ModelError(
            f"{folder}: keeps no training state that could be continued; train the model with --keep-state, or train "
            "again with the new parts in the dataset"
        )


def write_moments(folder: Path, moments: Moments | LayeredMoments) -> None:
    """Write the moments of a view's training pictures beside its model."""
    layers = moments.layers if isinstance(moments, LayeredMoments) else (moments,)
    tensors = {f"{name}.{i}": getattr(layer, name) for i, layer in enumerate(layers) for name in _STATE}
    write_tensors(folder / _FILE, tensors)


def read_moments(folder: Path, config: ModelConfig, gaussians: Gaussians) -> Moments | LayeredMoments:
    """Read what `write_moments` wrote.

    Parameters
    ----------
    folder : Path
        Of a view's model.
    config : ModelConfig
        The model's.
    gaussians : Gaussians
        The model's.

    Returns
    -------
    Moments or LayeredMoments
        In memory of their own, so that they can be updated.

    Raises
    ------
    ModelError
        When the model keeps no training state, or the file is damaged or foreign.
    """
    require_moments(folder)
    layered = isinstance(gaussians, LayeredGaussians)
    shapes = grid_shapes(config, "layered" if layered else "position")
    expected: dict[str, tuple[tuple[int, ...], Any]] = {}
    for i, (positions, dimensions) in enumerate(shapes):
        expected[f"count.{i}"] = (positions,), np.int64
        expected[f"mean.{i}"] = (positions, dimensions), np.float64
        expected[f"comoment.{i}"] = (positions, packed_length(dimensions)), np.float32
    tensors = read_tensors(folder / _FILE, expected)
    layers = tuple(
        Moments(gaussians.pictures, *(tensors[f"{name}.{i}"].copy() for name in _STATE)) for i in range(len(shapes))
    )
    return LayeredMoments(layers) if layered else layers[0]
