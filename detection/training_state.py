"""Moments of a model's size, in memory and on disk: what training goes through, and continues from."""

from pathlib import Path

import numpy as np

from detection.config import ModelConfig
from detection.errors import ModelError
from detection.heatmap import STRIDE
from detection.moments import Moments, packed_length
from detection.storage import read_tensors, write_tensors

_FILE = "moments.safetensors"


def grid_shape(config: ModelConfig) -> tuple[int, int]:
    """Return how many positions a model's grid has, and how many features each."""
    return (config.resolution // STRIDE) ** 2, config.n_features


def no_moments(config: ModelConfig) -> Moments:
    """Return the moments of no picture, of a model's size."""
    positions, dimensions = grid_shape(config)
    return Moments.empty(positions=positions, dimensions=dimensions)


def moments_bytes(config: ModelConfig) -> int:
    """Return about how much memory a model's moments take."""
    positions, dimensions = grid_shape(config)
    return 4 * positions * packed_length(dimensions)


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


def write_moments(folder: Path, moments: Moments) -> None:
    """Write the moments of a view's training pictures beside its model."""
    write_tensors(folder / _FILE, {"count": moments.count, "mean": moments.mean, "comoment": moments.comoment})


def read_moments(folder: Path, config: ModelConfig, *, pictures: int) -> Moments:
    """Read what `write_moments` wrote.

    Parameters
    ----------
    folder : Path
        Of a view's model.
    config : ModelConfig
        The model's.
    pictures : int
        With how many pictures it was trained.

    Returns
    -------
    Moments
        In memory of their own, so that they can be updated.

    Raises
    ------
    ModelError
        When the model keeps no training state, or the file is damaged or foreign.
    """
    require_moments(folder)
    positions, dimensions = grid_shape(config)
    tensors = read_tensors(
        folder / _FILE,
        {
            "count": ((positions,), np.int64),
            "mean": ((positions, dimensions), np.float64),
            "comoment": ((positions, packed_length(dimensions)), np.float32),
        },
    )
    return Moments(pictures, *(tensors[name].copy() for name in ("count", "mean", "comoment")))
