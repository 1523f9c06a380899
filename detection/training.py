"""Training of one view, and what each of its pictures would score had it not been trained on."""

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
from detection.gaussian import leave_one_out, whitening_factors
from detection.mahalanobis import squared_mahalanobis
from detection.padim import Gaussians, heatmap_of, moments_of, pick_channels
from detection.pictures import decode_picture, read_bytes, read_mask
from detection.preprocess import Prepared, prepare

_READERS = 2  # threads that read, decode and prepare pictures ahead of the network
_KEPT_BYTES = 1 << 30  # of a view's features that stay in memory; what does not fit is computed again


class TrainingPictures:
    """One view's training pictures, as features.

    Parameters
    ----------
    files : sequence of Path
        Picture files, one for each part.
    ignored : sequence of Path or None
        For each of them the file that marks the pixels to ignore, or None.
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
        ignored: Sequence[Path | None],
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
        self._files, self._ignored = files, ignored
        self._config, self._model, self._backbone = config, model, backbone
        self._bottom_share, self._picture_width_mm = bottom_share, picture_width_mm
        self._any_size, self._picture_read = any_size, picture_read
        self._features: dict[int, NDArray[np.float32]] = {}
        self._features_bytes = 0
        self._valid: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._files)

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
                    reading[ahead] = pool.submit(self._read, ahead)
                yield self._features[i] if i in self._features else self._compute(i, reading.pop(i).result())

    def score(self, i: int, heatmap: NDArray[np.float32]) -> float:
        """Return the score of picture `i`, whose features were computed before, from its heatmap (R, R)."""
        valid = np.unpackbits(self._valid[i], count=heatmap.size).reshape(heatmap.shape).astype(np.bool_)
        return image_score(
            heatmap,
            valid,
            config=self._config.score,
            picture_width_mm=self._picture_width_mm,
            name=str(self._files[i]),
        )

    def _read(self, i: int) -> "_Read":
        file, ignored = self._files[i], self._ignored[i]
        data = read_bytes(file)
        picture = decode_picture(data, name=str(file))
        prepared = prepare(
            picture,
            resolution=self._model.resolution,
            config=self._config.preprocess,
            bottom_share=self._bottom_share,
            mask=None if ignored is None else read_mask(ignored, shape=picture.shape[:2]),
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
    pictures: TrainingPictures, *, config: ModelConfig, sigma: float
) -> tuple[Gaussians, list[float]]:
    """Train one view on all its pictures, and score each picture as a model of all the others would.

    Parameters
    ----------
    pictures : TrainingPictures
        The view's pictures, at least 2.
    config : ModelConfig
        Regularisation and precision of the model.
    sigma : float
        Of the heatmap's Gaussian filter, in pixels.

    Returns
    -------
    Gaussians
        Trained on all pictures.
    list of float
        Held-out score of each picture; none for two pictures, of which one alone has no covariance.

    Raises
    ------
    ModelError
        With fewer than 2 pictures.

    Notes
    -----
    Costs one more factorisation and one score for each picture, whatever their number. Two packed sets are
    alive (three while bfloat16 is rounded).
    """
    everything = range(len(pictures))
    total = moments_of(pictures.features(everything), config=config)
    held_out = []
    if total.count > 2:
        mean = total.mean.astype(np.float32)
        factors = whitening_factors(total, epsilon=config.epsilon, left_out=1)
        for i, features in zip(everything, pictures.features(everything), strict=True):
            squared = np.empty(len(features), dtype=np.float32)
            squared_mahalanobis(features - mean, factors, out=squared)
            heatmap = heatmap_of(leave_one_out(squared, count=total.count), sigma=sigma)
            held_out.append(pictures.score(i, heatmap))
        del factors
    return Gaussians.from_moments(total, epsilon=config.epsilon, precision=config.precision), held_out
