"""What models trained with different parts say of every picture of one view; features are computed once for all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.backbones import Backbone, pretrained, total_channels
from detection.config import DistanceConfig, ModelConfig, PreprocessConfig, ScoreConfig
from detection.decisions import image_score
from detection.errors import PictureError
from detection.gaussian import Gaussians
from detection.heatmap import STRIDE, heatmap_of, pixels_of, positions_of
from detection.moments import Moments
from detection.nuisances import novelty, peaks_of
from detection.padim import arithmetic_of, pick_channels, resolved
from detection.pictures import read_ignored, read_picture
from detection.preprocess import Reference, make_reference, prepare
from detection.shared import SharedGaussians, SharedMoments, leave_one_out
from detection.training_state import gaussians_of, no_moments
from scenarios.alternatives import Alternative, AlternativeName, MemoryBank
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
        By draw of training parts, way to score and picture; infinite where a picture cannot be scored. Not yet with
        known nuisances: those are learned from all views.
    heights : (D, N, M) float32
        Of the highest peaks of each picture's heatmap, 0 where there are fewer; a training picture as a model of the
        others sees it. M is 0 where no nuisances are remembered.
    directions : (D, N, M, d) float16
        Of these peaks; see `detection.nuisances`.
    heatmaps : (K, g, g) float16
        Of the pictures that were to be kept, by the last draw's model, a quarter as wide as the network's input.
    pictures : (K, g, g, 3) uint8
        The same pictures as the network saw them, as wide.
    """

    scores: NDArray[np.float32]
    heights: NDArray[np.float32]
    directions: NDArray[np.float16]
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
    A picture that cannot be prepared (no outline, not registered) trains nothing and scores infinitely: on the line its
    part is rechecked, and no threshold lets it pass.
    """
    model = resolved(job.model)
    grid = model.resolution // STRIDE
    count = len(job.pictures.files)
    scores = np.full((len(job.draws), len(job.ways), count), np.inf, dtype=np.float32)
    peaks_shape = len(job.draws), count, job.distance.nuisances if job.distance.remembers_peaks else 0
    heights = np.zeros(peaks_shape, dtype=np.float32)
    directions = np.zeros((*peaks_shape, model.n_features), dtype=np.float16)
    heatmaps = np.zeros((len(job.keep), grid, grid), dtype=np.float16)
    pictures = np.zeros((len(job.keep), grid, grid, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory(dir=job.out.parent) as place:
        backbone = pretrained(model.backbone, weights=job.weights, arithmetic=arithmetic_of(model))
        features = _Features(job, model, backbone, Path(place) / "features", pictures)
        moments = no_moments(model, job.distance.covariance)
        learned: tuple[int, ...] = ()
        for draw, trained in enumerate(job.draws):
            if trained[: len(learned)] != learned:
                moments, learned = no_moments(model, job.distance.covariance), ()
            new, learned = trained[len(learned) :], trained
            measured: Iterator[tuple[int, Gaussians | Alternative, NDArray[np.float32]]]
            if job.alternative is None:
                moments.update_each((features.values[i], features.masked[i]) for i in new if i in features.valid)
                measured = features.distances(moments, trained)
            else:
                measured = features.alternative_distances(job.alternative, trained)
            for i, gaussians, squared in measured:
                masked = features.masked[i]
                hidden = ~gaussians.scored if masked is None else ~gaussians.scored | masked
                heatmap = heatmap_of(squared, sigma=job.ways[0].smoothing_sigma, hidden=hidden)
                valid = features.valid_pixels(i) & pixels_of(~hidden)
                for way, config in enumerate(job.ways):
                    width, name = job.pictures.picture_width_mm, str(job.pictures.files[i])
                    scores[draw, way, i] = image_score(heatmap, valid, config=config, picture_width_mm=width, name=name)
                if draw == len(job.draws) - 1 and i in job.keep:
                    heatmaps[job.keep.index(i)] = np.where(valid, heatmap, 0)[::STRIDE, ::STRIDE]
                if job.distance.remembers_peaks and isinstance(gaussians, SharedGaussians):
                    peaks = peaks_of(
                        heatmap, valid, features.values[i], gaussians, hidden=hidden, count=job.distance.nuisances
                    )
                    heights[draw, i, : len(peaks.heights)] = peaks.heights
                    directions[draw, i, : len(peaks.heights)] = peaks.directions
    return ViewScores(scores, heights, directions, heatmaps, pictures)


def scores_with_nuisances(views: Sequence[ViewScores], draw: int, trained: Sequence[int]) -> NDArray[np.float32]:
    """Return the views' scores (V, N) of a draw when the nuisances that its training parts show are known.

    A training part is scored by what the others show. Where no nuisances are remembered, the scores stay as they are;
    where they are, a score is the highest pixel of what is left.
    """
    scores = np.stack([view.scores[draw, 0] for view in views])
    if not views[0].heights.shape[2]:
        return scores
    shown = {i: np.concatenate([view.directions[draw, i] for view in views]).astype(np.float32) for i in trained}
    for one, view in zip(scores, views, strict=True):
        for i in np.flatnonzero(np.isfinite(one)).tolist():
            known = [some for part, some in shown.items() if part != i]
            factors = novelty(view.directions[draw, i].astype(np.float32), known)
            one[i] = (view.heights[draw, i] * factors).max()
    return scores


class _Features:
    """Features of all of a job's pictures, in a file, and which of their pixels count.

    Attributes
    ----------
    values : (N, P, d) float32
        Of each picture that could be prepared.
    valid : mapping
        Picture → its packed valid pixels; only of pictures that could be prepared.
    masked : mapping
        Picture → grid positions (P,) bool that it does not show, or None.
    """

    def __init__(
        self, job: ViewJob, model: ModelConfig, backbone: Backbone, file: Path, kept: NDArray[np.uint8]
    ) -> None:
        grid = model.resolution // STRIDE
        self._model, self._side = model, model.resolution
        shape = len(job.pictures.files), grid * grid, model.n_features
        self.values = np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
        self.masked: dict[int, NDArray[np.bool_] | None] = {}
        self.valid: dict[int, NDArray[np.uint8]] = {}
        directions = random_directions(total_channels(model.backbone), model) if job.projected else None
        channels = pick_channels(model) if directions is None else np.arange(len(directions))
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
            found = backbone.features(prepared.image[np.newaxis], channels=channels)[0]
            self.values[i] = found if directions is None else found @ directions
            self.masked[i] = None if prepared.masked is None else positions_of(prepared.masked)
            self.valid[i] = np.packbits(prepared.valid)
            if i in job.keep:
                kept[job.keep.index(i)] = cv2.resize(prepared.image, (grid, grid), interpolation=cv2.INTER_AREA)

    def distances(
        self, moments: Moments | SharedMoments, trained: Sequence[int]
    ) -> Iterator[tuple[int, Gaussians, NDArray[np.float32]]]:
        """Yield each picture that could be prepared, with what it is measured by, and its squared distances (P,).

        With one covariance for all positions, a training picture is measured by what the others taught.
        """
        gaussians = gaussians_of(moments, self._model, keep_moments=True)
        valid = list(self.valid)
        for first in range(0, len(valid), _BATCH):
            some = valid[first : first + _BATCH]
            known = [] if isinstance(moments, Moments) else [i for i in some if i in trained]
            new = [i for i in some if i not in known]
            for i, squared in zip(new, gaussians.squared_distances(self.values[new]), strict=True):
                yield i, gaussians, squared
            for i in known:
                assert isinstance(moments, SharedMoments)
                others = leave_one_out(moments, self.values[i], epsilon=self._model.epsilon, masked=self.masked[i])
                yield i, others, others.squared_distances(self.values[i : i + 1])[0]

    def alternative_distances(
        self, name: AlternativeName, trained: Sequence[int]
    ) -> Iterator[tuple[int, Alternative, NDArray[np.float32]]]:
        """Yield the same by an alternative; a memory bank measures a training picture by what the others taught."""
        known = [i for i in trained if i in self.valid]
        values, masked = [self.values[i] for i in known], [self.masked[i] for i in known]
        found = learned_alternative(name, values, masked, epsilon=self._model.epsilon, seed=self._model.seed)
        for i in self.valid:
            if isinstance(found, MemoryBank) and i in known:
                yield i, found, found.squared_distances_without(known.index(i), self.values[i])
            else:
                yield i, found, found.squared_distances(self.values[i])

    def valid_pixels(self, i: int) -> NDArray[np.bool_]:
        """Return which pixels (R, R) of picture i count."""
        return np.unpackbits(self.valid[i]).reshape(self._side, self._side).astype(np.bool_)


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
