"""Models that nothing changes any more, thresholds included, on parts that nobody has seen."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from distributed import Client
from numpy.typing import NDArray

from cell.commands.console import progress
from detection.calibration import held_out_threshold
from detection.config import DetectionConfig, ModelConfig
from detection.datasets import Dataset, Part
from detection.description import DESCRIPTION_FILE, InspectorInfo
from detection.errors import PictureError
from detection.inspector import Inspector
from detection.intervals import Estimate, rate
from detection.metrics import auroc, tnr_at_full_tpr
from detection.pictures import read_ignored, read_picture
from detection.training import train
from scenarios.material import Material
from scenarios.view_scores import vote_statistics
from scenarios.workers import run_jobs

_PARTS_A_JOB = 8


@dataclass(frozen=True)
class FrozenJob:
    """Score some parts with a model that nothing changes any more.

    Attributes
    ----------
    model : Path
        An inspector's folder.
    parts : tuple of Part
    out : Path
        A JSON list: for each part and view its score and the area over T; null where a view cannot be scored and the
        part is a recheck.
    """

    model: Path
    parts: tuple[Part, ...]
    out: Path

    def run(self) -> None:
        """Write the scores, whole or not at all."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        inspector = Inspector.load(self.model)
        half = self.out.with_suffix(".part")
        half.write_text(json.dumps([self._views(inspector, part) for part in self.parts]), encoding="utf-8")
        half.replace(self.out)

    def read(self) -> NDArray[np.float64]:
        """Return (n, V, 2): scores and areas in pixels; infinite for a recheck, which no threshold lets pass."""
        rows = json.loads(self.out.read_text(encoding="utf-8"))
        unscored = [math.inf, math.inf]
        return np.array([[unscored if view is None else view for view in row] for row in rows])

    def _views(self, inspector: Inspector, part: Part) -> list[tuple[float, int] | None]:
        views: list[tuple[float, int] | None] = []
        for view in inspector.views:
            picture = read_picture(part.pictures[view])
            mask = read_ignored(part.ignored[view], shape=picture.shape) if inspector.info.masked else None
            try:
                found = inspector.score_view(view, picture, mask=mask)
            except PictureError:
                views.append(None)
            else:
                views.append((found.score, largest_area_px(found.heatmap, found.valid, inspector.threshold)))
        return views


def largest_area_px(heatmap: NDArray[np.float32], valid: NDArray[np.bool_], threshold: float) -> int:
    """Area of the largest 8-connected piece of a heatmap's valid pixels that reach a threshold; 0 where none does."""
    over = ((heatmap >= threshold) & valid).astype(np.uint8)
    pieces, _, stats, _ = cv2.connectedComponentsWithStats(over, connectivity=8)
    return int(stats[1:, cv2.CC_STAT_AREA].max()) if pieces > 1 else 0


@dataclass(frozen=True)
class Configured:
    """What to train: a configuration and the model of each view, with the gripper's masks or without."""

    config: DetectionConfig
    model: ModelConfig
    masked: bool


@dataclass(frozen=True)
class Judged:
    """What a trained model says of parts.

    Attributes
    ----------
    threshold : float
        T.
    scores : (N, V) float64
        Of the parts' views; infinite where a picture could not be scored: no threshold lets it pass.
    areas_px : (N, V) float64
        Of the largest piece of each view's heatmap that reaches T, in pixels of the network's input.
    statistics : (N,) float64
        Of the parts: the k-th largest score; infinite where any picture could not be scored: the part is rechecked.
    held_out : tuple of float
        Statistics of the training parts, each by models that had not seen it.
    """

    threshold: float
    scores: NDArray[np.float64]
    areas_px: NDArray[np.float64]
    statistics: NDArray[np.float64]
    held_out: tuple[float, ...]

    def at(self, alpha: float) -> Judged:
        """Return the same with the T that the training parts give for another share of good parts to reject.

        Areas are not known for it, and NaN.
        """
        threshold, unknown = held_out_threshold(self.held_out, alpha=alpha), np.full_like(self.areas_px, np.nan)
        return replace(self, threshold=threshold, areas_px=unknown)


@dataclass(frozen=True)
class Frozen(Judged):
    """What a frozen configuration reached on fresh parts, with its threshold set from good development parts alone.

    Attributes
    ----------
    tpr, tnr : Estimate
        At this threshold. A recheck is counted as rejected.
    part_auroc, tnr_at_full_tpr : Estimate
    beyond : Estimate or None
        Share found of the defective parts whose defect fewer than k views show; they count in nothing else. A model may
        have a vote of its own.
    """

    tpr: Estimate
    tnr: Estimate
    part_auroc: Estimate
    tnr_at_full_tpr: Estimate
    beyond: Estimate | None


def frozen_of(judged: Judged, material: Material, *, k: int) -> Frozen:
    """Count what was judged rightly; there are good parts and defective ones that a vote of k can find.

    Parts that could not be inspected whole are counted as rejected, whatever the threshold.
    """
    statistics = judged.statistics
    lost = {of: np.full(sum(each.good == of for each in material.lost), np.inf) for of in (True, False)}
    good = np.append(statistics[[part.good for part in material.parts]], lost[True])
    bad = np.append(statistics[[not part.good and not part.beyond_vote(k) for part in material.parts]], lost[False])
    beyond = statistics[[part.beyond_vote(k) for part in material.parts]]
    choice, area = tnr_at_full_tpr(good, bad), part_auroc(good, bad)
    threshold = judged.threshold
    tpr, tnr = rate(int((bad >= threshold).sum()), len(bad)), rate(int((good < threshold).sum()), len(good))
    assert choice and tpr and tnr  # neither class is empty
    return Frozen(
        **vars(judged),
        tpr=tpr,
        tnr=tnr,
        part_auroc=area,
        tnr_at_full_tpr=choice.tnr,
        beyond=rate(int((beyond >= threshold).sum()), len(beyond)) if len(beyond) else None,
    )


def trained_and_judged(
    client: Client, configs: Mapping[str, Configured], material: Material, fresh: Material, folder: Path
) -> dict[str, Judged]:
    """Train each configuration with a material's good parts, and judge others; what is in the folder is kept."""
    good = tuple(studied.part for studied in material.parts if studied.good)
    models = {name: folder / name / "model" for name in configs}
    for name, config in configs.items():
        _train(replace(material.dataset, parts=good), config, models[name])
    return judged_by(client, models, fresh, folder)


def judged_by(client: Client, models: Mapping[str, Path], material: Material, folder: Path) -> dict[str, Judged]:
    """Score a material's parts once with each of some trained models; scores that are in the folder are kept."""
    parts = [studied.part for studied in material.parts]
    groups = [tuple(parts[i : i + _PARTS_A_JOB]) for i in range(0, len(parts), _PARTS_A_JOB)]
    jobs = {
        name: [FrozenJob(model, group, folder / name / f"{i:04}.json") for i, group in enumerate(groups)]
        for name, model in models.items()
    }
    run_jobs(client, [job for some in jobs.values() for job in some], doing="parts are scored")
    found = {}
    for name, some in jobs.items():
        info = InspectorInfo.load(models[name])
        views = np.concatenate([job.read() for job in some])
        scores, areas = views[..., 0], views[..., 1]
        statistics = vote_statistics(scores.T, k=info.config.vote.k)
        held_out = (part.held_out_statistic for part in info.trained_with if part.use == "training")
        known = tuple(value for value in held_out if value is not None)
        found[name] = Judged(info.threshold, scores, areas, statistics, known)
    return found


def part_auroc(good: NDArray[np.float64], bad: NDArray[np.float64]) -> Estimate:
    """Return the AUROC of parts' statistics, of which there are some of both."""
    judged = np.concatenate([good, bad])
    area = auroc(judged, np.arange(len(judged)) >= len(good), parts=range(len(judged)))
    assert area
    return area


def _train(dataset: Dataset, what: Configured, folder: Path) -> None:
    if (folder / DESCRIPTION_FILE).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    if not what.masked:
        bare = (replace(part, ignored=dict.fromkeys(part.ignored)) for part in dataset.parts)
        dataset = replace(dataset, parts=tuple(bare))
    with progress("models are trained", None) as report:
        train(
            dataset,
            folder,
            config=what.config,
            model=what.model,
            progress=lambda doing, done, total: report(done, doing, total),
        )
