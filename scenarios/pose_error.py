"""How exactly parts must be laid, held and shown: false rejects and a90 against grasp and robot error.

``python -m scenarios.pose_error --out DIR --preset full`` trains models on a normal day, with and without registration,
and then has the twin inspect the same good and defective parts with larger and larger errors. ``--dataset`` takes
pictures whose truth table names a condition for each part.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import typer
from matplotlib.figure import Figure

from cell.commands.console import answering
from cell.config import load_detection
from cell.schema import Batch, Defect, ProductionFile
from cell.setup import Order
from detection.config import DetectionConfig, ModelConfig, PreprocessConfig
from detection.errors import DatasetError
from detection.intervals import Estimate, rate
from scenarios import options
from scenarios.frozen import Configured, Judged, trained_and_judged
from scenarios.made_parts import FULL_PARTS, QUICK_PARTS, PaperParts, conditions_material, paper_order, with_options
from scenarios.material import TRAINING, Material
from scenarios.pod import Pod, fit_pod
from scenarios.study import Plot, Study, Table, begin, estimate_json, finish, shown
from scenarios.workers import workers
from twin.nuisances import LEVELS

NORMAL = "normal day"

_KIND: Literal["dot"] = "dot"
_SIZES_MM = (0.2, 3.0)
_ARM_MM = 0.1  # pose repeatability (ISO 9283) that a normal day's joint errors give; see docs/twin.md
_LEAST_TNR = 0.5
_COLOURS = {"registered": "#1b7f4b", "not registered": "#8c959f"}


@dataclass(frozen=True)
class Preset:
    """How large a study is.

    Attributes
    ----------
    trained : int
        Good parts that train, on a normal day.
    good, defective : int
        That are inspected under every condition; the defective ones have a dot each, of sizes evenly spread in their
        logarithm.
    misplaced, arm_error : tuple of float
        Times the errors of a normal day, one of them at a time.
    resolution : int
        Of the network's input.
    camera : mapping
        Pixels of the camera's pictures.
    """

    trained: int
    good: int
    defective: int
    misplaced: tuple[float, ...]
    arm_error: tuple[float, ...]
    resolution: Literal[256, 512]
    camera: Mapping[str, int]


PRESETS = {
    "quick": Preset(16, 8, 8, (8,), (32,), 256, QUICK_PARTS.camera),
    "full": Preset(47, 32, 24, (2, 4, 8), (4, 16, 64), 512, FULL_PARTS.camera),
}


@dataclass(frozen=True)
class Outcome:
    """What a model did under a condition.

    Attributes
    ----------
    config : str
        With or without registration.
    condition : str
    parts : int
        That came.
    tnr : Estimate
        At the T of a normal day.
    tpr : Estimate
        At the same T, of the defects that the vote can find, and of all that nobody saw whole.
    rechecked : Estimate
        Share of all parts that could not be inspected whole, or with a picture that could not be scored; they count as
        rejected.
    pod : Pod or None
        Over the sizes of the dots of parts that were inspected whole; None where these have not at least two sizes, or
        where most good parts are rejected: there that a part with a dot is rejected says nothing of the dot.
    """

    config: str
    condition: str
    parts: int
    tnr: Estimate
    tpr: Estimate
    rechecked: Estimate
    pod: Pod | None

    @property
    def a90_mm(self) -> float | None:
        """See `Pod`."""
        return None if self.pod is None else self.pod.a90_mm

    @property
    def a90_95_mm(self) -> float | None:
        """See `Pod`."""
        return None if self.pod is None else self.pod.a90_95_mm


def configurations(detection: DetectionConfig) -> dict[str, DetectionConfig]:
    """Return a configuration with registration and without."""
    return {
        name: detection.model_copy(
            update={
                "preprocess": PreprocessConfig.model_validate(
                    {**detection.preprocess.model_dump(), "registration": registration}
                )
            }
        )
        for name, registration in (("registered", "ecc"), ("not registered", "none"))
    }


def outcomes_of(material: Material, judged: Mapping[str, Judged], *, k: int) -> list[Outcome]:
    """Count under each condition; refuses one to which no good parts or no defective ones came."""
    outcomes = []
    conditions = dict.fromkeys([studied.condition for studied in material.parts])
    conditions |= dict.fromkeys(each.condition for each in material.lost)
    for name, found in judged.items():
        for condition in conditions:
            some = [i for i, studied in enumerate(material.parts) if studied.condition == condition]
            good = [i for i in some if material.parts[i].good]
            bad = [i for i in some if not material.parts[i].good and not material.parts[i].beyond_vote(k)]
            over = found.statistics >= found.threshold
            lost = [each for each in material.lost if each.condition == condition]
            came = len(some) + len(lost)
            tnr = rate(int((~over[good]).sum()), len(good) + sum(each.good for each in lost))
            bad_lost = sum(not each.good for each in lost)
            tpr = rate(int(over[bad].sum()) + bad_lost, len(bad) + bad_lost)
            rechecked = rate(len(lost) + int(np.isinf(found.statistics[some]).sum()), came)
            if tnr is None or tpr is None or rechecked is None:
                raise DatasetError(
                    f"{material.dataset.folder}: condition {condition!r} has {len(good)} good parts and {len(bad)} "
                    "defective ones that the vote can find; give some of both (column condition of truth/parts.csv)"
                )
            scored = [i for i in bad if np.isfinite(found.statistics[i])]
            sizes = np.array([max((d["size_mm"] for d in material.parts[i].defects), default=0.0) for i in scored])
            # Without sizes there is a share that is found, and no size from which on.
            fitted = tnr.value >= _LEAST_TNR and len(np.unique(sizes)) > 1 and bool(sizes.min() > 0)
            pod = fit_pod(sizes, over[scored]) if fitted else None
            outcomes.append(Outcome(name, condition, came, tnr, tpr, rechecked, pod))
    return outcomes


def table_of(outcomes: Sequence[Outcome]) -> Table:
    """Return a row for each condition and model."""
    header = ("condition", "registration", "parts", "TNR", "TPR", "rechecked", "a90 (mm)", "a90/95 (mm)")
    rows = [
        (
            each.condition,
            each.config,
            each.parts,
            each.tnr,
            each.tpr,
            each.rechecked,
            each.a90_mm,
            each.a90_95_mm,
        )
        for condition in dict.fromkeys(each.condition for each in outcomes)
        for each in outcomes
        if each.condition == condition
    ]
    return Table("pose_error", "At the T of a normal day, against grasp and robot error", header, rows)


def findings_of(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what the page says first."""
    said = []
    for name in dict.fromkeys(each.config for each in outcomes):
        some = [each for each in outcomes if each.config == name]
        first = some[0]
        said.append(f"{name}, {first.condition}: TNR {shown(first.tnr)}, TPR {shown(first.tpr)}, a90 {_size(first)}.")
        worse = [each for each in some[1:] if each.tnr.value < first.tnr.low or each.tpr.value < first.tpr.low]
        kept = [each.condition for each in some[1:] if each not in worse]
        rates = [f"{each.condition} (TNR {each.tnr.value:.2f}, TPR {each.tpr.value:.2f})" for each in worse]
        said.append(
            f"{name}: TNR and TPR are within the interval of {first.condition}, or above, at {_listed(kept)}; one is "
            f"below at {_listed(rates)}."
        )
    return said


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no condition"


def _size(outcome: Outcome) -> str:
    if outcome.tnr.value < _LEAST_TNR:
        return "not known, since most good parts are rejected too"
    return "at none of the sizes tried" if outcome.a90_mm is None else f"{outcome.a90_mm:.2f} mm"


def figures_of(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the numbers of `summary.json`."""
    return {
        f"{each.config}/{each.condition}": {
            "tnr": estimate_json(each.tnr),
            "tpr": estimate_json(each.tpr),
            "rechecked": estimate_json(each.rechecked),
            "a90_mm": each.a90_mm,
        }
        for each in outcomes
    }


def plot_of(outcomes: Sequence[Outcome]) -> Plot:
    """Draw TNR and a90 under each condition."""
    conditions = list(dict.fromkeys(each.condition for each in outcomes))
    figure = Figure(figsize=(max(8.0, 1.3 * len(conditions)), 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for shift, (name, colour) in zip((-0.1, 0.1), _COLOURS.items(), strict=True):
        some = [each for each in outcomes if each.config == name]
        at = np.array([conditions.index(each.condition) for each in some]) + shift
        low = [each.tnr.value - each.tnr.low for each in some]
        high = [each.tnr.high - each.tnr.value for each in some]
        values = [each.tnr.value for each in some]
        above.errorbar(at, values, yerr=[low, high], fmt="o", color=colour, label=name, linewidth=0.8)
        limits = [(x, each) for x, each in zip(at, some, strict=True) if each.a90_mm is not None]
        below.plot([x for x, _ in limits], [each.a90_mm for _, each in limits], "o", color=colour)
        for x, each in limits:
            if each.a90_95_mm is not None:
                below.plot([x, x], [each.a90_mm, each.a90_95_mm], color=colour, linewidth=0.8)
    above.set_ylabel("TNR at the T of a normal day")
    above.set_ylim(0, 1.02)
    above.legend(fontsize=8)
    below.set_ylabel(f"a90 of a {_KIND} (mm), up to a90/95")
    below.set_ylim(bottom=0)
    below.set_xticks(range(len(conditions)), conditions, rotation=20, ha="right", fontsize=8)
    below.set_xlabel("condition (no point: at none of the sizes tried, or most good parts are rejected too)")
    figure.suptitle("Grasp and robot error, in simulation; bars: 95 % intervals", fontsize=10)
    return Plot("pose_error", "TNR and a90 against grasp and robot error", figure)


def orders_of(preset: Preset, *, cell: str, part: str, seed: int) -> dict[str, Order]:
    """Order the parts that train on a normal day, and the same other parts with every error."""
    training = paper_order(PaperParts(preset.trained, 1, preset.camera), cell=cell, part=part, seed=seed)
    dots = tuple(
        Batch(count=1, defects=(Defect(kind=_KIND, size_mm=(size, size)),))
        for size in np.round(np.geomspace(*_SIZES_MM, preset.defective), 4).tolist()
    )
    level = training.production.content.nuisances
    made = ProductionFile(lot="pose", nuisances=level, batches=(Batch(count=preset.good), *dots))
    judged = replace(
        training,
        production=replace(training.production, content=made),
        numbers=range(preset.good + preset.defective),
        seed=seed + 1,
    )
    amounts = LEVELS[level]
    orders = {TRAINING: replace(training, numbers=range(preset.trained)), NORMAL: judged}
    for times in preset.misplaced:
        name = (
            f"laid {times * amounts.place_mm:g} mm {times * amounts.place_deg:g}° off, slips "
            f"{times * amounts.slip_mm:g} mm {times * amounts.slip_deg:g}° (scales)"
        )
        orders[name] = replace(judged, cell=with_options(judged.cell, "source", {"misplaced": times}))
    for times in preset.arm_error:
        orders[f"arm repeats to {times * _ARM_MM:g} mm"] = replace(
            judged, cell=with_options(judged.cell, "source", {"arm_error": times})
        )
    return orders


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
    """Find how TNR and a90 depend on how exactly parts are laid, held and shown."""
    started = time.perf_counter()
    with answering():
        chosen = options.preset_of(PRESETS, preset)
        configs = configurations(load_detection(config).content)
        model = ModelConfig(resolution=chosen.resolution)
        settings = {
            "command": f"python -m scenarios.pose_error --preset {preset} --seed {seed} --config {config}",
            **options.material_settings(cell=cell, part=part, dataset=dataset),
            "camera": dict(chosen.camera),
            "configurations": {name: each.model_dump() for name, each in configs.items()},
            "model": model.model_dump(),
        }
        begin(out, settings)
        with workers(scheduler) as client:
            orders = orders_of(chosen, cell=cell, part=part, seed=seed)
            training, again = conditions_material(client, orders, dataset=dataset, folder=out / "pictures")
            masked = training.dataset.masked
            what = {name: Configured(each, model, masked=masked) for name, each in configs.items()}
            judged = trained_and_judged(client, what, training, again, out / "judged")
        k = min(configs["registered"].vote.k, len(again.views))
        outcomes = outcomes_of(again, judged, k=k)
        study = Study(
            name="pose_error",
            title="How exactly parts must be held and shown",
            findings=findings_of(outcomes),
            tables=[table_of(outcomes)],
            plots=[plot_of(outcomes)],
            figures=figures_of(outcomes),
            settings=settings,
            seconds=time.perf_counter() - started,
            lost=training.lost + again.lost,
        )
        finish(study, out, compare=compare, tolerance=tolerance)


if __name__ == "__main__":
    typer.run(_main)
