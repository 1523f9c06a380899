"""A model for each view, one threshold, one verdict on the part."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.backbones import Backbone, pretrained
from detection.calibration import (
    calibration_parts_needed,
    cross_conformal_threshold,
    held_out_threshold,
    middle_of_means,
    share_of,
    split_conformal_threshold,
    swept_threshold,
)
from detection.config import DetectionConfig, ModelConfig
from detection.datasets import Dataset, Part, sha256_of
from detection.decisions import image_score, part_statistic
from detection.description import DESCRIPTION_FILE, Decision, Guarantee, InspectorInfo, PartUse, TrainedPart
from detection.errors import DatasetError, DecisionError, ModelError, PictureError
from detection.padim import BACKBONE_FILE, PaDiM, read_backbone, write_backbone
from detection.pictures import Image, decode_picture, read_bytes
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

        Notes
        -----
        Good parts that are held back for the threshold are drawn by `model.seed`. The models never learn from them
        later: what was calibrated are these models, not others of more parts.
        """
        good = dataset.training_parts(limit=train_parts)
        config = _fitting(config, dataset)
        trim = config.training.trim
        training, held_back = _split(good, config=config, model=model)
        wants_defective = config.threshold.method in ("middle_of_means", "swept_grid")
        defective = _defective_parts(dataset) if wants_defective else ()
        kept_count = len(training) - share_of(len(training), trim)
        passes = len(training) + (kept_count if trim else 0) + len(held_back) + len(defective)
        done = 0

        def picture_done(doing: str) -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(doing, done, passes * len(dataset.views))

        backbone = pretrained(model.backbone, weights=weights)
        fit = partial(_fit, dataset=dataset, config=config, model=model, backbone=backbone, picture_done=picture_done)
        trimmed: tuple[TrainedPart, ...] = ()
        if trim:
            # Only the statistics of the first pass are kept: at 1024² two sets of models would not fit in memory.
            kept, trimmed = _trim(fit(training)[2], keep=kept_count)
            training = tuple(part for part in training if part.part_id in kept)
        models, shapes, trained = fit(training)
        inspector = cls(
            InspectorInfo(
                config=config,
                backbone=model.backbone,
                frame_shapes=shapes,
                threshold=0.0,
                guarantee=None,
                bottom_share=dataset.bottom_share,
                picture_width_mm=dataset.picture_width_mm,
                made_for=dict(dataset.made_for),
                files={},
                trained_with=(),
            ),
            models,
        )
        score = partial(_score_unseen, inspector, picture_done=picture_done)
        calibrated = tuple(score(part, use="calibration") for part in held_back)
        anomalous = tuple(score(part, use="defective") for part in defective)
        threshold, guarantee = _threshold(config, trained=trained, calibrated=calibrated, anomalous=anomalous)
        record = {part.part_id: part for part in (*trained, *trimmed, *calibrated, *anomalous)}
        info = inspector.info.model_copy(
            update={
                "threshold": threshold,
                "guarantee": guarantee,
                "trained_with": tuple(record[part.part_id] for part in (*good, *defective)),
            }
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


def _split(
    parts: tuple[Part, ...], *, config: DetectionConfig, model: ModelConfig
) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Parts to train with, and parts to hold back; refuses too few before any picture is read."""
    method, alpha = config.threshold.method, config.threshold.alpha
    if method == "cross_conformal":
        if model.precision != "float32":
            raise ModelError(
                "threshold.method cross_conformal compares the final models with those that leave a part out, and "
                "rounding to bfloat16 would break the comparison; choose precision float32, or split_conformal"
            )
        needed = max(3, calibration_parts_needed(alpha))
        if len(parts) < needed:
            raise DatasetError(
                f"threshold.method cross_conformal with alpha {alpha:g} needs {needed} good parts, {len(parts)} are "
                "there; collect more, choose a larger alpha, or held_out, which guarantees nothing"
            )
    if method != "split_conformal":
        return parts, ()
    share, needed = config.threshold.calibration_share, calibration_parts_needed(alpha)
    count = share_of(len(parts), share)
    if count < needed or len(parts) - count < 2:
        raise DatasetError(
            f"threshold.method split_conformal with alpha {alpha:g} needs {needed} good parts held back and at least 2 "
            f"to train with; {len(parts)} are there, of which calibration_share {share:g} holds back {count}; collect "
            "more, choose a larger alpha, or cross_conformal, which trains with all of them"
        )
    held_back = set(np.random.default_rng(model.seed).permutation(len(parts))[:count].tolist())
    return (
        tuple(part for i, part in enumerate(parts) if i not in held_back),
        tuple(part for i, part in enumerate(parts) if i in held_back),
    )


def _defective_parts(dataset: Dataset) -> tuple[Part, ...]:
    """Parts that a person declared defective; a truth table must not help."""
    found = tuple(part for part in dataset.parts if part.declared == "defective")
    if not found:
        raise DatasetError(
            f"{dataset.folder}: no part is declared defective, and the threshold method needs some; declare them in "
            "parts.csv, or choose held_out, split_conformal or cross_conformal"
        )
    return found


def _fit(
    parts: Sequence[Part],
    *,
    dataset: Dataset,
    config: DetectionConfig,
    model: ModelConfig,
    backbone: Backbone,
    picture_done: Callable[[str], None],
) -> tuple[dict[str, PaDiM], dict[str, tuple[int, int] | None], tuple[TrainedPart, ...]]:
    """Train a model for each view: the models, their frames' shapes, and each part's held-out statistic."""
    models: dict[str, PaDiM] = {}
    shapes: dict[str, tuple[int, int] | None] = {}
    view_scores: list[dict[str, float]] = [{} for _ in parts]
    hashes: list[dict[str, str]] = [{} for _ in parts]
    for view in dataset.views:
        pictures = TrainingPictures(
            [part.pictures[view] for part in parts],
            config=config,
            model=model,
            backbone=backbone,
            bottom_share=dataset.bottom_share,
            picture_width_mm=dataset.picture_width_mm,
            any_size=dataset.whole_pictures,
            picture_read=partial(picture_done, f"train view {view}"),
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
    trained = tuple(
        TrainedPart(
            part_id=part.part_id,
            use="training",
            sha256=digests,
            held_out_statistic=part_statistic(scores.values(), k=config.vote.k) if scores else None,
        )
        for part, digests, scores in zip(parts, hashes, view_scores, strict=True)
    )
    return models, shapes, trained


def _trim(trained: tuple[TrainedPart, ...], *, keep: int) -> tuple[frozenset[str], tuple[TrainedPart, ...]]:
    """Names of the parts with the smallest held-out statistics, and the others.

    Whole parts, not pictures: a bad part is bad in several views, and a view that lost a picture would be held to
    another standard than the others.
    """
    if keep < 2 or len(trained) < 3:
        raise ModelError(
            f"training.trim leaves {keep} of {len(trained)} training parts, at least 2 are needed; trim less"
        )
    ranked = sorted(trained, key=_statistic)
    return (
        frozenset(part.part_id for part in ranked[:keep]),
        tuple(part.model_copy(update={"use": "trimmed"}) for part in ranked[keep:]),
    )


def _score_unseen(
    inspector: Inspector, part: Part, *, use: PartUse, picture_done: Callable[[str], None]
) -> TrainedPart:
    """Score a part that the models have not seen."""
    scores: dict[str, float] = {}
    hashes: dict[str, str] = {}
    for view in inspector.views:
        path = part.pictures[view]
        data = read_bytes(path)
        scores[view] = inspector.score_view(view, decode_picture(data, name=str(path)), name=str(path)).score
        hashes[view] = sha256_of(data)
        picture_done("set the threshold")
    statistic = part_statistic(scores.values(), k=inspector.info.config.vote.k)
    return TrainedPart(part_id=part.part_id, use=use, sha256=hashes, held_out_statistic=statistic)


def _threshold(
    config: DetectionConfig,
    *,
    trained: tuple[TrainedPart, ...],
    calibrated: tuple[TrainedPart, ...],
    anomalous: tuple[TrainedPart, ...],
) -> tuple[float, Guarantee | None]:
    """Set the threshold by the configured method, with what is guaranteed about it."""
    method, alpha = config.threshold.method, config.threshold.alpha
    held_out = [_statistic(part) for part in trained if part.held_out_statistic is not None]
    found = [_statistic(part) for part in anomalous]
    if method == "split_conformal":
        threshold = split_conformal_threshold([_statistic(part) for part in calibrated], alpha=alpha)
        return threshold, Guarantee(event="a good part is rejected", bound=alpha, parts=len(calibrated))
    if method == "cross_conformal":
        threshold = cross_conformal_threshold(held_out, alpha=alpha)
        return threshold, Guarantee(event="a good part is rejected", bound=alpha, parts=len(held_out))
    if method == "swept_grid":
        threshold = swept_threshold(found, step=config.threshold.grid_step)
        bound = 1 / (len(found) + 1)
        return threshold, Guarantee(event="a defective part is accepted", bound=bound, parts=len(found))
    if method == "middle_of_means":
        return middle_of_means(held_out, found), None
    return held_out_threshold(held_out, alpha=alpha), None


def _statistic(part: TrainedPart) -> float:
    assert part.held_out_statistic is not None
    return part.held_out_statistic


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
