"""Models that nothing changes any more, thresholds included, on parts that nobody has seen."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from cell.commands.console import progress
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
        The parts' view scores, a JSON list; null where a view cannot be scored and the part is a recheck.
    """

    model: Path
    parts: tuple[Part, ...]
    out: Path

    def run(self) -> None:
        """Write the scores, whole or not at all."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        inspector = Inspector.load(self.model)
        half = self.out.with_suffix(".part")
        half.write_text(json.dumps([self._scores(inspector, part) for part in self.parts]), encoding="utf-8")
        half.replace(self.out)

    def read(self) -> NDArray[np.float64]:
        """Return the view scores (n, V), infinite for a recheck: no threshold lets it pass."""
        rows = json.loads(self.out.read_text(encoding="utf-8"))
        return np.array([[math.inf if score is None else score for score in row] for row in rows])

    def _scores(self, inspector: Inspector, part: Part) -> list[float | None]:
        scores: list[float | None] = []
        for view in inspector.views:
            picture = read_picture(part.pictures[view])
            mask = read_ignored(part.ignored[view], shape=picture.shape) if inspector.info.masked else None
            try:
                scores.append(inspector.score_view(view, picture, mask=mask).score)
            except PictureError:
                scores.append(None)
        return scores


@dataclass(frozen=True)
class Configured:
    """What to train: a configuration and the model of each view, with the gripper's masks or without."""

    config: DetectionConfig
    model: ModelConfig
    masked: bool


@dataclass(frozen=True)
class Frozen:
    """What a frozen configuration reached on fresh parts.

    Attributes
    ----------
    threshold : float
        Set from good development parts alone.
    tpr, tnr : Estimate
        At this threshold. A recheck is counted as rejected.
    part_auroc, tnr_at_full_tpr : Estimate
    beyond : Estimate or None
        Share found of the defective parts whose defect fewer than k views show; they count in nothing else.
    statistics : (N,) float64
        Of all parts.
    """

    threshold: float
    tpr: Estimate
    tnr: Estimate
    part_auroc: Estimate
    tnr_at_full_tpr: Estimate
    beyond: Estimate | None
    statistics: NDArray[np.float64]


def frozen_of(info: InspectorInfo, scores: NDArray[np.float64], material: Material) -> Frozen:
    """Vote and count."""
    k = info.config.vote.k
    statistics = np.sort(scores, axis=1)[:, -k]
    good = statistics[[part.good for part in material.parts]]
    bad = statistics[[not part.good and not part.beyond_vote(k) for part in material.parts]]
    beyond = statistics[[part.beyond_vote(k) for part in material.parts]]
    choice, area = tnr_at_full_tpr(good, bad), part_auroc(good, bad)
    tpr, tnr = rate(int((bad >= info.threshold).sum()), len(bad)), rate(int((good < info.threshold).sum()), len(good))
    assert choice and tpr and tnr  # neither class is empty
    return Frozen(
        threshold=info.threshold,
        tpr=tpr,
        tnr=tnr,
        part_auroc=area,
        tnr_at_full_tpr=choice.tnr,
        beyond=rate(int((beyond >= info.threshold).sum()), len(beyond)) if len(beyond) else None,
        statistics=statistics,
    )


def frozen_run(
    client: Client,
    configs: Mapping[str, Configured],
    material: Material,
    fresh: Material,
    folder: Path,
) -> dict[str, Frozen]:
    """Train each configuration with all good development parts, and score the fresh parts once."""
    good = tuple(studied.part for studied in material.parts if studied.good)
    jobs: dict[str, list[FrozenJob]] = {}
    for name, config in configs.items():
        place = folder / name / "model"
        _train(replace(material.dataset, parts=good), config, place)
        parts = [studied.part for studied in fresh.parts]
        groups = [tuple(parts[i : i + _PARTS_A_JOB]) for i in range(0, len(parts), _PARTS_A_JOB)]
        jobs[name] = [FrozenJob(place, group, folder / name / f"{i:04}.json") for i, group in enumerate(groups)]
    run_jobs(client, [job for some in jobs.values() for job in some], doing="fresh parts are scored")
    found = {}
    for name, some in jobs.items():
        scores = np.concatenate([job.read() for job in some])
        found[name] = frozen_of(InspectorInfo.load(folder / name / "model"), scores, fresh)
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
