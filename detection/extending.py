"""A candidate: a trained inspector that learns from more good parts, without the pictures of the earlier ones."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from detection.calibration import held_out_threshold
from detection.datasets import Part
from detection.decisions import part_statistic
from detection.description import DESCRIPTION_FILE, Extension, InspectorInfo, TrainedPart
from detection.errors import DatasetError, ModelError
from detection.gaussian import Gaussians
from detection.inspector import (
    Inspector,
    Progress,
    new_view_folder,
    read_view,
    write_description,
    write_view,
)
from detection.padim import BACKBONE_FILE, PaDiM, write_backbone
from detection.storage import new_folder, sha256_of_file
from detection.training_state import read_moments, require_moments
from detection.view_training import HeldOut, Learned, TrainingPictures, fit_and_hold_out, held_out_scores


def extend(
    model: Path,
    folder: Path,
    parts: Sequence[Part],
    *,
    confirmed_by: Mapping[str, str],
    made_by: str,
    progress: Progress | None = None,
) -> Inspector:
    """Train every view of an inspector on, with more good parts, and set the threshold anew.

    Parameters
    ----------
    model : Path
        Folder of an inspector that was trained with `keep_state`, or extended.
    folder : Path
        Where to save the candidate: new, empty, or an earlier model but this one, which is replaced.
    parts : sequence of Part
        Good parts that the inspector has not seen, with a picture of each of its views, and masks where it had some.
    confirmed_by : mapping
        By part, who confirmed that it is good.
    made_by : str
        Who wants the candidate.
    progress : callable, optional
        Told what is being done.

    Returns
    -------
    Inspector
        The candidate, which can be extended again; the model that it extends stays as it is.

    Raises
    ------
    DetectionError
        When the model keeps no training state or is damaged, a part or a picture does not do, or defective parts had
        set the threshold.

    Notes
    -----
    The models are, up to rounding, those that training with all parts at once would give: mean and covariance follow
    from the moments of all pictures, whenever they were seen. Only the layer that is measured, and the unit of its
    distances, stay those of the model that is extended.

    The threshold is that of `held_out_threshold` over all good parts that were held out from what scored them. A new
    part is scored by the models of all the others, earlier and new, exactly, or where one layer is measured by those
    of all but an eighth. Of an earlier part only the number is
    there that it had when it was new: by models without it, but of fewer parts, in which good parts are farther away.
    So the threshold errs to the high side where the earlier parts are many and the new ones change much. It is an
    estimate whatever set the threshold before: parts that a person chose to look at are not drawn like the next one,
    and no conformal guarantee outlives that.
    """
    inspector = Inspector.load(model, verify=True)
    info = inspector.info
    _refuse_what_will_fail(info, model, folder, parts)
    done, total = 0, len(parts) * len(info.views)

    def picture_done(view: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(f"extend view {view}", done, total)

    models: dict[str, PaDiM] = {}
    hashes: dict[str, list[str]] = {}
    fitted: list[tuple[TrainingPictures, Gaussians, HeldOut | None]] = []
    with new_folder(folder, marker=DESCRIPTION_FILE) as target:
        for view, before in inspector.models.items():
            pictures = TrainingPictures(
                [part.pictures[view] for part in parts],
                ignored=[part.ignored[view] for part in parts],
                config=info.config,
                model=before.config,
                backbone=before.backbone,
                bottom_share=info.bottom_share,
                picture_width_mm=info.picture_width_mm,
                any_size=info.frame_shapes[view] is None,
                reference=inspector.references.get(view),
                picture_read=partial(picture_done, view),
            )
            gaussians, looked_at = fit_and_hold_out(
                pictures,
                config=before.config,
                folder=target,
                earlier=Learned(before.gaussians, read_moments(_place(model, view), before.config, before.gaussians)),
                state=new_view_folder(target, view),
            )
            if info.frame_shapes[view] not in (None, pictures.frame_shape):
                raise DatasetError(
                    f"view {view}: the new pictures have {pictures.frame_shape} pixels, the model was trained with "
                    f"{info.frame_shapes[view]}; it cannot learn from another camera's"
                )
            extended = PaDiM.assemble(
                before.config,
                backbone=before.backbone,
                gaussians=gaussians,
                smoothing_sigma=before.smoothing_sigma,
                channels=before.channels,
            )
            write_view(target, view, extended, inspector.references.get(view))
            models[view] = read_view(target, view, before.backbone)
            hashes[view] = pictures.hashes
            fitted.append((pictures, gaussians, looked_at))
        scores = held_out_scores(fitted)
        added = tuple(
            TrainedPart(
                part_id=part.part_id,
                use="training",
                sha256={view: hashes[view][i] for view in info.views},
                held_out_statistic=part_statistic(scores[i], k=info.config.vote.k),
            )
            for i, part in enumerate(parts)
        )
        statistics = [
            part.held_out_statistic
            for part in (*info.trained_with, *added)
            if part.use in ("training", "calibration") and part.held_out_statistic is not None
        ]
        threshold = info.config.threshold.model_copy(update={"method": "held_out"})
        info = info.model_copy(
            update={
                "config": info.config.model_copy(update={"threshold": threshold}),
                "threshold": held_out_threshold(statistics, alpha=threshold.alpha),
                "guarantee": None,
                "trained_with": (*info.trained_with, *added),
                "extends": Extension(
                    parent=sha256_of_file(model / DESCRIPTION_FILE),
                    confirmed_by={part.part_id: confirmed_by[part.part_id] for part in parts},
                    made_by=made_by,
                ),
            }
        )
        write_backbone(target / BACKBONE_FILE, next(iter(models.values())).backbone)
        write_description(target, info)
    return Inspector(info, models, inspector.references)


def _refuse_what_will_fail(info: InspectorInfo, model: Path, folder: Path, parts: Sequence[Part]) -> None:
    if folder.resolve() == model.resolve():
        raise ModelError(f"{folder}: holds the model that is to be extended; give the candidate another folder")
    method = info.config.threshold.method
    if method in ("middle_of_means", "swept_grid"):
        raise ModelError(
            f"{model}: its threshold was set by defective parts ({method}), whose pictures the extended models would "
            "have to score; train again with the new parts in the dataset"
        )
    for view in info.views:
        require_moments(_place(model, view))
    if not parts:
        raise DatasetError(f"{model}: there is no part to extend it with; confirm good parts first")
    for part in parts:
        if any((part.ignored[view] is not None) != info.masked for view in info.views):
            raise DatasetError(
                f"part {part.part_id}: its pictures {'have no' if info.masked else 'have'} masks, unlike those that "
                "the model was trained with; use parts of this cell"
            )


def _place(model: Path, view: str) -> Path:
    return model / "views" / view
