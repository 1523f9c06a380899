"""What models trained with different parts say of every picture of one view; features are computed once for all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import IO, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.backbones import Backbone, Features, pretrained, total_channels
from detection.config import DistanceConfig, ModelConfig, PreprocessConfig, ScoreConfig
from detection.decisions import image_score
from detection.errors import PictureError
from detection.gaussian import PositionGaussians, hidden_on
from detection.heatmap import STRIDE, heatmap_of, pixels_of
from detection.layer import LayeredMoments, LayerGaussians
from detection.moments import Moments
from detection.padim import arithmetic_of, features_of, pick_channels, resolved, unseen_positions
from detection.pictures import read_ignored, read_picture
from detection.preprocess import Reference, make_reference, prepare
from detection.training_state import gaussians_of, grid_shapes, learn, no_moments
from detection.view_training import hold_out_folds
from scenarios.alternatives import AlternativeName, MemoryBank
from scenarios.alternatives import learned as learned_alternative

_BATCH = 8  # pictures for which a model's factors are read once; their features are 0.2 GB at 1024²


@dataclass(frozen=True)
class ViewPictures:
    """Pictures of one view, one for each part.

    Attributes
    ----------
    view : str
    files : tuple of Path
    ignored : tuple of Path or None
        For each of them what marks the pixels to ignore.
    bottom_share : float
        Share of the frame's height that is cut.
    picture_width_mm : float or None
        What the prepared picture is wide.
    """

    view: str
    files: tuple[Path, ...]
    ignored: tuple[Path | None, ...]
    bottom_share: float
    picture_width_mm: float | None


@dataclass(frozen=True)
class ViewScores:
    """Scores of one view.

    Attributes
    ----------
    scores : (D, S, N) float32
        By draw of training parts, way to score and picture; infinite where a picture cannot be scored. Training
        pictures are measured by what the others taught where one layer is measured, and by a memory bank; else by a
        model that has seen them, as in the paper.
    heatmaps : (K, g, g) float16
        Of the pictures that were to be kept, by the last draw's model, a quarter as wide as the network's input.
    pictures : (K, g, g, 3) uint8
        The same pictures as the network saw them, as wide.
    """

    scores: NDArray[np.float32]
    heatmaps: NDArray[np.float16]
    pictures: NDArray[np.uint8]


@dataclass(frozen=True)
class ViewJob:
    """Train models of one view with several draws of training parts, and score every picture by each.

    Attributes
    ----------
    pictures : ViewPictures
    preprocess : PreprocessConfig
        With registration, the first picture of the first draw is the reference.
    distance : DistanceConfig
    model : ModelConfig
    weights : Path or None
        Of the backbone, instead of the pretrained ones.
    draws : tuple of tuple of int
        Which pictures train.
    ways : tuple of ScoreConfig
        To make a score of a heatmap; all with the same smoothing.
    keep : tuple of int
        Pictures of which the heatmap is kept.
    out : Path
        Where the scores go, an ``.npz`` file.
    projected : bool
        Whether features are n_features random directions in all channels, instead of that many channels.
    alternative : str, optional
        What measures instead of the product's Gaussians; see `scenarios.alternatives`.
    """

    pictures: ViewPictures
    preprocess: PreprocessConfig
    distance: DistanceConfig
    model: ModelConfig
    weights: Path | None
    draws: tuple[tuple[int, ...], ...]
    ways: tuple[ScoreConfig, ...]
    keep: tuple[int, ...]
    out: Path
    projected: bool = False
    alternative: AlternativeName | None = None

    def run(self) -> None:
        """Write the scores, whole or not at all."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        found = score_view(self)
        half = self.out.with_suffix(".part")
        with half.open("wb") as file:
            np.savez(file, **vars(found))
        half.replace(self.out)

    def read(self) -> ViewScores:
        """Read what `run` wrote."""
        with np.load(self.out, allow_pickle=False) as arrays:
            return ViewScores(**{name: arrays[name] for name in arrays.files})


def score_view(job: ViewJob) -> ViewScores:
    """Do a job, and return what it found.

    Notes
    -----
    A picture that cannot be prepared (no outline, not registered) trains nothing and scores infinitely, as does one of
    which nothing is left to score: on the line its part is rechecked, and no threshold lets it pass.
    """
    model = resolved(job.model)
    grid = model.resolution // STRIDE
    count = len(job.pictures.files)
    scores = np.full((len(job.draws), len(job.ways), count), np.inf, dtype=np.float32)
    heatmaps = np.zeros((len(job.keep), grid, grid), dtype=np.float16)
    pictures = np.zeros((len(job.keep), grid, grid, 3), dtype=np.uint8)
    with tempfile.TemporaryFile(dir=job.out.parent) as file:  # without a name: it ends with this process, even killed
        backbone = pretrained(model.backbone, weights=job.weights, arithmetic=arithmetic_of(model))
        features = _Features(job, model, backbone, file, pictures)
        moments = no_moments(model, job.distance.covariance)
        learned: tuple[int, ...] = ()
        for draw, trained in enumerate(job.draws):
            measured: Iterator[Measured]
            if job.alternative is None:
                if trained[: len(learned)] != learned:
                    moments, learned = no_moments(model, job.distance.covariance), ()
                new, learned = trained[len(learned) :], trained
                learn(moments, ((features.of(i), features.unseen[i]) for i in new if i in features.valid))
                measured = features.distances(moments, trained)
            else:
                measured = features.alternative_distances(job.alternative, trained)
            for i, make_heatmap, squared, hidden in measured:
                heatmap = make_heatmap(squared, hidden, sigma=job.ways[0].smoothing_sigma)
                valid = features.valid_pixels(i, hidden)
                width, name = job.pictures.picture_width_mm, str(job.pictures.files[i])
                with suppress(PictureError):  # nothing is left to score
                    scores[draw, :, i] = [
                        image_score(heatmap, valid, config=config, picture_width_mm=width, name=name)
                        for config in job.ways
                    ]
                if draw == len(job.draws) - 1 and i in job.keep:
                    heatmaps[job.keep.index(i)] = np.where(valid, heatmap, 0)[::STRIDE, ::STRIDE]
    return ViewScores(scores, heatmaps, pictures)


def vote_statistics(scores: NDArray[np.floating], *, k: int) -> NDArray[np.float64]:
    """Return what parts are judged by, (...,) of view scores (V, ...): the k-th largest, the smallest of fewer views.

    Infinite where any picture could not be scored: the part is rechecked, and no threshold lets it pass.
    """
    largest = np.sort(scores, axis=0)[-min(k, len(scores))]
    return np.where(np.isinf(scores).any(axis=0), np.inf, largest).astype(np.float64)


class MakeHeatmap(Protocol):
    """See `Gaussians.heatmap_of`."""

    def __call__(self, squared: NDArray[np.float32], hidden: NDArray[np.bool_], *, sigma: float) -> NDArray[np.float32]:
        """Return the heatmap (R, R)."""
        ...


Measured = tuple[int, MakeHeatmap, NDArray[np.float32], NDArray[np.bool_]]
"""A picture, what makes a heatmap of its distances, squared distances (P,), and what is hidden (P,)."""


class _Features:
    """Features of all of a job's pictures, in a file, and which of their pixels count.

    Attributes
    ----------
    valid : mapping
        Picture → its packed valid pixels; only of pictures that could be prepared.
    unseen : mapping
        Picture → positions (P,) bool of the finest grid that it does not show, or None.
    """

    def __init__(
        self, job: ViewJob, model: ModelConfig, backbone: Backbone, file: IO[bytes], kept: NDArray[np.uint8]
    ) -> None:
        grid, covariance = model.resolution // STRIDE, job.distance.covariance
        self._model, self._side = model, model.resolution
        self._shapes = grid_shapes(model, covariance)
        numbers = sum(positions * dimensions for positions, dimensions in self._shapes)
        self._values = np.memmap(file, dtype=np.float32, mode="w+", shape=(len(job.pictures.files), numbers))
        self.unseen: dict[int, NDArray[np.bool_] | None] = {}
        self.valid: dict[int, NDArray[np.uint8]] = {}
        directions = random_directions(total_channels(model.backbone), model) if job.projected else None
        channels = pick_channels(model, covariance) if directions is None else np.arange(len(directions))
        reference = _reference(job)
        for i in range(len(job.pictures.files)):
            picture, mask = _read(job.pictures, i)
            try:
                prepared = prepare(
                    picture,
                    resolution=model.resolution,
                    config=job.preprocess,
                    bottom_share=job.pictures.bottom_share,
                    mask=mask,
                    reference=reference,
                )
            except PictureError:
                continue
            found = features_of(backbone, prepared.image, channels=channels, covariance=covariance)
            if directions is not None:
                found = (found[0] @ directions,)
            self._values[i] = np.concatenate([one.reshape(-1) for one in found])
            self.unseen[i] = unseen_positions(prepared, covariance)
            self.valid[i] = np.packbits(prepared.valid)
            if i in job.keep:
                kept[job.keep.index(i)] = cv2.resize(prepared.image, (grid, grid), interpolation=cv2.INTER_AREA)

    def of(self, i: int) -> Features:
        """Features (P, d) of picture i on each grid."""
        ends = list(accumulate(positions * dimensions for positions, dimensions in self._shapes))
        parts = np.split(self._values[i], ends[:-1])
        return tuple(part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True))

    def distances(self, moments: Moments | LayeredMoments, trained: Sequence[int]) -> Iterator[Measured]:
        """Measure each picture that could be prepared."""
        if isinstance(moments, LayeredMoments):
            yield from self._of_layer(moments, trained)
            return
        gaussians = gaussians_of(moments, self._model, keep_moments=True)
        assert isinstance(gaussians, PositionGaussians)
        valid = list(self.valid)
        for first in range(0, len(valid), _BATCH):
            some = valid[first : first + _BATCH]
            features = self._values[some].reshape(len(some), *self._shapes[0])
            for i, squared in zip(some, gaussians.squared(features), strict=True):
                yield i, gaussians.heatmap_of, squared, gaussians.hidden(self.unseen[i])

    def _of_layer(self, moments: LayeredMoments, trained: Sequence[int]) -> Iterator[Measured]:
        gaussians, held_out = gaussians_of(moments, self._model, keep_moments=True), None
        assert isinstance(gaussians, LayerGaussians)
        layer, known = gaussians.layer, [i for i in trained if i in self.valid]
        if moments.pictures > 2:
            positions, dimensions = self._shapes[layer]
            held_out = hold_out_folds(
                Moments.empty(positions=positions, dimensions=dimensions),
                [self.unseen[i] for i in known],
                lambda n: self.of(known[n])[layer],
                layer=layer,
                epsilon=self._model.epsilon,
            )
            heights = held_out.heights(gaussians, lambda n, hidden: self.valid_pixels(known[n], hidden))
            gaussians = gaussians.counted_in(heights)
        for i in self.valid:
            if held_out is not None and i in known:
                n = known.index(i)
                yield i, gaussians.heatmap_of, held_out.squared[n], held_out.hidden[n]
            else:
                squared = gaussians.squared_distances(self.of(i)[layer])
                yield i, gaussians.heatmap_of, squared, gaussians.hidden(self.unseen[i])

    def alternative_distances(self, name: AlternativeName, trained: Sequence[int]) -> Iterator[Measured]:
        """Measure the same by an alternative; a memory bank a training picture by what the others taught."""
        known = [i for i in trained if i in self.valid]
        values, unseen = [self.of(i)[0] for i in known], [self.unseen[i] for i in known]
        found = learned_alternative(name, values, unseen, epsilon=self._model.epsilon, seed=self._model.seed)
        for i in self.valid:
            if isinstance(found, MemoryBank) and i in known:
                squared = found.squared_distances_without(known.index(i), self.of(i)[0])
            else:
                squared = found.squared_distances(self.of(i)[0])
            yield i, heatmap_of, squared, hidden_on(found.scored, self.unseen[i])

    def valid_pixels(self, i: int, hidden: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which pixels (R, R) of picture i count; some of the model's positions (P,) are hidden."""
        pixels = np.unpackbits(self.valid[i]).reshape(self._side, self._side).astype(np.bool_)
        return pixels & pixels_of(~hidden, resolution=self._side)


def random_directions(channels: int, model: ModelConfig) -> NDArray[np.float32]:
    """Draw n_features orthogonal directions in all channels: (channels, n_features), by the model's seed.

    Notes
    -----
    Kim et al., *Semi-orthogonal embedding for efficient unsupervised anomaly segmentation*, 2021: they keep more of
    what a covariance says than as many channels do.
    """
    drawn = np.random.default_rng(model.seed).normal(size=(channels, model.n_features))
    return np.linalg.qr(drawn)[0].astype(np.float32)


def _reference(job: ViewJob) -> Reference | None:
    if job.preprocess.registration == "none":
        return None
    first = job.draws[0][0]
    picture, mask = _read(job.pictures, first)
    share, name = job.pictures.bottom_share, str(job.pictures.files[first])
    return make_reference(picture, config=job.preprocess, bottom_share=share, mask=mask, name=name)


def _read(pictures: ViewPictures, i: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    picture = read_picture(pictures.files[i])
    return picture, read_ignored(pictures.ignored[i], shape=picture.shape)
