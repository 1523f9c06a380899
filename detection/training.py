"""Training of one view: all its pictures, and again without each fold, in one sweep over their features."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.backbones import Backbone
from detection.config import DetectionConfig, ModelConfig
from detection.datasets import sha256_of
from detection.decisions import image_score
from detection.errors import DatasetError
from detection.padim import Gaussians, moments_of, pick_channels
from detection.pictures import decode_picture, read_bytes
from detection.preprocess import Prepared, prepare

_READERS = 2  # threads that read, decode and prepare pictures ahead of the network
_KEPT_BYTES = 1 << 30  # of a view's features that stay in memory; what does not fit is computed again


class TrainingPictures:
    """One view's training pictures, as features.

    Parameters
    ----------
    files : sequence of Path
        Picture files, one for each part.
    config, model : DetectionConfig, ModelConfig
        How pictures become features and scores.
    backbone : Backbone
        The feature extractor.
    bottom_share : float
        Share of the frame's height that is cut.
    picture_width_mm : float or None
        What the prepared picture is wide.
    any_size : bool
        Whether pictures may differ in size; they are padded and resized anyway.
    picture_read : callable
        Called whenever a picture is read for the first time.

    Attributes
    ----------
    channels : (d,) int64
        Picked channels.
    frame_shape : (int, int)
        Height and width of the frames in pixels, once one is read.
    hashes : list of str
        SHA-256 of each file, once it is read.
    """

    def __init__(
        self,
        files: Sequence[Path],
        *,
        config: DetectionConfig,
        model: ModelConfig,
        backbone: Backbone,
        bottom_share: float,
        picture_width_mm: float | None,
        any_size: bool,
        picture_read: Callable[[], None],
    ) -> None:
        self.channels = pick_channels(model)
        self.frame_shape = (0, 0)
        self.hashes = [""] * len(files)
        self._files = files
        self._config, self._model, self._backbone = config, model, backbone
        self._bottom_share, self._picture_width_mm = bottom_share, picture_width_mm
        self._any_size, self._picture_read = any_size, picture_read
        self._features: dict[int, NDArray[np.float32]] = {}
        self._features_bytes = 0
        self._valid: dict[int, NDArray[np.uint8]] = {}

    def features(self, indices: Sequence[int]) -> Iterator[NDArray[np.float32]]:
        """Features of some pictures; the next files are read and prepared while the network works.

        Parameters
        ----------
        indices : sequence of int
            Which pictures, without repetition.

        Yields
        ------
        (P, d) float32
            Features of each, in this order.

        Raises
        ------
        PictureError
            When a picture is unusable.
        DatasetError
            When it has another size than the first one.
        """
        waiting = deque(i for i in indices if i not in self._features)
        reading: dict[int, Future[_Read]] = {}
        with ThreadPoolExecutor(_READERS) as pool:
            for i in indices:
                while waiting and len(reading) <= _READERS:
                    ahead = waiting.popleft()
                    reading[ahead] = pool.submit(self._read, self._files[ahead])
                yield self._features[i] if i in self._features else self._compute(i, reading.pop(i).result())

    def scores(self, indices: Sequence[int], gaussians: Gaussians) -> Iterator[float]:
        """Yield some pictures' scores under some Gaussians."""
        for i, features in zip(indices, self.features(indices), strict=True):
            heatmap = gaussians.heatmap(features, sigma=self._config.score.smoothing_sigma)
            valid = np.unpackbits(self._valid[i], count=heatmap.size).reshape(heatmap.shape).astype(np.bool_)
            yield image_score(
                heatmap,
                valid,
                config=self._config.score,
                picture_width_mm=self._picture_width_mm,
                name=str(self._files[i]),
            )

    def _read(self, file: Path) -> "_Read":
        data = read_bytes(file)
        prepared = prepare(
            decode_picture(data, name=str(file)),
            resolution=self._model.resolution,
            config=self._config.preprocess,
            bottom_share=self._bottom_share,
            name=str(file),
        )
        return _Read(sha256_of(data), prepared)

    def _compute(self, i: int, read: "_Read") -> NDArray[np.float32]:
        shape = read.prepared.geometry.frame_shape
        if not any(self.frame_shape):
            self.frame_shape = shape
        if shape != self.frame_shape and not self._any_size:
            raise DatasetError(
                f"{self._files[i]}: {shape} pixels, but the view's first picture has {self.frame_shape}; all "
                "pictures of a view must have one size: remove the others or collect them again"
            )
        features: NDArray[np.float32] = self._backbone.features(
            read.prepared.image[np.newaxis], channels=self.channels
        )[0]
        if not self.hashes[i]:
            self._valid[i] = np.packbits(read.prepared.valid)
            self.hashes[i] = read.sha256
            self._picture_read()
        if self._features_bytes + features.nbytes <= _KEPT_BYTES:
            self._features[i] = features
            self._features_bytes += features.nbytes
        return features


@dataclass(frozen=True)
class _Read:
    sha256: str
    prepared: Prepared


def fit_with_held_out_scores(
    pictures: TrainingPictures, *, folds: NDArray[np.int64], config: ModelConfig
) -> tuple[Gaussians, list[float]]:
    """Train one view on all its pictures, and score each picture by a model that has not seen its fold.

    Parameters
    ----------
    pictures : TrainingPictures
        The view's pictures.
    folds : (N,) int64
        Fold of each picture.
    config : ModelConfig
        Regularisation and precision of the model.

    Returns
    -------
    Gaussians
        Trained on all pictures.
    list of float
        Held-out score of each picture.

    Notes
    -----
    Each fold's moments are taken out of the total, so a fold costs its own pictures and one factorisation,
    and no more than two packed sets are alive (three while bfloat16 is rounded).
    """
    total = moments_of(pictures.features(range(len(folds))), config=config)
    held_out = [math.nan] * len(folds)
    for fold in np.unique(folds):
        inside = [int(i) for i in np.flatnonzero(folds == fold)]
        rest = moments_of(pictures.features(inside), config=config)
        total.leave_out(rest)
        gaussians = Gaussians.from_moments(rest, epsilon=config.epsilon, precision=config.precision)
        for i, score in zip(inside, pictures.scores(inside, gaussians), strict=True):
            held_out[i] = score
    return Gaussians.from_moments(total, epsilon=config.epsilon, precision=config.precision), held_out
