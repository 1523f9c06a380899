"""How well an inspector tells good parts from defective ones that it has not seen."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detection.datasets import Dataset, Label, Part, sha256_of
from detection.decisions import part_statistic, reaches
from detection.errors import DatasetError, PictureError
from detection.geometry import Mask
from detection.inspector import Inspector, Progress
from detection.intervals import Estimate, rate
from detection.metrics import PAPER_STEP, ThresholdChoice, auroc, tnr_at_full_tpr
from detection.pictures import Image, decode_picture, read_bytes, read_ignored, read_mask
from detection.pixel_metrics import PixelCounts


@dataclass(frozen=True)
class PartScores:
    """What the model says of a part whose label is known.

    Attributes
    ----------
    part_id : str
    label : "good" or "defective"
    view_scores : mapping
        View → score, of the views that could be scored.
    statistic : float or None
        What the threshold is compared with; None where a view could not be scored.
    anomalous : bool
        Whether the statistic reaches the threshold.
    problems : tuple of str
        Why views could not be scored. Such a part is neither accepted nor rejected: on the line it is rechecked.
    """

    part_id: str
    label: Label
    view_scores: Mapping[str, float]
    statistic: float | None
    anomalous: bool
    problems: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether the model lets the part pass."""
        return not self.anomalous and not self.problems

    @property
    def rank(self) -> float:
        """The statistic, infinite for a part that is rechecked, which no threshold lets pass."""
        return math.inf if self.statistic is None else self.statistic


@dataclass(frozen=True)
class Evaluation:
    """Figures on parts that the models have not seen; None where one is not defined.

    Attributes
    ----------
    part_auroc, image_auroc, pixel_auroc : Estimate or None
        Areas under the ROC curves of part statistics, view scores and heatmap pixels.
    pro : Estimate or None
        Per-region overlap of the heatmaps with the defects, up to a false positive rate of 0.3.
    at_full_tpr : ThresholdChoice or None
        The exact highest threshold that finds every defective part, with its TNR; optimistic, see
        `tnr_at_full_tpr`.
    at_full_tpr_on_grid : ThresholdChoice or None
        The same among 0, 1, 2 and so on, as in the paper.
    threshold : float
        The model's own, frozen before this evaluation.
    tpr, tnr : Estimate or None
        At that threshold, with Clopper–Pearson intervals. A part that is rechecked counts as rejected here, and in
        the part AUROC and the choices of a threshold as above every other.
    parts : tuple of PartScores
        Every evaluated part.
    images_per_second : float
        From the picture in memory to its score.
    """

    part_auroc: Estimate | None
    image_auroc: Estimate | None
    pixel_auroc: Estimate | None
    pro: Estimate | None
    at_full_tpr: ThresholdChoice | None
    at_full_tpr_on_grid: ThresholdChoice | None
    threshold: float
    tpr: Estimate | None
    tnr: Estimate | None
    parts: tuple[PartScores, ...]
    images_per_second: float

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers, texts and lists, ready for `json.dumps`; None becomes null."""
        exact, grid = self.at_full_tpr, self.at_full_tpr_on_grid
        labels = [part.label for part in self.parts]
        estimates = {
            "part_auroc": self.part_auroc,
            "image_auroc": self.image_auroc,
            "pixel_auroc": self.pixel_auroc,
            "pro": self.pro,
            "tnr_at_full_tpr": exact.tnr if exact else None,
            "tnr_at_full_tpr_on_grid": grid.tnr if grid else None,
            "tpr": self.tpr,
            "tnr": self.tnr,
        }
        return {
            **{name: estimate.value if estimate else None for name, estimate in estimates.items()},
            **{
                f"{name}_interval": [estimate.low, estimate.high] if estimate else None
                for name, estimate in estimates.items()
            },
            "threshold_at_full_tpr": _finite(exact),
            "threshold_at_full_tpr_on_grid": _finite(grid),
            "threshold": self.threshold,
            "parts_good": labels.count("good"),
            "parts_defective": labels.count("defective"),
            "parts_recheck": sum(bool(part.problems) for part in self.parts),
            "images_per_second": self.images_per_second,
            "parts": [
                {
                    "part_id": part.part_id,
                    "label": part.label,
                    "statistic": part.statistic,
                    "anomalous": part.anomalous,
                    "problems": list(part.problems),
                    "view_scores": dict(part.view_scores),
                }
                for part in self.parts
            ],
        }


def evaluation_parts(dataset: Dataset, inspector: Inspector) -> tuple[Part, ...]:
    """Parts that an inspector can be judged by.

    Parameters
    ----------
    dataset : Dataset
        Any; a copy of the training dataset will do.
    inspector : Inspector
        Trained.

    Returns
    -------
    tuple of Part
        The test split where the dataset has one, else all labelled parts; without those of which the
        inspector has seen a picture (the file's SHA-256 is compared).

    Raises
    ------
    DatasetError
        When none is left, the views are not the inspector's, or only the dataset's pictures or only those that the
        inspector was trained on are masked.
    """
    if set(dataset.views) != set(inspector.views):
        raise DatasetError(
            f"{dataset.folder}: views are {list(dataset.views)}, the model's {list(inspector.views)}; use "
            "the dataset and the model of the same part"
        )
    if dataset.masked != inspector.info.masked:
        here, there = ("masked", "not") if dataset.masked else ("not masked", "are")
        raise DatasetError(
            f"{dataset.folder}: its pictures are {here}, those that the model was trained on {there}; use a dataset "
            "and a model of the same cell"
        )
    seen = {digest for part in inspector.info.trained_with for digest in part.sha256.values()}
    chosen = tuple(
        part
        for part in dataset.parts
        if part.label is not None
        and part.split != "train"
        and not any(sha256_of(read_bytes(path)) in seen for path in part.pictures.values())
    )
    if not chosen:
        raise DatasetError(
            f"{dataset.folder}: no labelled part that the model has not seen; collect more, or train with fewer"
        )
    return chosen


def evaluate(dataset: Dataset, inspector: Inspector, *, progress: Progress | None = None) -> Evaluation:
    """Score all unseen labelled parts, view by view, and count.

    Parameters
    ----------
    dataset : Dataset
        With labels.
    inspector : Inspector
        Trained for the dataset's views.
    progress : callable, optional
        Told what is being done.

    Returns
    -------
    Evaluation
        Figures on parts that the inspector has not seen. With one view a picture's label is its part's. With
        several it is whether the picture's visible-defect mask marks anything that is not masked (a good part's
        pictures are good), and the image AUROC is None where a defective part's picture has no mask file; likewise
        the pixel AUROC and PRO. A picture that cannot be scored (no outline, not registered, wholly masked) counts
        in none of these three; its part is rechecked.

    Raises
    ------
    DetectionError
        When the dataset or a file does not do, or no picture can be scored.
    """
    parts = evaluation_parts(dataset, inspector)
    scores: list[dict[str, float]] = [{} for _ in parts]
    problems: list[list[str]] = [[] for _ in parts]
    image_scores: list[float] = []
    image_labels: list[bool] = []
    image_parts: list[int] = []
    pixels = PixelCounts(len(parts))
    masks_known = all(path is not None for part in parts if part.label == "defective" for path in part.masks.values())
    seconds, done = 0.0, 0
    for view in dataset.views:
        for i, part in enumerate(parts):
            path = part.pictures[view]
            done += 1
            if progress is not None:
                progress(f"evaluate view {view}", done, len(parts) * len(dataset.views))
            picture = decode_picture(read_bytes(path), name=str(path))
            mask = read_ignored(part.ignored[view], shape=picture.shape)
            started = time.perf_counter()
            try:
                result = inspector.score_view(view, picture, mask=mask, name=str(path))
            except PictureError as error:
                problems[i].append(str(error))
                continue
            seconds += time.perf_counter() - started
            scores[i][view] = result.score
            image_scores.append(result.score)
            image_parts.append(i)
            truth = _visible_defects(part, view, picture)
            if mask is not None:
                truth &= ~mask
            one_view_label = part.label == "defective" and len(dataset.views) == 1
            image_labels.append(one_view_label or bool(truth.any()))
            if masks_known:
                pixels.add(result.heatmap, result.geometry.mask_to_grid(truth), result.valid, part=i)
    if not image_scores:
        raise DatasetError(f"{dataset.folder}: no picture can be scored; the first: {problems[0][0]}")
    k = inspector.info.config.vote.k
    judged = tuple(
        _judge(part, view_scores, why, k=k, threshold=inspector.threshold)
        for part, view_scores, why in zip(parts, scores, problems, strict=True)
    )
    good = [part.rank for part in judged if part.label == "good"]
    defective = [part.rank for part in judged if part.label == "defective"]
    images_labelled = masks_known or len(dataset.views) == 1
    return Evaluation(
        part_auroc=auroc(
            [part.rank for part in judged],
            [part.label == "defective" for part in judged],
            parts=range(len(judged)),
        ),
        image_auroc=auroc(image_scores, image_labels, parts=image_parts) if images_labelled else None,
        pixel_auroc=pixels.auroc(),
        pro=pixels.pro(),
        at_full_tpr=tnr_at_full_tpr(good, defective),
        at_full_tpr_on_grid=tnr_at_full_tpr(good, defective, step=PAPER_STEP),
        threshold=inspector.threshold,
        tpr=rate(sum(not part.accepted for part in judged if part.label == "defective"), len(defective)),
        tnr=rate(sum(part.accepted for part in judged if part.label == "good"), len(good)),
        parts=judged,
        images_per_second=len(image_scores) / seconds,
    )


def _judge(
    part: Part, view_scores: Mapping[str, float], problems: list[str], *, k: int, threshold: float
) -> PartScores:
    assert part.label is not None  # `evaluation_parts` leaves the others out
    statistic = None if problems else part_statistic(view_scores.values(), k=k)
    anomalous = statistic is not None and reaches(statistic, threshold)
    return PartScores(part.part_id, part.label, view_scores, statistic, anomalous, tuple(problems))


def _finite(choice: ThresholdChoice | None) -> float | None:
    """Return the threshold, or None where every defective part is rechecked, so that any would do."""
    return choice.threshold if choice is not None and math.isfinite(choice.threshold) else None


def _visible_defects(part: Part, view: str, picture: Image) -> Mask:
    path = part.masks[view]
    shape = picture.shape[0], picture.shape[1]
    if path is None or part.label == "good":
        return np.zeros(shape, dtype=np.bool_)
    return read_mask(path, shape=shape)
