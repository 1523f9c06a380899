"""What this cell finds: probability of detection against defect size, for each kind of defect.

``python -m scenarios.detection_limit --out DIR --preset full``. Models are trained with good parts alone, and the
threshold is set from these. Then parts with one defect each, of sizes spread over the transition from missed to found,
are judged once; each has its own moulding, place and dust. With ``--dataset`` all parts are read from there, half of
the good ones to train with.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import typer
from distributed import Client
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from cell.commands.console import answering
from cell.config import Loaded, load_detection
from cell.interfaces import CellError
from cell.schema import Batch, Defect, ProductionFile
from cell.setup import Order
from detection.config import ModelConfig
from detection.errors import DatasetError
from detection.intervals import Estimate, rate
from scenarios import options
from scenarios.frozen import Configured, Frozen, frozen_of, trained_and_judged
from scenarios.made_parts import FULL_PARTS, QUICK_PARTS, PaperParts, made_by_twin, paper_order
from scenarios.material import Material, read_material
from scenarios.pod import Pod, fit_pod, visible_share
from scenarios.study import Plot, Study, Table, begin, estimate_json, finish, shown
from scenarios.workers import workers

_RANGES_MM: Mapping[str, tuple[float, float]] = {
    "dot": (0.1, 2.0),
    "scratch": (0.3, 12.0),
    "crack": (0.3, 12.0),
    "missing": (0.2, 4.0),
    "deformation": (0.1, 2.0),
}
"""Kind → sizes between which detection is expected to go from never to always."""

_TICKS_MM = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
_COLOURS = dict(zip(_RANGES_MM, ("#1f6feb", "#1b7f4b", "#b3261e", "#8250df", "#9a6700"), strict=True))
_PUBLISHED_VOTE = 2  # of a part's views


@dataclass(frozen=True)
class Preset:
    """How large a study is.

    Attributes
    ----------
    good : int
        Good parts; `trained` of them train, the others give the share of false rejects.
    trained : int
    sizes : int
        Of each kind, evenly spread in their logarithm; a part for each.
    resolution : int
        Of the network's input.
    camera : mapping
        Pixels of the camera's pictures.
    """

    good: int
    trained: int
    sizes: int
    resolution: Literal[256, 512]
    camera: Mapping[str, int]


PRESETS = {
    "quick": Preset(24, 16, 8, 256, QUICK_PARTS.camera),
    "full": Preset(118, 71, 60, 512, FULL_PARTS.camera),
}


@dataclass(frozen=True)
class Limit:
    """What was found of one kind.

    Attributes
    ----------
    kind : str
    sizes_mm : (n,) float64
    found : (n,) bool
    views : (n,) int64
        That show the defect; -1 where nobody knows.
    pod : Pod or None
        None where sizes are too few to fit.
    unseen : int
        How many parts show their defect in fewer than two views, which is beyond the published vote.
    """

    kind: str
    sizes_mm: NDArray[np.float64]
    found: NDArray[np.bool_]
    views: NDArray[np.int64]
    pod: Pod | None
    unseen: int

    @property
    def a90_mm(self) -> float | None:
        """See `Pod`."""
        return None if self.pod is None else self.pod.a90_mm

    @property
    def a90_95_mm(self) -> float | None:
        """See `Pod`."""
        return None if self.pod is None else self.pod.a90_95_mm


def defective_order(preset: Preset, *, cell: str, part: str, seed: int) -> Order:
    """Order a part for each kind and size; a defect lies where at least one view sees it."""
    batches = tuple(
        Batch(count=1, defects=(Defect(kind=kind, size_mm=(size, size), seen_by=1),))
        for kind, (low, high) in _RANGES_MM.items()
        for size in np.round(np.geomspace(low, high, preset.sizes), 4).tolist()
    )
    order = paper_order(PaperParts(0, 1, preset.camera), cell=cell, part=part, seed=seed)
    content = ProductionFile(lot="limit", nuisances=order.production.content.nuisances, batches=batches)
    return replace(order, production=Loaded(order.production.path, content), numbers=range(len(batches)))


def limits_of(material: Material, frozen: Frozen, *, k: int) -> list[Limit]:
    """Fit a curve for each kind of defect; a recheck, whose pictures could not all be scored, is no hit and no miss."""
    found = frozen.statistics >= frozen.threshold
    by_kind: dict[str, list[int]] = {}
    for i, part in enumerate(material.parts):
        if part.defects and np.isfinite(frozen.statistics[i]):
            by_kind.setdefault(part.defects[0]["kind"], []).append(i)
    if not by_kind:
        raise DatasetError(f"{material.dataset.folder}: not all pictures of any defective part could be scored")
    limits = []
    for kind, some in sorted(by_kind.items()):
        sizes = np.array([material.parts[i].defects[0]["size_mm"] for i in some])
        seen = [material.parts[i].visible_views for i in some]
        views = np.array([-1 if each is None else each for each in seen])
        pod = fit_pod(sizes, found[some], alpha=_asymptote(sizes, views, k)) if len(np.unique(sizes)) > 1 else None
        unseen = int(((views >= 0) & (views < min(_PUBLISHED_VOTE, len(material.views)))).sum())
        limits.append(Limit(kind, sizes, found[some], views, pod, unseen))
    return limits


def _asymptote(sizes: NDArray[np.float64], views: NDArray[np.int64], k: int) -> float:
    """Share of the larger half of the defects that k views show: the smaller ones may be hidden by their size alone."""
    if (views < 0).any():
        return 1.0
    larger = views[sizes >= np.median(sizes)]
    # None at all would leave nothing to fit; half a part is the smallest share that so many can tell from none.
    return max(visible_share(larger.tolist(), k), 0.5 / len(larger))


def tables_of(limits: Sequence[Limit], frozen: Frozen) -> list[Table]:
    """Return a row for each kind, and one for each part."""
    rows: list[tuple[Any, ...]] = [
        (
            limit.kind,
            len(limit.sizes_mm),
            float(limit.sizes_mm.min()),
            float(limit.sizes_mm.max()),
            limit.a90_mm,
            limit.a90_95_mm,
            None if limit.pod is None else limit.pod.alpha,
            limit.unseen,
            rate(int(limit.found.sum()), len(limit.found)),
        )
        for limit in limits
    ]
    header = (
        "kind",
        "parts",
        "smallest (mm)",
        "largest (mm)",
        "a90 (mm)",
        "a90/95 (mm)",
        "largest share that can be found",
        "parts not seen by two views",
        "found, all sizes",
    )
    parts = []
    for limit in limits:
        for i in np.argsort(limit.sizes_mm):
            views, verdict = int(limit.views[i]), "found" if limit.found[i] else "missed"
            parts.append((limit.kind, float(limit.sizes_mm[i]), views if views >= 0 else None, verdict))
    return [
        Table("limits", "Size that is found with probability .9, and the 95 % bound on it", header, rows),
        Table("false_rejects", "Good parts that did not train, at the same T", ("rejected",), [(_rejected(frozen),)]),
        Table("parts", "Every defective part", ("kind", "size (mm)", "views that show it", "verdict"), parts),
    ]


def _rejected(frozen: Frozen) -> Estimate:
    return Estimate(1 - frozen.tnr.value, 1 - frozen.tnr.high, 1 - frozen.tnr.low)


def findings_of(limits: Sequence[Limit], frozen: Frozen, *, k: int) -> list[str]:
    """Return what the page says first."""
    said = []
    for limit in limits:
        tried = f"{limit.sizes_mm.min():g} to {limit.sizes_mm.max():g} mm tried"
        found = f"{int(limit.found.sum())} of {len(limit.found)} parts are found"
        if limit.a90_95_mm is not None:
            from_mm = "" if limit.a90_mm is None else f"from {limit.a90_mm:.2f} mm, "
            said.append(
                f"{limit.kind}: this cell finds it with probability .9 {from_mm}with 95 % confidence from "
                f"{limit.a90_95_mm:.2f} mm, where a view can see it; {found}, {tried}."
            )
        elif limit.a90_mm is not None:
            said.append(
                f"{limit.kind}: found with probability .9 from {limit.a90_mm:.2f} mm by the fitted curve; the data set "
                f"no bound within the sizes tried; {found}, {tried}."
            )
        else:
            seen = "" if limit.pod is None else f", since {limit.pod.alpha:.2f} are seen by {k} view{'s' * (k > 1)}"
            why = seen if limit.pod is not None and limit.pod.alpha <= 0.9 else ""
            said.append(f"{limit.kind}: from which size on nine of ten are found is not known{why}; {found}, {tried}.")
    said.append(
        f"At the same T = {frozen.threshold:.2f}, set from good parts alone, {shown(_rejected(frozen))} of the good "
        "parts that did not train are rejected."
    )
    return said


def figures_of(limits: Sequence[Limit], frozen: Frozen) -> dict[str, Any]:
    """Return the numbers of `summary.json`."""
    return {
        "threshold": frozen.threshold,
        "tnr": estimate_json(frozen.tnr),
        "limits": {
            limit.kind: {
                "parts": len(limit.found),
                "a90_mm": limit.a90_mm,
                "a90_95_mm": limit.a90_95_mm,
                "asymptote": None if limit.pod is None else limit.pod.alpha,
                "not_seen_by_two_views": limit.unseen,
            }
            for limit in limits
        },
    }


def curves(limits: Sequence[Limit], frozen: Frozen) -> Plot:
    """Draw the slide: a curve for each kind with its band, every part, and a90/95."""
    figure = Figure(figsize=(4.2 * len(limits), 4.2), layout="constrained")
    for axes, limit in zip(np.atleast_1d(figure.subplots(1, len(limits), sharey=True)), limits, strict=True):
        colour = _COLOURS.get(limit.kind, "#57606a")
        axes.plot(limit.sizes_mm, np.where(limit.found, 1.03, -0.03), "|", color=colour, alpha=0.6)
        title = f"{limit.kind}: no bound"
        if limit.pod is not None:
            sizes = np.geomspace(limit.sizes_mm.min(), limit.sizes_mm.max(), 200)
            axes.plot(sizes, limit.pod.at(sizes), color=colour)
            axes.fill_between(sizes, *limit.pod.band(sizes), color=colour, alpha=0.15)
            if limit.pod.a90_95_mm is not None:
                axes.axvline(limit.pod.a90_95_mm, color=colour, linestyle=":")
                title = f"{limit.kind}: from {limit.pod.a90_95_mm:.2g} mm"
        axes.axhline(0.9, color="#57606a", linewidth=0.6)
        axes.set_xscale("log")
        ticks = [tick for tick in _TICKS_MM if limit.sizes_mm.min() <= tick <= limit.sizes_mm.max()]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("size (mm)")
        axes.set_title(title, fontsize=11)
        axes.set_ylim(-0.07, 1.07)
    figure.axes[0].set_ylabel("probability of detection")
    rejected = f"{1 - frozen.tnr.value:.1%} of good parts are rejected at the same T"
    figure.suptitle(f"What this cell finds, in simulation (a90/95, dotted); {rejected}", fontsize=10)
    return Plot("detection_limit", "Probability of detection against size; bands: one-sided 95 % bounds", figure)


def _materials(
    client: Client, preset: Preset, *, dataset: Path | None, cell: str, part: str, seed: int, folder: Path
) -> tuple[Material, Material]:
    """Parts to train with and parts to judge; all that could not be inspected whole are the latter's."""
    if dataset is None:
        parts = PaperParts(preset.good, 1, preset.camera)
        order = paper_order(parts, cell=cell, part=part, seed=seed)
        good = made_by_twin(client, replace(order, numbers=range(preset.good)), folder / "good")
        limit = defective_order(preset, cell=cell, part=part, seed=seed + 1)
        defective = made_by_twin(client, limit, folder / "defective")
        train, rest = good.parts[: preset.trained], good.parts[preset.trained :]
        if not rest:
            raise CellError(
                f"{folder}: {len(good.parts)} of {preset.good} good parts could be inspected whole, and "
                f"{preset.trained} train; none is left to judge"
            )
        judged = Material(rest + defective.parts, good.dataset, good.lost + defective.lost)
        return Material(train, good.dataset), judged
    read = read_material(dataset)
    good_parts = [studied for studied in read.parts if studied.good]
    half = len(good_parts) // 2
    rest = tuple(good_parts[half:]) + tuple(studied for studied in read.parts if not studied.good)
    if half < 3 or len(rest) == len(good_parts) - half:
        raise DatasetError(
            f"{dataset}: {len(good_parts)} good parts and {len(read.parts) - len(good_parts)} defective ones are too "
            "few; give at least 6 good parts and some defective ones"
        )
    unsized = [
        part.part.part_id for part in rest if not part.good and [d["size_mm"] > 0 for d in part.defects] != [True]
    ]
    if unsized:
        raise DatasetError(
            f"{dataset}: part {unsized[0]} has not one defect with a size; say in truth/parts.csv what is wrong with "
            'each defective part, as [{"kind": …, "size_mm": …}], and leave out those with several'
        )
    return Material(tuple(good_parts[:half]), read.dataset), Material(rest, read.dataset)


def _main(
    out: options.Out,
    preset: options.PresetName = "quick",
    seed: options.Seed = 0,
    cell: options.Cell = "twin",
    part: options.Part = "ring",
    config: options.Config = "default",
    dataset: options.Dataset = None,
    scheduler: options.Scheduler = None,
    compare: options.Compare = None,
    tolerance: options.Tolerance = 0.02,
) -> None:
    """Find from which size on each kind of defect is found."""
    started = time.perf_counter()
    with answering():
        chosen = options.preset_of(PRESETS, preset)
        detection = load_detection(config).content
        model = ModelConfig(resolution=chosen.resolution)
        settings = {
            "command": f"python -m scenarios.detection_limit --preset {preset} --seed {seed} --config {config}",
            **options.material_settings(cell=cell, part=part, dataset=dataset),
            "camera": dict(chosen.camera),
            "sizes_mm": {kind: list(sizes) for kind, sizes in _RANGES_MM.items()},
            "configuration": detection.model_dump(),
            "model": model.model_dump(),
        }
        begin(out, settings)
        with workers(scheduler) as client:
            training, judged = _materials(
                client, chosen, dataset=dataset, cell=cell, part=part, seed=seed, folder=out / "pictures"
            )
            what = {"cell": Configured(detection, model, masked=training.dataset.masked)}
            k = min(detection.vote.k, len(judged.views))
            found = trained_and_judged(client, what, training, judged, out / "frozen")["cell"]
        frozen = frozen_of(found, judged, k=k)
        limits = limits_of(judged, frozen, k=k)
        study = Study(
            name="detection_limit",
            title="What this cell finds",
            findings=findings_of(limits, frozen, k=k),
            tables=tables_of(limits, frozen),
            plots=[curves(limits, frozen)],
            figures=figures_of(limits, frozen),
            settings=settings,
            seconds=time.perf_counter() - started,
            lost=training.lost + judged.lost,
        )
        finish(study, out, compare=compare, tolerance=tolerance)


if __name__ == "__main__":
    typer.run(_main)
