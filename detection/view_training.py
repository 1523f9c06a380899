"""Training of one view, and what each of its pictures would score had it not been trained on."""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from detection.backbones import Backbone, Features
from detection.config import Covariance, DetectionConfig, ModelConfig
from detection.datasets import sha256_of
from detection.decisions import image_score
from detection.errors import DatasetError, ModelError
from detection.gaussian import Gaussians, coarser, hidden_on
from detection.heatmap import pixels_of
from detection.layer import LayeredMoments, LayerGaussians, chosen_layer
from detection.moments import Moments
from detection.padim import features_of, pick_channels, unseen_positions
from detection.pictures import decode_picture, read_bytes, read_ignored
from detection.preprocess import Prepared, Reference, prepare
from detection.training_state import gaussians_of, grid_shapes, learn, no_moments, write_moments
from detection.whitening import leave_one_out

Pixels = NDArray[np.bool_]

_READERS = 2  # threads that read, decode and prepare pictures ahead of the network
_FOLDS = 8  # of training pictures that are held out together where a layer has a common covariance
_CHUNK_BYTES = 1 << 27  # of features that are held in memory when positions are gone through


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
    reference : Reference or None
        What the pictures are registered to.
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
        reference: Reference | None,
        picture_read: Callable[[], None],
    ) -> None:
        self.channels = pick_channels(model, config.distance.covariance)
        self.frame_shape = (0, 0)
        self.hashes = [""] * len(files)
        self._files, self._ignored = files, ignored
        self._config, self._model, self._backbone = config, model, backbone
        self._bottom_share, self._picture_width_mm = bottom_share, picture_width_mm
        self._any_size, self._reference, self._picture_read = any_size, reference, picture_read
        self._unseen: dict[int, NDArray[np.bool_] | None] = {}
        self._valid: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._files)

    @property
    def covariance(self) -> Covariance:
        """How the model's Gaussians are laid out."""
        return self._config.distance.covariance

    @property
    def sigma(self) -> float:
        """Of the heatmap's Gaussian filter, in pixels; see `ScoreConfig.smoothing_sigma`."""
        return self._config.score.smoothing_sigma

    def features(self) -> Iterator[Features]:
        """Features of each picture in turn; the next files are read and prepared while the network works.

        Yields
        ------
        tuple of (P, d) float32
            Features on each grid that is learned from. From then on `unseen`, `valid` and `score` know this picture.

        Raises
        ------
        PictureError
            When a picture is unusable.
        DatasetError
            When it has another size than the first one.
        """
        waiting = deque(zip(self._files, self._ignored, strict=True))
        reading: deque[Future[_Read]] = deque()
        with ThreadPoolExecutor(_READERS) as pool:
            for i in range(len(self._files)):
                while waiting and len(reading) <= _READERS:
                    reading.append(pool.submit(self._read, *waiting.popleft()))
                yield self._features(i, reading.popleft().result())

    def unseen(self, i: int) -> NDArray[np.bool_] | None:
        """Return the grid positions (P,) bool that picture `i` does not show; None when it shows all."""
        return self._unseen[i]

    def score(self, i: int, heatmap: NDArray[np.float32], hidden: NDArray[np.bool_]) -> float:
        """Return the score of picture `i` from its heatmap (R, R); some of the model's positions (P,) are hidden."""
        return image_score(
            heatmap,
            self.valid(i, hidden),
            config=self._config.score,
            picture_width_mm=self._picture_width_mm,
            name=str(self._files[i]),
        )

    def valid(self, i: int, hidden: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which pixels (R, R) of picture `i` count; some of the model's positions (P,) are hidden."""
        pixels = pixels_of(~hidden, resolution=self._model.resolution)
        return pixels & np.unpackbits(self._valid[i], count=pixels.size).reshape(pixels.shape).astype(np.bool_)

    def _read(self, file: Path, ignored: Path | None) -> "_Read":
        data = read_bytes(file)
        picture = decode_picture(data, name=str(file))
        if self._reference is not None:
            _refuse_other_size(file, picture.shape[:2], self._reference.frame_shape)
        prepared = prepare(
            picture,
            resolution=self._model.resolution,
            config=self._config.preprocess,
            bottom_share=self._bottom_share,
            mask=read_ignored(ignored, shape=picture.shape),
            reference=self._reference,
            name=str(file),
        )
        return _Read(sha256_of(data), prepared)

    def _features(self, i: int, read: "_Read") -> Features:
        shape = read.prepared.geometry.frame_shape
        if not any(self.frame_shape):
            self.frame_shape = shape
        if not self._any_size:
            _refuse_other_size(self._files[i], shape, self.frame_shape)
        self._unseen[i] = unseen_positions(read.prepared, self.covariance)
        self._valid[i] = np.packbits(read.prepared.valid)
        self.hashes[i] = read.sha256
        found = features_of(self._backbone, read.prepared.image, channels=self.channels, covariance=self.covariance)
        self._picture_read()
        return found


@dataclass(frozen=True)
class _Read:
    sha256: str
    prepared: Prepared


def _refuse_other_size(file: Path, shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    if shape != expected:
        raise DatasetError(
            f"{file}: {shape} pixels, but the view's first picture has {expected}; all "
            "pictures of a view must have one size: remove the others or collect them again"
        )


@dataclass(frozen=True)
class HeldOut:
    """What a model of all the others says of each training picture.

    Attributes
    ----------
    squared : (N, P) float32
        Squared distances.
    hidden : (N, P) bool
        Positions that do not count.
    """

    squared: NDArray[np.float32]
    hidden: NDArray[np.bool_]

    def scores(self, pictures: TrainingPictures, gaussians: Gaussians) -> list[float]:
        """Return each picture's score, as `gaussians` would make a heatmap of its distances."""
        found = []
        for i in range(len(pictures)):
            heatmap = gaussians.heatmap_of(self.squared[i], self.hidden[i], sigma=pictures.sigma)
            found.append(pictures.score(i, heatmap, self.hidden[i]))
        return found

    def heights(self, gaussians: LayerGaussians, valid: Callable[[int, NDArray[np.bool_]], Pixels]) -> list[float]:
        """Return the highest pixel of each picture's heatmap that counts; see `TrainingPictures.valid`."""
        return [
            float(gaussians.heatmap_of(squared, hidden, sigma=0)[valid(i, hidden)].max(initial=0))
            for i, (squared, hidden) in enumerate(zip(self.squared, self.hidden, strict=True))
        ]


def held_out_scores(fitted: Sequence[tuple[TrainingPictures, Gaussians, HeldOut | None]]) -> list[list[float]]:
    """Score every part, view by view, as models of all the others would.

    Parameters
    ----------
    fitted : sequence
        Of each view its pictures, its model and what `fit_and_hold_out` found; None where there are too few pictures.

    Returns
    -------
    list of list of float
        By part and view; empty where there are too few pictures.
    """
    views = [held_out.scores(pictures, gaussians) for pictures, gaussians, held_out in fitted if held_out is not None]
    return [] if len(views) < len(fitted) else [list(part) for part in zip(*views, strict=True)]


@dataclass(frozen=True)
class Learned:
    """A view's model and the moments that it was made of, to learn on from."""

    gaussians: Gaussians
    moments: Moments | LayeredMoments


def fit_and_hold_out(
    pictures: TrainingPictures,
    *,
    config: ModelConfig,
    folder: Path | None = None,
    earlier: Learned | None = None,
    state: Path | None = None,
) -> tuple[Gaussians, HeldOut | None]:
    """Train one view on all its pictures, and look at each picture as a model of all the others would.

    Parameters
    ----------
    pictures : TrainingPictures
        The view's pictures, at least 2, together with the earlier ones.
    config : ModelConfig
        Regularisation and precision of the model.
    folder : Path, optional
        On a disk with room for the features of all pictures; that of temporary files by default.
    earlier : Learned, optional
        From other pictures before: layer and unit stay. Its moments are updated in place and lost.
    state : Path, optional
        Folder to keep the moments of all pictures in, for a later training.

    Returns
    -------
    Gaussians
        Trained on all pictures.
    HeldOut or None
        Of each picture, by the earlier ones and all the others, or of a layer all others but an eighth; None for two
        pictures altogether, of which one alone has no covariance.

    Raises
    ------
    ModelError
        With fewer than 2 pictures.

    Notes
    -----
    Every picture is read once. Its features wait in a temporary file, because what leaves it out is known only when
    all have been seen. What stays in memory of each picture is a number for each position.
    """
    moments = no_moments(config, pictures.covariance) if earlier is None else earlier.moments
    before = None if earlier is None else earlier.gaussians
    shapes = grid_shapes(config, pictures.covariance)
    others, held_out, layer = None, None, None
    if isinstance(moments, LayeredMoments) and isinstance(before, LayerGaussians):
        others = moments.layers[before.layer].copy()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:

            def remember() -> Iterator[tuple[Features, NDArray[np.bool_] | None]]:
                for i, features in enumerate(pictures.features()):
                    for one in features:
                        file.write(np.ascontiguousarray(one).data)
                    yield features, pictures.unseen(i)

            learn(moments, remember())
            if isinstance(moments, LayeredMoments):
                layer = before.layer if isinstance(before, LayerGaussians) else chosen_layer(moments)
            if moments.pictures > 2 and layer is not None:
                positions, dimensions = shapes[layer]
                held_out = hold_out_folds(
                    Moments.empty(positions=positions, dimensions=dimensions) if others is None else others,
                    [pictures.unseen(i) for i in range(len(pictures))],
                    partial(_read_features, file, shapes, layer),
                    layer=layer,
                    epsilon=config.epsilon,
                )
            elif moments.pictures > 2 and isinstance(moments, Moments):
                held_out = _hold_out_each(file, moments, pictures, epsilon=config.epsilon)
    except OSError as error:
        gigabytes = 4e-9 * len(pictures) * sum(positions * dimensions for positions, dimensions in shapes)
        raise ModelError(
            f"{folder or tempfile.gettempdir()}: no room for {gigabytes:.1f} GB of features while a view "
            f"is trained ({error}); free some, or choose another disk"
        ) from error
    if state is not None:
        write_moments(state, moments)
    gaussians = gaussians_of(moments, config, layer=layer)
    if isinstance(gaussians, LayerGaussians):
        if isinstance(before, LayerGaussians) and before.pictures > 2:  # of two none was held out to be counted in
            gaussians = replace(gaussians, unit=before.unit)
        elif held_out is not None:
            gaussians = gaussians.counted_in(held_out.heights(gaussians, pictures.valid))
    return gaussians, held_out


def hold_out_folds(
    earlier: Moments,
    unseen: Sequence[NDArray[np.bool_] | None],
    read: Callable[[int], NDArray[np.float32]],
    *,
    layer: int,
    epsilon: float,
) -> HeldOut:
    """Look at one layer of each of several training pictures as a model that has not seen it would.

    Parameters
    ----------
    earlier : Moments
        The layer's, of pictures that all these models have seen beside.
    unseen : sequence of (P',) bool or None
        Of each picture the positions of the finest grid that it does not show.
    read : callable
        Gives the layer's features (P, d) float32 of a picture, by its number.
    layer : int
        Which, 0 the finest.
    epsilon : float
        Added to the covariance's diagonal.

    Notes
    -----
    Cross-validation in eight folds, up to eight pictures one by one: a picture is part of what positions have in
    common, so no single factorisation serves all. These models have seen an eighth less than the final one; what they
    say errs to the high side, if at all.
    """
    count, positions = len(unseen), len(earlier.mean)
    squared, hidden = np.empty((count, positions), np.float32), np.empty((count, positions), np.bool_)
    for fold in range(min(_FOLDS, count)):
        left_out = range(fold, count, _FOLDS)
        moments = earlier.copy()
        moments.update_each((read(i), coarser(unseen[i], positions)) for i in range(count) if i not in left_out)
        gaussians = LayerGaussians.from_moments(moments, layer=layer, epsilon=epsilon, precision="float32")
        for i in left_out:
            squared[i], hidden[i] = gaussians.squared_distances(read(i)), gaussians.hidden(unseen[i])
    return HeldOut(squared, hidden)


def _read_features(file: IO[bytes], shapes: Sequence[tuple[int, int]], layer: int, picture: int) -> NDArray[np.float32]:
    sizes = [positions * dimensions for positions, dimensions in shapes]
    file.seek(4 * (picture * sum(sizes) + sum(sizes[:layer])))
    return np.frombuffer(file.read(4 * sizes[layer]), dtype=np.float32).reshape(shapes[layer])


def _hold_out_each(file: IO[bytes], moments: Moments, pictures: TrainingPictures, *, epsilon: float) -> HeldOut:
    scored, count = moments.scored(left_out=1), len(pictures)
    hidden = np.stack([hidden_on(scored, pictures.unseen(i)) for i in range(count)])
    positions, dimensions = moments.mean.shape
    squared = np.empty((count, positions), dtype=np.float32)
    row_bytes = 4 * dimensions
    step = max(1, _CHUNK_BYTES // (count * row_bytes))
    for first in range(0, positions, step):
        width = min(step, positions - first)
        chunk = np.empty((count, width, dimensions), dtype=np.float32)
        for i in range(count):
            file.seek((i * positions + first) * row_bytes)
            chunk[i] = np.frombuffer(file.read(width * row_bytes), dtype=np.float32).reshape(width, dimensions)
        some = slice(first, first + width)
        squared[:, some] = leave_one_out(moments, chunk, epsilon=epsilon, first=first, masked=hidden[:, some])
    return HeldOut(squared, hidden)
