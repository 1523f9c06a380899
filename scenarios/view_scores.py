"""What models trained with different parts say of every picture of one view; features are computed once for all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.backbones import Backbone, pretrained
from detection.config import ModelConfig, PreprocessConfig, ScoreConfig
from detection.decisions import image_score
from detection.errors import PictureError
from detection.gaussian import Gaussians
from detection.heatmap import STRIDE, heatmap_of, pixels_of, positions_of
from detection.padim import arithmetic_of, pick_channels, resolved
from detection.pictures import read_ignored, read_picture
from detection.preprocess import Reference, make_reference, prepare
from detection.training_state import no_moments

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
        By draw of training parts, way to score and picture; infinite where a picture cannot be scored.
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
    """

    pictures: ViewPictures
    preprocess: PreprocessConfig
    model: ModelConfig
    weights: Path | None
    draws: tuple[tuple[int, ...], ...]
    ways: tuple[ScoreConfig, ...]
    keep: tuple[int, ...]
    out: Path

    def run(self) -> None:
        """Write the scores, whole or not at all."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        found = score_view(self)
        half = self.out.with_suffix(".part")
        with half.open("wb") as file:
            np.savez(file, scores=found.scores, heatmaps=found.heatmaps, pictures=found.pictures)
        half.replace(self.out)

    def read(self) -> ViewScores:
        """Read what `run` wrote."""
        with np.load(self.out, allow_pickle=False) as arrays:
            return ViewScores(arrays["scores"], arrays["heatmaps"], arrays["pictures"])


def score_view(job: ViewJob) -> ViewScores:
    """Do a job, and return what it found.

    Notes
    -----
    A picture that cannot be prepared (no outline, not registered) trains nothing and scores infinitely: on the line its
    part is rechecked, and no threshold lets it pass.
    """
    model = resolved(job.model)
    grid = model.resolution // STRIDE
    scores = np.full((len(job.draws), len(job.ways), len(job.pictures.files)), np.inf, dtype=np.float32)
    heatmaps = np.zeros((len(job.keep), grid, grid), dtype=np.float16)
    pictures = np.zeros((len(job.keep), grid, grid, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory(dir=job.out.parent) as place:
        backbone = pretrained(model.backbone, weights=job.weights, arithmetic=arithmetic_of(model))
        features = _Features(job, model, backbone, Path(place) / "features", pictures)
        moments = no_moments(model)
        learned: tuple[int, ...] = ()
        for draw, trained in enumerate(job.draws):
            if trained[: len(learned)] != learned:
                moments, learned = no_moments(model), ()
            new, learned = trained[len(learned) :], trained
            moments.update_each((features.values[i], features.masked[i]) for i in new if i in features.valid)
            gaussians = Gaussians.from_moments(
                moments, epsilon=model.epsilon, precision=model.precision, keep_moments=True
            )
            for i, squared in features.squared_distances(gaussians):
                masked = features.masked[i]
                known = gaussians.scored if masked is None else gaussians.scored & ~masked
                heatmap = heatmap_of(squared, sigma=job.ways[0].smoothing_sigma, hidden=~known)
                valid = features.valid_pixels(i) & pixels_of(known)
                for way, config in enumerate(job.ways):
                    width, name = job.pictures.picture_width_mm, str(job.pictures.files[i])
                    scores[draw, way, i] = image_score(heatmap, valid, config=config, picture_width_mm=width, name=name)
                if draw == len(job.draws) - 1 and i in job.keep:
                    heatmaps[job.keep.index(i)] = np.where(valid, heatmap, 0)[::STRIDE, ::STRIDE]
    return ViewScores(scores, heatmaps, pictures)


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
        self._side = model.resolution
        shape = len(job.pictures.files), grid * grid, model.n_features
        self.values = np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
        self.masked: dict[int, NDArray[np.bool_] | None] = {}
        self.valid: dict[int, NDArray[np.uint8]] = {}
        channels = pick_channels(model)
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
            self.values[i] = backbone.features(prepared.image[np.newaxis], channels=channels)[0]
            self.masked[i] = None if prepared.masked is None else positions_of(prepared.masked)
            self.valid[i] = np.packbits(prepared.valid)
            if i in job.keep:
                kept[job.keep.index(i)] = cv2.resize(prepared.image, (grid, grid), interpolation=cv2.INTER_AREA)

    def squared_distances(self, gaussians: Gaussians) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield each picture that could be prepared, with its squared distances (P,)."""
        valid = list(self.valid)
        for first in range(0, len(valid), _BATCH):
            some = valid[first : first + _BATCH]
            yield from zip(some, gaussians.squared_distances(self.values[some]), strict=True)

    def valid_pixels(self, i: int) -> NDArray[np.bool_]:
        """Return which pixels (R, R) of picture i count."""
        return np.unpackbits(self.valid[i]).reshape(self._side, self._side).astype(np.bool_)


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
