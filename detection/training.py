"""Training of all views, and the threshold of the part."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numba
import numpy as np
import torch

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
from detection.decisions import part_statistic
from detection.description import DESCRIPTION_FILE, Guarantee, InspectorInfo, PartUse, TrainedPart
from detection.errors import DatasetError, ModelError
from detection.inspector import (
    Inspector,
    Progress,
    new_view_folder,
    read_view,
    write_description,
    write_view,
)
from detection.padim import BACKBONE_FILE, PaDiM, arithmetic_of, resolved, write_backbone
from detection.pictures import decode_picture, read_bytes, read_ignored, read_picture
from detection.preprocess import Reference, make_reference
from detection.storage import new_folder
from detection.training_state import training_bytes
from detection.view_training import HeldOut, TrainingPictures, fit_and_hold_out, held_out_scores

_MOMENTS_BYTES = 2 << 30  # of views that are trained at the same time


def train(
    dataset: Dataset,
    folder: Path | None = None,
    *,
    config: DetectionConfig,
    model: ModelConfig,
    weights: Path | None = None,
    train_parts: int | None = None,
    keep_state: bool = False,
    progress: Progress | None = None,
) -> Inspector:
    """Train a model for each view and set the threshold.

    Parameters
    ----------
    dataset : Dataset
        With at least 2 good parts. Photographs that are taken as they are (MVTec layout) are neither cropped nor
        registered.
    folder : Path, optional
        Where to save it: new, empty, or an earlier inspector, which is replaced. Views are written as they are
        trained and mapped from there, so that all of them never have to fit in memory. Without it nothing is saved.
    config : DetectionConfig
        From frame to verdict. `vote.k` is lowered to the number of views where that is less.
    model : ModelConfig
        Of each view's model.
    weights : Path, optional
        The backbone's weights instead of the pretrained ones.
    train_parts : int, optional
        Use only the first so many good parts.
    keep_state : bool
        Keep in the folder, too, what `detection.extend` continues from: about as much again as the models,
        or three times as much where one layer is measured.
    progress : callable, optional
        Told what is being done.

    Returns
    -------
    Inspector
        Trained.

    Raises
    ------
    DetectionError
        When the dataset, a picture, the weights or the configuration do not do.

    Notes
    -----
    The same seed gives the same files on one machine with the same number of threads: how many there are decides in
    which order the network adds.
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
    _refuse_what_will_fail(config, dataset, training=len(training), kept=kept_count)
    passes = len(training) + (kept_count if trim else 0) + len(held_back) + len(defective)
    done = 0
    counting = threading.Lock()

    def picture_done(doing: str) -> None:
        nonlocal done
        with counting:
            done += 1
            if progress is not None:
                progress(doing, done, passes * len(dataset.views))

    model = resolved(model)
    backbone = pretrained(model.backbone, weights=weights, arithmetic=arithmetic_of(model))
    with nullcontext() if folder is None else new_folder(folder, marker=DESCRIPTION_FILE) as target:
        fit = _Fit(dataset, config, model, backbone, target, keep_state, picture_done)
        trimmed: tuple[TrainedPart, ...] = ()
        if trim:
            kept, trimmed = _trim(fit.run(training, None).trained, keep=kept_count)
            training = tuple(part for part in training if part.part_id in kept)
        fitted = fit.run(training, target)
        info = InspectorInfo(
            config=config,
            backbone=model.backbone,
            network=arithmetic_of(model),
            frame_shapes=fitted.frame_shapes,
            threshold=0.0,
            guarantee=None,
            bottom_share=dataset.bottom_share,
            picture_width_mm=dataset.picture_width_mm,
            masked=dataset.masked,
            made_for=dict(dataset.made_for),
            files={},
            trained_with=(),
        )
        inspector = Inspector(info, fitted.models, fitted.references)
        score = partial(_score_unseen, inspector, picture_done=picture_done)
        calibrated = tuple(score(part, use="calibration") for part in held_back)
        anomalous = tuple(score(part, use="defective") for part in defective)
        threshold, guarantee = _threshold(config, trained=fitted.trained, calibrated=calibrated, anomalous=anomalous)
        record = {part.part_id: part for part in (*fitted.trained, *trimmed, *calibrated, *anomalous)}
        info = info.model_copy(
            update={
                "threshold": threshold,
                "guarantee": guarantee,
                "trained_with": tuple(record[part.part_id] for part in (*good, *defective)),
            }
        )
        if target is not None:
            write_backbone(target / BACKBONE_FILE, backbone)
            write_description(target, info)
    return replace(inspector, info=info)


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
        if any(path is not None for part in parts for path in part.ignored.values()):
            raise DatasetError(
                "threshold.method cross_conformal needs pictures without masks: which positions are scored would "
                "depend on the part that is left out; choose split_conformal"
            )
        needed = max(3, calibration_parts_needed(alpha) + _references(config))
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
            "more, choose a larger alpha, or with distance.covariance position cross_conformal, which trains with all"
        )
    held_back = set(np.random.default_rng(model.seed).permutation(len(parts))[:count].tolist())
    return (
        tuple(part for i, part in enumerate(parts) if i not in held_back),
        tuple(part for i, part in enumerate(parts) if i in held_back),
    )


def _refuse_what_will_fail(config: DetectionConfig, dataset: Dataset, *, training: int, kept: int) -> None:
    """Refuse before any picture is read what could only fail after all of them."""
    if config.score.method == "cluster" and dataset.picture_width_mm is None:
        raise DatasetError(
            f"{dataset.folder}: score.method cluster needs picture_width_mm in dataset.json; add it, or choose max"
        )
    if kept < training and (kept < 2 or training < 3):
        raise ModelError(f"training.trim leaves {kept} of {training} training parts, at least 2 are needed; trim less")
    if config.threshold.method == "middle_of_means" and kept < 3:
        raise ModelError(
            f"threshold.method middle_of_means needs 3 good parts, of which each is scored by models of the others; "
            f"{kept} are there: collect more"
        )


def _references(config: DetectionConfig) -> int:
    """Return how many training parts, the first ones, have pictures that the others are registered to."""
    return 0 if config.preprocess.registration == "none" else 1


def _defective_parts(dataset: Dataset) -> tuple[Part, ...]:
    """Parts that a person declared defective; a truth table must not help."""
    found = tuple(part for part in dataset.parts if part.declared == "defective")
    if not found:
        raise DatasetError(
            f"{dataset.folder}: no part is declared defective, and the threshold method needs some; declare them in "
            "parts.csv, or choose held_out, split_conformal or, with distance.covariance position, cross_conformal"
        )
    return found


@dataclass(frozen=True)
class _Fit:
    """What is the same for every view and every pass of a training."""

    dataset: Dataset
    config: DetectionConfig
    model: ModelConfig
    backbone: Backbone
    spool: Path | None
    keep_state: bool
    picture_done: Callable[[str], None]

    def run(self, parts: Sequence[Part], folder: Path | None) -> "_Fitted":
        """Train a model for each view.

        As many views at a time as there are processors and room for their moments; each has its share of threads.
        """
        views = self.dataset.views
        cores = len(os.sched_getaffinity(0))
        room = _MOMENTS_BYTES // training_bytes(self.model, self.config.distance.covariance)
        at_once = max(1, min(cores, len(views), room))
        numba.get_num_threads()  # starts Numba's threads; later, that would undo what a thread has set for torch
        threads = torch.get_num_threads()
        share = partial(torch.set_num_threads, max(1, threads // at_once))
        with ThreadPoolExecutor(at_once, initializer=share) as pool:
            try:
                fitted = list(pool.map(lambda view: self._view(view, parts, folder), views))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                torch.set_num_threads(threads)
        scores = held_out_scores([(one.pictures, one.model.gaussians, one.held_out) for one in fitted])
        trained = tuple(
            TrainedPart(
                part_id=part.part_id,
                use="training",
                sha256={view: one.pictures.hashes[i] for view, one in zip(views, fitted, strict=True)},
                held_out_statistic=part_statistic(scores[i], k=self.config.vote.k) if scores else None,
            )
            for i, part in enumerate(parts)
        )
        by_view = dict(zip(views, fitted, strict=True))
        return _Fitted(
            models={view: one.model for view, one in by_view.items()},
            references={view: one.reference for view, one in by_view.items() if one.reference is not None},
            frame_shapes={
                view: None if self.dataset.whole_pictures else one.pictures.frame_shape for view, one in by_view.items()
            },
            trained=trained,
        )

    def _view(self, view: str, parts: Sequence[Part], folder: Path | None) -> "_FittedView":
        dataset, config = self.dataset, self.config
        reference = None
        if config.preprocess.registration != "none":
            first = parts[0].pictures[view]
            picture = read_picture(first)
            reference = make_reference(
                picture,
                config=config.preprocess,
                bottom_share=dataset.bottom_share,
                mask=read_ignored(parts[0].ignored[view], shape=picture.shape),
                name=str(first),
            )
        pictures = TrainingPictures(
            [part.pictures[view] for part in parts],
            ignored=[part.ignored[view] for part in parts],
            config=config,
            model=self.model,
            backbone=self.backbone,
            bottom_share=dataset.bottom_share,
            picture_width_mm=dataset.picture_width_mm,
            any_size=dataset.whole_pictures,
            reference=reference,
            picture_read=partial(self.picture_done, f"train view {view}"),
        )
        gaussians, held_out = fit_and_hold_out(
            pictures,
            config=self.model,
            folder=self.spool,
            state=None if folder is None or not self.keep_state else new_view_folder(folder, view),
        )
        model = PaDiM.assemble(
            self.model,
            backbone=self.backbone,
            gaussians=gaussians,
            smoothing_sigma=config.score.smoothing_sigma,
            channels=pictures.channels,
        )
        if folder is not None:
            write_view(folder, view, model, reference)
            model = read_view(folder, view, self.backbone)
        return _FittedView(model, reference, pictures, held_out)


@dataclass(frozen=True)
class _Fitted:
    """All views' models, and what each part would have scored had it not been trained on."""

    models: dict[str, PaDiM]
    references: dict[str, Reference]
    frame_shapes: dict[str, tuple[int, int] | None]
    trained: tuple[TrainedPart, ...]


@dataclass(frozen=True)
class _FittedView:
    model: PaDiM
    reference: Reference | None
    pictures: TrainingPictures
    held_out: HeldOut | None


def _trim(trained: tuple[TrainedPart, ...], *, keep: int) -> tuple[frozenset[str], tuple[TrainedPart, ...]]:
    """Names of the parts with the smallest held-out statistics, and the others.

    Whole parts, not pictures: a bad part is bad in several views, and a view that lost a picture would be held to
    another standard than the others.
    """
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
        picture = decode_picture(data, name=str(path))
        mask = read_ignored(part.ignored[view], shape=picture.shape)
        scores[view] = inspector.score_view(view, picture, mask=mask, name=str(path)).score
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
        compared = held_out[_references(config) :]
        threshold = cross_conformal_threshold(compared, trained_with=len(held_out), alpha=alpha)
        return threshold, Guarantee(event="a good part is rejected", bound=alpha, parts=len(compared))
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


def _fitting(config: DetectionConfig, dataset: Dataset) -> DetectionConfig:
    """Adapt to what the dataset can give: whole pictures as they are, not more votes than views."""
    vote = config.vote.model_copy(update={"k": min(config.vote.k, len(dataset.views))})
    preprocess = config.preprocess
    if dataset.whole_pictures:
        preprocess = preprocess.model_copy(update={"crop": "none", "registration": "none"})
    return config.model_copy(update={"vote": vote, "preprocess": preprocess})
