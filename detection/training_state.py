"""What training goes through and continues from, of a model's size, in memory and on disk; and what it leads to."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.config import Covariance, ModelConfig
from detection.errors import ModelError
from detection.gaussian import Gaussians, PositionGaussians
from detection.heatmap import STRIDE
from detection.moments import Moments, packed_length
from detection.shared import SharedGaussians, SharedMoments
from detection.storage import read_tensors, write_tensors

_FILE = "moments.safetensors"


def grid_shape(config: ModelConfig) -> tuple[int, int]:
    """Return how many positions a model's grid has, and how many features each."""
    return (config.resolution // STRIDE) ** 2, config.n_features


def no_moments(config: ModelConfig, covariance: Covariance) -> Moments | SharedMoments:
    """Return the moments of no picture, of a model's size."""
    positions, dimensions = grid_shape(config)
    kind = SharedMoments if covariance == "shared" else Moments
    return kind.empty(positions=positions, dimensions=dimensions)


def gaussians_of(moments: Moments | SharedMoments, config: ModelConfig, *, keep_moments: bool = False) -> Gaussians:
    """Return what moments say; without `keep_moments`, they may be lost. `ModelError` with fewer than two pictures."""
    if isinstance(moments, SharedMoments):
        return SharedGaussians.from_moments(moments, epsilon=config.epsilon)
    return PositionGaussians.from_moments(
        moments, epsilon=config.epsilon, precision=config.precision, keep_moments=keep_moments
    )


def tensors_of(gaussians: Gaussians) -> dict[str, NDArray[Any]]:
    """Return the arrays that a model's file holds, by their names."""
    return {name: array for name, array in vars(gaussians).items() if name != "pictures"}


def shapes_of(config: ModelConfig, covariance: Covariance) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and type of the arrays that a model's file shall hold, by their names."""
    positions, dimensions = grid_shape(config)
    common = {"mean": ((positions, dimensions), np.float32), "scored": ((positions,), np.bool_)}
    if covariance == "shared":
        return common | {
            "whitening": ((dimensions, dimensions), np.float32),
            "scale": ((positions,), np.float32),
        }
    factor_type = np.uint16 if config.precision == "bfloat16" else np.float32
    return common | {"factors": ((positions, packed_length(dimensions)), factor_type)}


def training_bytes(config: ModelConfig, covariance: Covariance) -> int:
    """Return about how much memory the training of a view takes."""
    positions, dimensions = grid_shape(config)
    return 4 * positions * (8 * dimensions if covariance == "shared" else packed_length(dimensions))


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


def write_moments(folder: Path, moments: Moments | SharedMoments) -> None:
    """Write the moments of a view's training pictures beside its model."""
    tensors = {"count": moments.count, "mean": moments.mean, "comoment": moments.comoment}
    if isinstance(moments, SharedMoments):
        tensors["squares"] = moments.squares
    write_tensors(folder / _FILE, tensors)


def read_moments(folder: Path, config: ModelConfig, gaussians: Gaussians) -> Moments | SharedMoments:
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
    Moments or SharedMoments
        In memory of their own, so that they can be updated.

    Raises
    ------
    ModelError
        When the model keeps no training state, or the file is damaged or foreign.
    """
    require_moments(folder)
    positions, dimensions = grid_shape(config)
    count = {"count": ((positions,), np.int64)}
    rows = ((positions, dimensions), np.float64)
    if isinstance(gaussians, SharedGaussians):
        comoment = ((dimensions, dimensions), np.float64)
        tensors = read_tensors(folder / _FILE, {**count, "mean": rows, "squares": rows, "comoment": comoment})
        copies = {name: tensor.copy() for name, tensor in tensors.items()}
        return SharedMoments(pictures=gaussians.pictures, **copies)
    packed = ((positions, packed_length(dimensions)), np.float32)
    tensors = read_tensors(folder / _FILE, {**count, "mean": rows, "comoment": packed})
    return Moments(gaussians.pictures, *(tensors[name].copy() for name in ("count", "mean", "comoment")))
