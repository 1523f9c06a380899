"""Pipelines to compare: the published one, each change of it alone, and together, on parts that did not train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from detection.config import DetectionConfig, ModelConfig, PreprocessConfig, TrainingConfig
from detection.errors import DatasetError
from detection.intervals import Estimate
from detection.metrics import tnr_at_full_tpr
from scenarios.alternatives import AlternativeName
from scenarios.frozen import Configured, part_auroc, trained_and_judged
from scenarios.material import Material
from scenarios.view_scores import ViewJob, vote_statistics


@dataclass(frozen=True)
class Variant:
    """A pipeline to compare.

    Attributes
    ----------
    name : str
        What is changed.
    config : DetectionConfig
        From frame to verdict.
    model : ModelConfig
        Of each view.
    masked : bool
        Whether the gripper is masked.
    standardised : bool
        Whether each view's scores are divided by their median over the training parts, by models of the others.
    projected : bool
    alternative : str, optional
        See `ViewJob`.
    combined : str, optional
        Another variant of the same list: scores are the mean of both, standardised.
    """

    name: str
    config: DetectionConfig
    model: ModelConfig
    masked: bool = False
    standardised: bool = False
    projected: bool = False
    alternative: AlternativeName | None = None
    combined: str | None = None


TRIMMED = "improved, trimmed training"
_TRIM = 0.05


def variants_of(faithful: DetectionConfig, improved: DetectionConfig, size: Literal[256, 512]) -> list[Variant]:
    """Return the published pipeline, each change of it alone, and all together."""
    model = ModelConfig(resolution=size)
    larger = model.model_copy(update={"resolution": 2 * size})

    def changed(**sections: Any) -> DetectionConfig:
        return faithful.model_copy(update=sections)

    registered = PreprocessConfig.model_validate({**faithful.preprocess.model_dump(), "registration": "ecc"})
    bank, bigger = "registration and mask, memory bank", f"improved, {2 * size}²"
    return [
        Variant("faithful", faithful, model),
        Variant("highest pixel", changed(score=improved.score), model),
        Variant("registration", changed(preprocess=registered), model),
        Variant("gripper mask", faithful, model, masked=True),
        Variant("registration and mask", changed(preprocess=registered), model, masked=True),
        Variant("ε 1 on the diagonal", faithful, model.model_copy(update={"epsilon": 1.0})),
        Variant("covariances shrunk after Ledoit and Wolf", faithful, model, alternative="ledoit_wolf"),
        Variant("covariances shrunk by OAS", faithful, model, alternative="oas"),
        Variant("covariances pooled over neighbours", faithful, model, alternative="pooled"),
        Variant("semi-orthogonal projection", faithful, model, projected=True),
        Variant(f"{2 * size}²", faithful, larger),
        Variant("one layer", changed(distance=improved.distance), model),
        Variant("vote of one view", changed(vote=improved.vote), model),
        Variant(bank, changed(preprocess=registered), model, masked=True, alternative="memory_bank"),
        Variant(bigger, improved, larger, masked=True),
        Variant("improved and memory bank", improved, model, masked=True, combined=bank),
        Variant(f"improved, {size}² and {2 * size}²", improved, model, masked=True, combined=bigger),
        Variant("improved, standardised views", improved, model, masked=True, standardised=True),
        Variant("improved", improved, model, masked=True),
    ]


def job_of(variant: Variant, view: str, material: Material, trained: tuple[int, ...], folder: Path) -> ViewJob:
    """Return the work for a view of a variant."""
    whole = {"crop": "none", "registration": "none"} if material.dataset.whole_pictures else {}
    return ViewJob(
        pictures=material.pictures_of(view, masked=variant.masked),
        preprocess=variant.config.preprocess.model_copy(update=whole),
        distance=variant.config.distance,
        model=variant.model,
        weights=None,
        draws=(trained,),
        ways=(variant.config.score,),
        keep=(),
        out=folder / f"{_key(variant)}-{view}.npz",
        projected=variant.projected,
        alternative=variant.alternative,
    )


@dataclass(frozen=True)
class Compared:
    """What a variant reached on development parts that it had not seen.

    Attributes
    ----------
    variant : str
    part_auroc, tnr : Estimate
        TNR at the highest threshold that finds every defective part.
    """

    variant: str
    part_auroc: Estimate
    tnr: Estimate


def compare(variants: Sequence[Variant], material: Material, trained: tuple[int, ...], folder: Path) -> list[Compared]:
    """Put the views' scores together to parts, and count all on those that the first variant's vote can find."""
    by_name = {each.name: each for each in variants}
    good, bad = judged_of(material, trained, k=findable_votes(variants[0].config, material))
    compared = []
    for variant in variants:
        scores = _scores(variant, material, trained, folder)
        if variant.combined is not None:
            other = _scores(by_name[variant.combined], material, trained, folder)
            scores = np.mean([_standardised(each, trained) for each in (scores, other)], axis=0, dtype=np.float32)
        elif variant.standardised:
            scores = _standardised(scores, trained)
        statistics = vote_statistics(scores, k=variant.config.vote.k)
        compared.append(_compared(variant.name, statistics[good], statistics[bad]))
    return compared


def compare_trimmed(
    client: Client, improved: Variant, material: Material, trained: tuple[int, ...], folder: Path, *, k: int
) -> Compared:
    """Train the improved pipeline without the parts most unlike the others, and count what a vote of k can find."""
    config = improved.config.model_copy(update={"training": TrainingConfig(trim=_TRIM)})
    what = {"trimmed": Configured(config, improved.model, improved.masked and material.dataset.masked)}
    good, bad = judged_of(material, trained, k=k)
    parts = [tuple(material.parts[i] for i in some) for some in (trained, (*good, *bad))]
    training, judged = (replace(material, parts=some) for some in parts)
    found = trained_and_judged(client, what, training, judged, folder)["trimmed"]
    return _compared(TRIMMED, found.statistics[: len(good)], found.statistics[len(good) :])


def _compared(name: str, good: NDArray[np.float64], bad: NDArray[np.float64]) -> Compared:
    choice = tnr_at_full_tpr(good, bad)
    assert choice  # neither class is empty
    return Compared(name, part_auroc(good, bad), choice.tnr)


def _scores(variant: Variant, material: Material, trained: tuple[int, ...], folder: Path) -> NDArray[np.float32]:
    """View scores (V, N)."""
    views = [job_of(variant, view, material, trained, folder).read() for view in material.views]
    return np.stack([view.scores[0, 0] for view in views])


def _standardised(scores: NDArray[np.float32], trained: tuple[int, ...]) -> NDArray[np.float32]:
    return np.asarray(scores / np.median(scores[:, list(trained)], axis=1, keepdims=True), dtype=np.float32)


def findable_votes(faithful: DetectionConfig, material: Material) -> int:
    """How many views must show a defect for its part to count, whatever a variant's own vote."""
    return min(faithful.vote.k, len(material.views))


def judged_of(material: Material, trained: tuple[int, ...], *, k: int) -> tuple[list[int], list[int]]:
    """Return good parts that did not train, and defective ones that a vote of k can find; refuses none of either."""
    good = [i for i, part in enumerate(material.parts) if part.good and i not in trained]
    bad = [i for i, part in enumerate(material.parts) if not part.good and not part.beyond_vote(k)]
    if len(trained) < 3 or not good or not bad:
        raise DatasetError(
            f"{material.dataset.folder}: {len(trained)} good parts train, {len(good)} are left to judge, and "
            f"{len(bad)} defective ones can be found by the vote; give more of them"
        )
    return good, bad


def _key(variant: Variant) -> str:
    """Name of the files with a variant's scores; standardising and combining change none of them."""
    name = "improved" if variant.standardised or variant.combined is not None else variant.name
    return "-".join(name.replace(",", "").split())
