"""What training goes through and continues from, of a model's size, in memory and on disk; and what it leads to."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from detection.backbones import ARCHITECTURES, Features
from detection.config import Covariance, ModelConfig
from detection.errors import ModelError
from detection.gaussian import Gaussians, PositionGaussians
from detection.heatmap import STRIDE
from detection.layer import LayeredMoments, LayerGaussians, chosen_layer
from detection.moments import Moments, packed_length
from detection.storage import read_tensors, write_tensors

_FILE = "moments.safetensors"
_NAMES = ("mean", "factors", "known")
_STATE = ("count", "mean", "comoment")


class LayerScale(BaseModel):
    """Which layer a model looks at, 0 the finest, and the unit of its distances."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    layer: int = Field(ge=0)
    unit: float = Field(gt=0)


def grid_shapes(config: ModelConfig, covariance: Covariance) -> list[tuple[int, int]]:
    """Return of each grid that is learned from, finest first, how many positions it has, and how many features each."""
    positions = (config.resolution // STRIDE) ** 2
    if covariance == "position":
        return [(positions, config.n_features)]
    channels = ARCHITECTURES[config.backbone].layer_channels
    return [(positions // 4**layer, count) for layer, count in enumerate(channels)]


def no_moments(config: ModelConfig, covariance: Covariance) -> Moments | LayeredMoments:
    """Return the moments of no picture, of a model's size."""
    shapes = grid_shapes(config, covariance)
    if covariance == "layer":
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
    moments: Moments | LayeredMoments, config: ModelConfig, *, layer: int | None = None, keep_moments: bool = False
) -> Gaussians:
    """Return what moments say; `ModelError` with fewer than two pictures.

    Parameters
    ----------
    moments : Moments or LayeredMoments
    config : ModelConfig
    layer : int, optional
        Of layers, which one; `chosen_layer` by default.
    keep_moments : bool
        Whether the moments are needed afterwards; else they may be lost.
    """
    epsilon, precision = config.epsilon, config.precision
    if isinstance(moments, LayeredMoments):
        which = chosen_layer(moments) if layer is None else layer
        return LayerGaussians.from_moments(
            moments.layers[which], layer=which, epsilon=epsilon, precision=precision, keep_moments=keep_moments
        )
    return PositionGaussians.from_moments(moments, epsilon=epsilon, precision=precision, keep_moments=keep_moments)


def tensors_of(gaussians: Gaussians) -> dict[str, NDArray[Any]]:
    """Return the arrays that a model's file holds, by their names."""
    positions = gaussians.positions if isinstance(gaussians, LayerGaussians) else gaussians
    return {name: getattr(positions, name) for name in _NAMES}


def gaussians_from(tensors: Mapping[str, NDArray[Any]], *, pictures: int, scale: LayerScale | None) -> Gaussians:
    """Return what `tensors_of` took apart; `scale` is of a single layer."""
    positions = PositionGaussians(pictures, **{name: tensors[name] for name in _NAMES})
    return positions if scale is None else LayerGaussians(pictures, scale.layer, positions, scale.unit)


def scale_of(gaussians: Gaussians) -> LayerScale | None:
    """Return which layer a model looks at, and its unit; None where it looks at channels of all."""
    return LayerScale(layer=gaussians.layer, unit=gaussians.unit) if isinstance(gaussians, LayerGaussians) else None


def shapes_of(config: ModelConfig, scale: LayerScale | None) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and type of the arrays that a model's file shall hold, by their names.

    Raises
    ------
    ModelError
        When the network has no such layer.
    """
    shapes = grid_shapes(config, "position" if scale is None else "layer")
    layer = 0 if scale is None else scale.layer
    if layer >= len(shapes):
        raise ModelError(f"layer {layer} of {config.backbone}, which has {len(shapes)}; train it again")
    positions, dimensions = shapes[layer]
    factor_type = np.uint16 if config.precision == "bfloat16" else np.float32
    return {
        "mean": ((positions, dimensions), np.float32),
        "factors": ((positions, packed_length(dimensions)), factor_type),
        "known": ((positions,), np.bool_),
    }


def training_bytes(config: ModelConfig, covariance: Covariance) -> int:
    """Return about how much memory the training of a view takes; one of its layers is held beside that of a fold."""
    each = [4 * positions * packed_length(dimensions) for positions, dimensions in grid_shapes(config, covariance)]
    return sum(each) + 2 * max(each) if covariance == "layer" else sum(each)


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
    layered = isinstance(gaussians, LayerGaussians)
    shapes = grid_shapes(config, "layer" if layered else "position")
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
