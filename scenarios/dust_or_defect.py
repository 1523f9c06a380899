"""The largest cause of false rejects: how many parts are rejected for dust and strings alone, and what helps.

``python -m scenarios.dust_or_defect --out DIR --preset full`` has the twin make good and defective parts and inspect
each four times: as found; in the same grasp without what lies on it; grasped anew; and grasped anew after all was blown
off. ``--dataset`` takes pictures with these conditions in their truth table.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cell.commands.console import answering
from cell.config import load_detection
from cell.schema import Nuisance
from cell.setup import Order
from detection.config import ModelConfig
from detection.errors import DatasetError
from detection.intervals import Estimate, rate
from scenarios import options
from scenarios.frozen import Configured, Judged, trained_and_judged
from scenarios.made_parts import FULL_PARTS, QUICK_PARTS, PaperParts, conditions_material, paper_order, with_options
from scenarios.material import TRAINING, Material
from scenarios.study import Plot, Study, Table, begin, estimate_json, finish, shown
from scenarios.workers import workers

AS_FOUND, CLEAN, AGAIN, BLOWN_OFF = CONDITIONS = ("as found", "clean", "looked at again", "blown off")

_LYING: tuple[Nuisance, ...] = ("dust", "strings")
_LOST = -1  # the row of an inspection that has none
_AREAS_MM2 = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
_CONTRASTS = (1.0, 1.2, 1.5, 2.0)


@dataclass(frozen=True)
class Preset:
    """How large a study is.

    Attributes
    ----------
    trained : int
        Good parts that train.
    parts : PaperParts
        That are inspected under every condition.
    resolution : int
        Of the network's input.
    """

    trained: int
    parts: PaperParts
    resolution: Literal[256, 512]


PRESETS = {
    "quick": Preset(16, PaperParts(12, 8, QUICK_PARTS.camera), 256),
    "full": Preset(47, PaperParts(118, 32, FULL_PARTS.camera), 512),
}


@dataclass(frozen=True)
class Looks:
    """What was found of the same pieces under each condition.

    Attributes
    ----------
    good : (N,) bool
        Of the pieces.
    findable : (N,) bool
        Defective, with a defect that the vote can find.
    over : mapping
        Condition → (N,) bool: rejected.
    scores, areas_mm2 : (N, V) float64
        As found: view scores in units of T, and the largest area over T of each.
    k : int
        Votes that reject.
    """

    good: NDArray[np.bool_]
    findable: NDArray[np.bool_]
    over: Mapping[str, NDArray[np.bool_]]
    scores: NDArray[np.float64]
    areas_mm2: NDArray[np.float64]
    k: int


@dataclass(frozen=True)
class Way:
    """A way to decide, and what it costs.

    Attributes
    ----------
    name : str
    false_rejects : Estimate
        Share of good parts.
    found : Estimate
        Share of defective parts that the vote can find.
    lost : int
        Defective parts that are rejected as found, and pass this way.
    """

    name: str
    false_rejects: Estimate
    found: Estimate
    lost: int


def looks_of(material: Material, judged: Judged, *, k: int, resolution: int) -> Looks:
    """Put the conditions together, piece by piece.

    A piece that could not be inspected whole under a condition is rejected there, as a recheck is; one that did not
    come under a condition counts in nothing.

    Raises
    ------
    DatasetError
        Without parts as found, or without good ones or defective ones that the vote can find.
    """
    at: dict[str, dict[str, int]] = {}
    for i, studied in enumerate(material.parts):
        at.setdefault(studied.condition, {})[studied.piece] = i
    for lost in material.lost:
        at.setdefault(lost.condition, {})[lost.piece] = _LOST
    unknown = sorted(set(at) - set(CONDITIONS))
    if unknown or AS_FOUND not in at or len(at) < 2:
        raise DatasetError(
            f"{material.dataset.folder}: conditions {', '.join(sorted(at)) or 'none'}; say in truth/parts.csv, column "
            f"condition, which parts are {AS_FOUND}, and which of {', '.join(CONDITIONS[1:])}; column piece says which "
            "piece it is"
        )
    pieces = [piece for piece in at[AS_FOUND] if all(piece in some for some in at.values())]
    # A piece that was never whole has no truth but its label, and is held to be one that the vote can find.
    good_of = {lost.piece: lost.good for lost in material.lost}
    beyond_of: dict[str, bool] = {}
    for studied in material.parts:
        good_of[studied.piece] = studied.good
        beyond_of.setdefault(studied.piece, studied.beyond_vote(k))
    good = np.array([good_of[piece] for piece in pieces], dtype=np.bool_)
    findable = ~good & ~np.array([beyond_of.get(piece, False) for piece in pieces], dtype=np.bool_)
    if not good.any() or not findable.any():
        raise DatasetError(
            f"{material.dataset.folder}: {int(good.sum())} good pieces and {int(findable.sum())} that the vote can "
            "find came under every condition; give some of both"
        )
    rows = {name: np.array([some[piece] for piece in pieces], dtype=np.int64) for name, some in at.items()}
    width = material.dataset.picture_width_mm
    pixel_mm2 = np.nan if width is None else (width / resolution) ** 2
    # The last row is that of whatever was lost: see `_LOST`.
    statistics = np.append(judged.statistics, np.inf)
    scores, areas = (np.vstack([each, np.full(each.shape[1], np.inf)]) for each in (judged.scores, judged.areas_px))
    return Looks(
        good,
        findable,
        {name: statistics[some] >= judged.threshold for name, some in rows.items()},
        scores[rows[AS_FOUND]] / judged.threshold,
        areas[rows[AS_FOUND]] * pixel_mm2,
        k,
    )


def way_of(name: str, rejected: NDArray[np.bool_], looks: Looks) -> Way:
    """Count what a way rejects (N,) of the good and the defective pieces."""
    false = rate(int(rejected[looks.good].sum()), int(looks.good.sum()))
    found = rate(int(rejected[looks.findable].sum()), int(looks.findable.sum()))
    assert false and found  # neither class is empty
    return Way(name, false, found, int((looks.over[AS_FOUND] & ~rejected)[looks.findable].sum()))


def second_looks(looks: Looks) -> list[Way]:
    """Reject as found; or only what is rejected at a second look too."""
    first = looks.over[AS_FOUND]
    ways = [way_of("as found", first, looks)]
    for name in (AGAIN, BLOWN_OFF):
        if name in looks.over:
            ways.append(way_of(f"rejected too when {name}", first & looks.over[name], looks))
    return ways


def rules(looks: Looks) -> list[Way]:
    """Let a view vote only from an area and a contrast on; empty where the scale of the pictures is not known."""
    if np.isnan(looks.areas_mm2[np.isfinite(looks.scores)]).any():
        return []
    return [
        way_of(
            f"from {area:g} mm² over T and {contrast:g} T on",
            ((looks.areas_mm2 >= area) & (looks.scores >= contrast)).sum(axis=1) >= looks.k,
            looks,
        )
        for area in _AREAS_MM2
        for contrast in _CONTRASTS
    ]


def tables_of(looks: Looks, ways: Sequence[Way], ruled: Sequence[Way]) -> list[Table]:
    """Return what each condition does, the second looks, and the rules."""
    rows: list[tuple[Any, ...]] = []
    for name, over in looks.over.items():
        way = way_of(name, over, looks)
        rows.append((name, way.false_rejects, way.found))
    header = ("good parts rejected", "defective parts found")
    counted = (*header, "defective parts lost")
    tables = [
        Table("conditions", "The same pieces under each condition, at the same T", ("condition", *header), rows),
        Table(
            "second_looks",
            "Reject at once, or after a second look",
            ("way", *counted),
            [(each.name, each.false_rejects, each.found, each.lost) for each in ways],
        ),
    ]
    if ruled:
        rows = [(each.name, each.false_rejects, each.found, each.lost) for each in ruled]
        tables.append(Table("rules", "A view votes only from an area and a score on", ("rule", *counted), rows))
    return tables


def for_dust_alone(looks: Looks) -> Estimate | None:
    """Share of the good pieces that are rejected as found and pass clean, in the same grasp."""
    if CLEAN not in looks.over:
        return None
    alone = looks.over[AS_FOUND] & ~looks.over[CLEAN]
    return rate(int(alone[looks.good].sum()), int(looks.good.sum()))


def findings_of(looks: Looks, ways: Sequence[Way], ruled: Sequence[Way]) -> list[str]:
    """Return what the page says first."""
    first, alone = ways[0], for_dust_alone(looks)
    said = [
        f"{shown(first.false_rejects)} of the good parts are rejected as found, {shown(first.found)} of the others."
    ]
    if alone is not None:
        said.append(f"For dust and strings alone, in the same grasp: {shown(alone)} of the good parts.")
    for way in ways[1:]:
        said.append(
            f"Good parts {way.name}: {shown(way.false_rejects)}; defective ones {shown(way.found)}, {way.lost} fewer."
        )
    free = [each for each in ruled if each.lost == 0]
    if free:
        best = min(free, key=lambda each: each.false_rejects.value)
        saves = best.false_rejects.value < first.false_rejects.value
        said.append(
            f"The rule that saves most and loses none of these defects: {best.name}; {shown(best.false_rejects)} of "
            "the good parts are rejected. It was chosen on these parts: others must confirm it."
            if saves
            else "No rule on area and contrast saves a good part without losing a defect."
        )
    return said


def figures_of(looks: Looks, ways: Sequence[Way], ruled: Sequence[Way], threshold: float) -> dict[str, Any]:
    """Return the numbers of `summary.json`."""
    return {
        "threshold": threshold,
        "for_dust_alone": estimate_json(for_dust_alone(looks)),
        "ways": {
            each.name: {
                "false_rejects": estimate_json(each.false_rejects),
                "found": estimate_json(each.found),
                "lost": each.lost,
            }
            for each in (*ways, *ruled)
        },
    }


def plot_of(ways: Sequence[Way], ruled: Sequence[Way]) -> Plot:
    """Draw false rejects against what is found, for every way."""
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        [each.false_rejects.value for each in ruled],
        [each.found.value for each in ruled],
        ".",
        color="#8c959f",
        label="rules on area and score",
    )
    for each, colour in zip(ways, ("#b3261e", "#9a6700", "#1b7f4b"), strict=False):
        value, found = each.false_rejects, each.found
        axes.errorbar(
            value.value,
            found.value,
            xerr=[[value.value - value.low], [value.high - value.value]],
            yerr=[[found.value - found.low], [found.high - found.value]],
            fmt="o",
            color=colour,
            label=each.name,
            linewidth=0.8,
        )
    axes.set_xlabel("share of good parts rejected")
    axes.set_ylabel("share of defective parts found")
    axes.legend(loc="lower right", fontsize=8)
    figure.suptitle("Dust or defect, in simulation; bars: 95 % intervals", fontsize=10)
    return Plot("dust_or_defect", "What a second look and rules save, and cost", figure)


def orders_of(preset: Preset, *, cell: str, part: str, seed: int) -> dict[str, Order]:
    """Order the parts that train, and the same other pieces under each condition."""
    training = paper_order(PaperParts(preset.trained, 1, preset.parts.camera), cell=cell, part=part, seed=seed)
    order = paper_order(preset.parts, cell=cell, part=part, seed=seed + 1)
    order = replace(order, cell=with_options(order.cell, "source", {"visits": 2}))
    production = order.production.content
    clean = replace(
        order.production,
        content=production.model_copy(update={"without": tuple(dict.fromkeys((*production.without, *_LYING)))}),
    )
    first, second = ([2 * number + visit for number in order.numbers] for visit in range(2))
    return {
        TRAINING: replace(training, numbers=range(preset.trained)),
        AS_FOUND: replace(order, numbers=first),
        CLEAN: replace(order, numbers=first, production=clean),
        AGAIN: replace(order, numbers=second),
        BLOWN_OFF: replace(order, numbers=second, production=clean),
    }


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
    """Find how many good parts are rejected for what lies on them, and what helps."""
    started = time.perf_counter()
    with answering():
        chosen = options.preset_of(PRESETS, preset)
        detection = load_detection(config).content
        model = ModelConfig(resolution=chosen.resolution)
        settings = {
            "command": f"python -m scenarios.dust_or_defect --preset {preset} --seed {seed} --config {config}",
            **options.material_settings(cell=cell, part=part, dataset=dataset),
            "camera": dict(chosen.parts.camera),
            "configuration": detection.model_dump(),
            "model": model.model_dump(),
        }
        begin(out, settings)
        with workers(scheduler) as client:
            orders = orders_of(chosen, cell=cell, part=part, seed=seed)
            training, again = conditions_material(client, orders, dataset=dataset, folder=out / "pictures")
            what = {"cell": Configured(detection, model, masked=training.dataset.masked)}
            judged = trained_and_judged(client, what, training, again, out / "judged")["cell"]
        looks = looks_of(again, judged, k=min(detection.vote.k, len(again.views)), resolution=model.resolution)
        ways, ruled = second_looks(looks), rules(looks)
        study = Study(
            name="dust_or_defect",
            title="Dust or defect",
            findings=findings_of(looks, ways, ruled),
            tables=tables_of(looks, ways, ruled),
            plots=[plot_of(ways, ruled)],
            figures=figures_of(looks, ways, ruled, judged.threshold),
            settings=settings,
            seconds=time.perf_counter() - started,
            lost=training.lost + again.lost,
        )
        finish(study, out, compare=compare, tolerance=tolerance)


if __name__ == "__main__":
    typer.run(_main)
