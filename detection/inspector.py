"""A model for each view, one threshold, one verdict on the part."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.backbones import pretrained
from detection.calibration import held_out_threshold
from detection.config import DetectionConfig, ModelConfig
from detection.datasets import Dataset
from detection.decisions import image_score, part_statistic
from detection.description import DESCRIPTION_FILE, Decision, InspectorInfo, TrainedPart
from detection.errors import DecisionError, ModelError, PictureError
from detection.padim import BACKBONE_FILE, PaDiM, read_backbone, write_backbone
from detection.pictures import Image
from detection.preprocess import Geometry, Mask, prepare
from detection.storage import new_folder, sha256_of_file, write_json
from detection.training import TrainingPictures, fit_with_held_out_scores

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class ViewScore:
    """What one picture says.

    Attributes
    ----------
    view : str
        Name of the view.
    score : float
        To be compared with the threshold.
    heatmap : (R, R) float32
        Distances over the prepared picture.
    valid : (R, R) bool
        Pixels that counted.
    geometry : Geometry
        Where in the frame the heatmap lies.
    """

    view: str
    score: float
    heatmap: NDArray[np.float32]
    valid: Mask
    geometry: Geometry


@dataclass(frozen=True)
class Inspector:
    """Models of all views of a part, and how their scores become a verdict.

    Attributes
    ----------
    info : InspectorInfo
        Configuration, threshold, training record and what it was made for.
    models : mapping
        View → trained model; they share one backbone.
    """

    info: InspectorInfo
    models: Mapping[str, PaDiM]

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views that make a part complete, in order."""
        return self.info.views

    @property
    def threshold(self) -> float:
        """A score, or a part's statistic, is anomalous when it is ≥ this."""
        return self.info.threshold

    def score_view(self, view: str, image: Image, *, mask: Mask | None = None, name: str = "") -> ViewScore:
        """Score one picture.

        Parameters
        ----------
        view : str
            Which view it shows.
        image : (H, W, 3) uint8
            The camera's frame, RGB; of the size that the model was trained with.
        mask : (H, W) bool, optional
            True on pixels to ignore, such as the gripper's.
        name : str
            What to call the picture in an error; the view by default.

        Returns
        -------
        ViewScore
            Score and heatmap.

        Raises
        ------
        DecisionError
            When there is no model of this view.
        PictureError
            When the picture is unusable or of another size, or no pixel is valid.
        """
        if view not in self.models:
            raise DecisionError(f"view {view!r}: the model has {', '.join(self.views)}; use the model of this part")
        called = name or f"view {view}"
        expected = self.info.frame_shapes[view]
        if expected is not None and image.shape[:2] != expected:
            raise PictureError(
                f"{called}: {image.shape[:2]} pixels, the model was trained with {expected}; set the camera "
                "back or train again"
            )
        model, config = self.models[view], self.info.config
        prepared = prepare(
            image,
            resolution=model.config.resolution,
            config=config.preprocess,
            bottom_share=self.info.bottom_share,
            mask=mask,
            name=called,
        )
        heatmap = model.gaussians.heatmap(model.features(prepared.image), sigma=model.smoothing_sigma)
        score = image_score(
            heatmap,
            prepared.valid,
            config=config.score,
            picture_width_mm=self.info.picture_width_mm,
            name=called,
        )
        return ViewScore(view, score, heatmap, prepared.valid, prepared.geometry)

    def decide(self, scores: Mapping[str, float]) -> Decision:
        """Vote; see `InspectorInfo.decide`."""
        return self.info.decide(scores)

    @classmethod
    def train(
        cls,
        dataset: Dataset,
        *,
        config: DetectionConfig,
        model: ModelConfig,
        weights: Path | None = None,
        train_parts: int | None = None,
        progress: Progress | None = None,
    ) -> "Inspector":
        """Train a model for each view, one after the other, and set the threshold.

        Parameters
        ----------
        dataset : Dataset
            With at least 2 good parts. Photographs that are taken as they are (MVTec layout) are not cropped.
        config : DetectionConfig
            From frame to verdict. `vote.k` is lowered to the number of views where that is less.
        model : ModelConfig
            Of each view's model.
        weights : Path, optional
            The backbone's weights instead of the pretrained ones.
        train_parts : int, optional
            Use only the first so many good parts.
        progress : callable, optional
            Told what is being done.

        Returns
        -------
        Inspector
            Trained; not yet saved.

        Raises
        ------
        DetectionError
            When the dataset, a picture, the weights or the configuration do not do.
        """
        parts = dataset.training_parts(limit=train_parts)
        config = _fitting(config, dataset)
        backbone = pretrained(model.backbone, weights=weights)
        models: dict[str, PaDiM] = {}
        shapes: dict[str, tuple[int, int] | None] = {}
        view_scores: list[dict[str, float]] = [{} for _ in parts]
        hashes: list[dict[str, str]] = [{} for _ in parts]
        done = 0

        def picture_read(view: str) -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(f"train view {view}", done, len(parts) * len(dataset.views))

        for view in dataset.views:
            pictures = TrainingPictures(
                [part.pictures[view] for part in parts],
                ignored=[part.ignored[view] for part in parts],
                config=config,
                model=model,
                backbone=backbone,
                bottom_share=dataset.bottom_share,
                picture_width_mm=dataset.picture_width_mm,
                any_size=dataset.whole_pictures,
                picture_read=partial(picture_read, view),
            )
            gaussians, scores = fit_with_held_out_scores(pictures, config=model, sigma=config.score.smoothing_sigma)
            models[view] = PaDiM.assemble(
                model,
                backbone=backbone,
                gaussians=gaussians,
                smoothing_sigma=config.score.smoothing_sigma,
                channels=pictures.channels,
            )
            shapes[view] = None if dataset.whole_pictures else pictures.frame_shape
            for i, score in enumerate(scores):
                view_scores[i][view] = score
            for i, digest in enumerate(pictures.hashes):
                hashes[i][view] = digest
        statistics = [part_statistic(scores.values(), k=config.vote.k) for scores in view_scores if scores]
        info = InspectorInfo(
            config=config,
            backbone=model.backbone,
            frame_shapes=shapes,
            threshold=held_out_threshold(statistics, alpha=config.threshold.alpha),
            bottom_share=dataset.bottom_share,
            picture_width_mm=dataset.picture_width_mm,
            masked=dataset.masked,
            made_for=dict(dataset.made_for),
            files={},
            trained_with=tuple(
                TrainedPart(part_id=part.part_id, sha256=digests, held_out_statistic=statistic)
                for part, digests, statistic in zip_longest(parts, hashes, statistics)
            ),
        )
        return cls(info, models)

    def save(self, folder: str | Path) -> None:
        """Write `inspector.json`, the backbone once, and `views/<view>/` with each view's model.

        Parameters
        ----------
        folder : path
            New, empty, or an earlier inspector, which is replaced.

        Raises
        ------
        ModelError
            When the folder is something else or cannot be written; then nothing is left behind.
        """
        with new_folder(Path(folder), marker=DESCRIPTION_FILE) as target:
            write_backbone(target / BACKBONE_FILE, next(iter(self.models.values())).backbone)
            for view, model in self.models.items():
                place = target / "views" / view
                place.mkdir(parents=True)
                model.write_gaussians(place, model.gaussians)
            write_json(target / DESCRIPTION_FILE, self.info.model_copy(update={"files": _hashes(target)}))

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = False) -> "Inspector":
        """Read what `save` wrote.

        Parameters
        ----------
        folder : path
            Model folder.
        verify : bool
            Read every file whole and compare it with the hash that `save` noted; without, headers, shapes and
            sizes are checked, and tensors are read when they are used.

        Returns
        -------
        Inspector
            Ready to score.

        Raises
        ------
        ModelError
            When a file is missing, damaged or foreign.
        """
        place = Path(folder)
        info = InspectorInfo.load(place)
        if verify:
            found = _hashes(place)
            for name in sorted(found.keys() | info.files.keys()):
                if found.get(name) != info.files.get(name):
                    raise ModelError(
                        f"{place / name}: is not what was saved with this model; copy or train the model again"
                    )
        backbone = read_backbone(place / BACKBONE_FILE, info.backbone)
        models = {view: PaDiM.read_gaussians(place / "views" / view, backbone) for view in info.frame_shapes}
        return cls(info, models)


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a model but its description, by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / DESCRIPTION_FILE)
    return {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in files}


def _fitting(config: DetectionConfig, dataset: Dataset) -> DetectionConfig:
    """Adapt to what the dataset can give: no crop of whole pictures, not more votes than views."""
    vote = config.vote.model_copy(update={"k": min(config.vote.k, len(dataset.views))})
    preprocess = config.preprocess
    if dataset.whole_pictures:
        preprocess = preprocess.model_copy(update={"crop": "none"})
    return config.model_copy(update={"vote": vote, "preprocess": preprocess})
