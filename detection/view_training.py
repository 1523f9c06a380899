"""Training of one view, and what each of its pictures would score had it not been trained on."""

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from detection.backbones import Backbone
from detection.config import Covariance, DetectionConfig, ModelConfig
from detection.datasets import sha256_of
from detection.decisions import image_score
from detection.errors import DatasetError, ModelError
from detection.gaussian import Gaussians, leave_one_out
from detection.heatmap import heatmap_of, pixels_of, positions_of
from detection.moments import Moments
from detection.nuisances import Peaks, discounted, held_out_novelty, peaks_of
from detection.padim import pick_channels
from detection.pictures import decode_picture, read_bytes, read_ignored
from detection.preprocess import Prepared, Reference, prepare
from detection.shared import SharedGaussians, SharedMoments
from detection.shared import leave_one_out as leave_one_out_shared
from detection.training_state import gaussians_of, no_moments, write_moments

_READERS = 2  # threads that read, decode and prepare pictures ahead of the network
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
        self.channels = pick_channels(model)
        self.frame_shape = (0, 0)
        self.hashes = [""] * len(files)
        self._files, self._ignored = files, ignored
        self._config, self._model, self._backbone = config, model, backbone
        self._bottom_share, self._picture_width_mm = bottom_share, picture_width_mm
        self._any_size, self._reference, self._picture_read = any_size, reference, picture_read
        self._masked: dict[int, NDArray[np.bool_] | None] = {}
        self._valid: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._files)

    @property
    def covariance(self) -> Covariance:
        """Whether the model's positions share one."""
        return self._config.distance.covariance

    @property
    def remembers_peaks(self) -> bool:
        """Whether peaks of these pictures are to be remembered as nuisances."""
        return self._config.distance.remembers_peaks

    def features(self) -> Iterator[NDArray[np.float32]]:
        """Features of each picture in turn; the next files are read and prepared while the network works.

        Yields
        ------
        (P, d) float32
            Features. From then on `masked` and `score` know this picture.

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

    def masked(self, i: int) -> NDArray[np.bool_] | None:
        """Return the grid positions (P,) bool that picture `i` does not show; None when it shows all."""
        return self._masked[i]

    def score(self, i: int, heatmap: NDArray[np.float32], hidden: NDArray[np.bool_]) -> float:
        """Return the score of picture `i` from its heatmap (R, R), of which positions (P,) are hidden."""
        return image_score(
            heatmap,
            self._counting(i, hidden),
            config=self._config.score,
            picture_width_mm=self._picture_width_mm,
            name=str(self._files[i]),
        )

    def peaks(
        self, i: int, features: NDArray[np.float32], gaussians: SharedGaussians, hidden: NDArray[np.bool_]
    ) -> Peaks:
        """Return the peaks of picture `i` that are to be remembered; see `DistanceConfig.nuisances`."""
        heatmap = gaussians.heatmap(features, sigma=self._config.score.smoothing_sigma, masked=hidden)
        count = self._config.distance.nuisances
        return peaks_of(heatmap, self._counting(i, hidden), features, gaussians, hidden=hidden, count=count)

    def _counting(self, i: int, hidden: NDArray[np.bool_]) -> NDArray[np.bool_]:
        pixels = pixels_of(~hidden)
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

    def _features(self, i: int, read: "_Read") -> NDArray[np.float32]:
        shape = read.prepared.geometry.frame_shape
        if not any(self.frame_shape):
            self.frame_shape = shape
        if not self._any_size:
            _refuse_other_size(self._files[i], shape, self.frame_shape)
        masked = read.prepared.masked
        self._masked[i] = None if masked is None else positions_of(masked)
        self._valid[i] = np.packbits(read.prepared.valid)
        self.hashes[i] = read.sha256
        batch = self._backbone.features(read.prepared.image[np.newaxis], channels=self.channels)
        self._picture_read()
        features: NDArray[np.float32] = batch[0]
        return features


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
    peaks : list of Peaks
        Of each picture, where nuisances are remembered; else empty.
    """

    squared: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    peaks: list[Peaks]

    def scores(
        self, pictures: TrainingPictures, *, sigma: float, factors: Sequence[NDArray[np.float32]]
    ) -> list[float]:
        """Return each picture's score; `factors` are the novelty of its peaks, for each picture that has some."""
        found = []
        for i, (squared, hidden) in enumerate(zip(self.squared, self.hidden, strict=True)):
            heatmap = heatmap_of(squared, sigma=sigma, hidden=hidden)
            if self.peaks:
                heatmap = discounted(heatmap, self.peaks[i], factors[i])
            found.append(pictures.score(i, heatmap, hidden))
        return found


def held_out_scores(
    views: Sequence[HeldOut | None],
    pictures: Sequence[TrainingPictures],
    config: DetectionConfig,
    *,
    known: NDArray[np.float32] | None,
) -> tuple[list[list[float]], NDArray[np.float32] | None]:
    """Score every part as models of all the others would, which know the nuisances that the others show.

    Parameters
    ----------
    views : sequence of HeldOut or None
        Of each view; None where there are too few pictures.
    pictures : sequence of TrainingPictures
        Of each view.
    config : DetectionConfig
    known : (K, d) float32 or None
        Nuisances that are known beside these parts' own.

    Returns
    -------
    list of list of float
        By part and view; empty where there are too few pictures.
    (K, d) float32 or None
        All nuisances that are known now; None where none are remembered.
    """
    held_out = [view for view in views if view is not None]
    if len(held_out) < len(views):
        return [], known
    seen = [view.peaks for view in held_out]
    factors: Sequence[Sequence[NDArray[np.float32]]] = [()] * len(views)
    if config.distance.remembers_peaks:
        before = [] if known is None else [known]
        factors = held_out_novelty(seen, before)
        known = np.concatenate([*before, *(peaks.directions for view in seen for peaks in view)])
    sigma = config.score.smoothing_sigma
    scores = [
        view.scores(some, sigma=sigma, factors=novel)
        for view, some, novel in zip(held_out, pictures, factors, strict=True)
    ]
    return [list(part) for part in zip(*scores, strict=True)], known


def fit_and_hold_out(
    pictures: TrainingPictures,
    *,
    config: ModelConfig,
    folder: Path | None = None,
    earlier: Moments | SharedMoments | None = None,
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
    earlier : Moments or SharedMoments, optional
        Of pictures that the model has learned from before; updated in place and lost.
    state : Path, optional
        Folder to keep the moments of all pictures in, for a later training.

    Returns
    -------
    Gaussians
        Trained on all pictures.
    HeldOut or None
        Of each picture, by the earlier ones and all the others; None for two pictures altogether, of which one alone
        has no covariance.

    Raises
    ------
    ModelError
        With fewer than 2 pictures.

    Notes
    -----
    Every picture is read once. Its features wait in a temporary file, because what leaves it out is known only when
    all have been seen. What stays in memory of each picture is a number for each position, and its peaks.
    """
    moments = no_moments(config, pictures.covariance) if earlier is None else earlier
    positions, dimensions = moments.mean.shape
    shape = len(pictures), positions, dimensions
    held_out = None
    try:
        with tempfile.TemporaryFile(dir=folder) as file:

            def remember() -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_] | None]]:
                for i, features in enumerate(pictures.features()):
                    file.write(features.data)
                    yield features, pictures.masked(i)

            moments.update_each(remember())
            if moments.pictures > 2 and isinstance(moments, SharedMoments):
                held_out = _hold_out_shared(file, shape, moments, pictures, epsilon=config.epsilon)
            elif moments.pictures > 2 and isinstance(moments, Moments):
                held_out = _hold_out_each_position(file, shape, moments, pictures, epsilon=config.epsilon)
    except OSError as error:
        raise ModelError(
            f"{folder or tempfile.gettempdir()}: no room for {4e-9 * np.prod(shape):.1f} GB of features while a view "
            f"is trained ({error}); free some, or choose another disk"
        ) from error
    if state is not None:
        write_moments(state, moments)
    return gaussians_of(moments, config), held_out


def _hold_out_shared(
    file: IO[bytes], shape: tuple[int, int, int], moments: SharedMoments, pictures: TrainingPictures, *, epsilon: float
) -> HeldOut:
    count, positions, dimensions = shape
    held_out = HeldOut(np.empty(shape[:2], dtype=np.float32), _hidden(count, moments, pictures), [])
    file.seek(0)
    for i, hidden in enumerate(held_out.hidden):
        features = np.frombuffer(file.read(4 * positions * dimensions), dtype=np.float32).reshape(positions, dimensions)
        gaussians = leave_one_out_shared(moments, features, epsilon=epsilon, masked=pictures.masked(i))
        held_out.squared[i] = gaussians.squared_distances(features[np.newaxis])[0]
        if pictures.remembers_peaks:
            held_out.peaks.append(pictures.peaks(i, features, gaussians, hidden))
    return held_out


def _hold_out_each_position(
    file: IO[bytes], shape: tuple[int, int, int], moments: Moments, pictures: TrainingPictures, *, epsilon: float
) -> HeldOut:
    count, positions, dimensions = shape
    hidden = _hidden(count, moments, pictures)
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
    return HeldOut(squared, hidden, [])


def _hidden(count: int, moments: Moments | SharedMoments, pictures: TrainingPictures) -> NDArray[np.bool_]:
    """Return which positions (N, P) of each picture say nothing: masked, or without a Gaussian when it is left out."""
    hidden = np.tile(~moments.scored(left_out=1), (count, 1))
    for i in range(count):
        masked = pictures.masked(i)
        if masked is not None:
            hidden[i] |= masked
    return hidden
