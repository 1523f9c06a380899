"""Whether the same part gets the same verdict again: an attribute gauge study, and how far each view's score spreads.

``python -m scenarios.repeatability --out DIR --preset full`` has the twin make good and defective parts, each of which
comes to the cell several times and is grasped anew. ``--cell`` takes another cell: on a real one a person lays each
piece down again, and ``--model`` says by which model it is judged. ``--dataset`` reads pictures that are there, with
the columns `piece` and `condition` in their truth table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from distributed import Client
from matplotlib.figure import Figure

from cell.commands.console import answering
from cell.config import load_cell, load_detection, load_part, load_production
from cell.interfaces import ConfigError
from cell.setup import Order
from detection.config import ModelConfig
from detection.description import DESCRIPTION_FILE, InspectorInfo
from detection.storage import sha256_of_file
from scenarios import options
from scenarios.agreement import (
    VERDICTS,
    Agreement,
    Piece,
    Spread,
    agreements_of,
    masses_of,
    pieces_of,
    spread_of,
    spreads_of,
)
from scenarios.frozen import Configured, judged_by, trained_and_judged
from scenarios.gauge import collected_by_hand, pieces_in, visits_of
from scenarios.made_parts import FULL_PARTS, QUICK_PARTS, PaperParts, inspected_under, paper_order
from scenarios.material import TRAINING, Material, read_material, split_training
from scenarios.study import Plot, Study, Table, begin, estimate_json, finish, shown
from scenarios.workers import workers


@dataclass(frozen=True)
class Preset:
    """How large a study is.

    Attributes
    ----------
    trained : int
        Good parts, seen once, that train.
    good, defective : int
        Parts that are inspected again and again.
    visits : int
        So often.
    resolution : int
        Of the network's input.
    camera : mapping
        Pixels of the twin's camera.
    """

    trained: int
    good: int
    defective: int
    visits: int
    resolution: Literal[256, 512]
    camera: Mapping[str, int]


PRESETS = {
    "quick": Preset(16, 4, 4, 4, 256, QUICK_PARTS.camera),
    "full": Preset(47, 16, 16, 10, 512, FULL_PARTS.camera),
}


def tables_of(
    pieces: Sequence[Piece],
    agreements: Sequence[Agreement],
    spreads: Mapping[str, Spread],
    mass: Spread | None,
) -> list[Table]:
    """Return agreement, spread by view, mass, and every piece."""
    rows: list[tuple[Any, ...]] = [
        (name, spread.within, spread.between, spread.share_within) for name, spread in spreads.items()
    ]
    header = ("standard deviation within pieces", "between pieces", "share of the variance that is within")
    tables = [
        Table(
            "agreement",
            "Verdicts of the same piece, inspected again",
            ("pieces of", "pieces", "share that always ended alike", "share that was always right", "Fleiss' kappa"),
            [(each.group, each.pieces, each.alike, each.right, each.kappa) for each in agreements],
        ),
        Table("spread", "Scores of the same piece, in units of T", ("view", *header), rows),
    ]
    if mass is not None:
        titles = ("standard deviation within pieces (g)", "between pieces (g)", header[2])
        tables.append(Table("mass", "Mass", titles, [(mass.within, mass.between, mass.share_within)]))
    return [
        *tables,
        Table(
            "pieces",
            "Every piece",
            ("piece", "what it is", "visits", *VERDICTS, "smallest statistic / T", "largest statistic / T"),
            [
                (
                    each.name,
                    each.said,
                    len(each.statistics),
                    *(each.verdicts.count(verdict) for verdict in VERDICTS),
                    _finite(each.statistics.min()),
                    _finite(each.statistics.max()),
                )
                for each in pieces
            ],
        ),
    ]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def findings_of(agreements: Sequence[Agreement], spreads: Mapping[str, Spread], mass: Spread | None) -> list[str]:
    """Return what the page says first."""
    said = []
    for each in agreements:
        kappa = "every verdict is the same" if each.kappa is None else f"Fleiss' kappa {shown(each.kappa)}"
        said.append(
            f"Of {each.pieces} pieces ({each.group}) {shown(each.alike)} always ended alike and {shown(each.right)} "
            f"were always right; {kappa}."
        )
    of_views = {name: spread for name, spread in spreads.items() if name != "part's statistic"}
    if of_views:
        worst = max(of_views, key=lambda name: of_views[name].within)
        said.append(
            f"The same piece's score spreads by {np.median([each.within for each in of_views.values()]):.3f} T "
            f"(standard deviation, median of the views), most in {worst}: {of_views[worst].within:.3f} T."
        )
    if mass is not None:
        said.append(f"The same piece's mass spreads by {mass.within:.4f} g (standard deviation).")
    return said


def figures_of(
    agreements: Sequence[Agreement], spreads: Mapping[str, Spread], mass: Spread | None, threshold: float
) -> dict[str, Any]:
    """Return the numbers of `summary.json`."""
    return {
        "threshold": threshold,
        "agreement": {
            each.group: {
                "pieces": each.pieces,
                "alike": estimate_json(each.alike),
                "right": estimate_json(each.right),
                "kappa": estimate_json(each.kappa),
            }
            for each in agreements
        },
        "within_T": {name: spread.within for name, spread in spreads.items()},
        "between_T": {name: spread.between for name, spread in spreads.items()},
        "mass_within_g": None if mass is None else mass.within,
    }


def plots_of(pieces: Sequence[Piece], spreads: Mapping[str, Spread], *, where: str) -> list[Plot]:
    """Draw every visit of every piece against T, and the spread of each view."""
    ordered = sorted(pieces, key=lambda each: (not each.good, float(np.median(each.statistics))))
    figure = Figure(figsize=(max(7.0, 0.28 * len(pieces)), 5), layout="constrained")
    axes = figure.subplots()
    for at, each in enumerate(ordered):
        colour = "#1b7f4b" if each.good else "#8c959f" if each.beyond else "#b3261e"
        finite = each.statistics[np.isfinite(each.statistics)]
        axes.plot(np.full(len(finite), at), finite, ".", color=colour, alpha=0.6)
    axes.axhline(1, color="#57606a", linewidth=0.8)
    axes.set_xticks(range(len(ordered)), [each.said for each in ordered], rotation=90, fontsize=7)
    axes.set_yscale("log")
    axes.set_xlabel("piece (green: good, red: defective, grey: beyond the vote)")
    axes.set_ylabel("statistic of each visit (units of T)")
    figure.suptitle(f"The same pieces, grasped anew each time{where}", fontsize=10)

    names = list(spreads)
    bars = Figure(figsize=(7, 0.3 * len(names) + 1.2), layout="constrained")
    axes = bars.subplots()
    places = np.arange(len(names))
    axes.barh(places - 0.2, [spreads[name].within for name in names], 0.4, color="#1f6feb", label="within pieces")
    axes.barh(places + 0.2, [spreads[name].between for name in names], 0.4, color="#d0d7de", label="between pieces")
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("standard deviation of the score (units of T)")
    axes.set_ylabel("view")
    axes.legend(fontsize=8)
    return [
        Plot("visits", "Statistic of every visit", figure),
        Plot("spread", "Spread of the scores, view by view", bars),
    ]


def _materials(
    client: Client,
    preset: Preset,
    *,
    dataset: Path | None,
    cell: str,
    part: str,
    production: str,
    model: Path | None,
    seed: int,
    folder: Path,
) -> tuple[Material | None, Material]:
    """Parts to train with, None where there is a model, and the pieces that came again and again."""
    if dataset is not None:
        read = read_material(dataset)
        if model is None:
            return split_training(read)
        return None, replace(read, parts=tuple(each for each in read.parts if each.condition != TRAINING))
    loaded, made = load_cell(cell), load_production(production)
    order, pieces = (
        Order(loaded, load_part(part), made, (), seed + 1),
        pieces_in(made.content, good=preset.good, defective=preset.defective),
    )
    if model is None and loaded.content.real:
        raise ConfigError(f"{loaded.path}: give a model of this real cell with --model")
    if loaded.content.real:
        assert model is not None
        made_for = InspectorInfo.load(model).made_for
        return None, collected_by_hand(order, pieces, preset.visits, folder, made_for=made_for)
    if model is not None:
        return None, inspected_under(client, {"again": visits_of(order, pieces, preset.visits)}, folder)
    training = paper_order(PaperParts(preset.trained, 1, preset.camera), cell=cell, part=part, seed=seed)
    again = visits_of(replace(order, cell=training.cell), pieces, preset.visits)
    orders = {TRAINING: replace(training, numbers=range(preset.trained)), "again": again}
    return split_training(inspected_under(client, orders, folder))


def _main(
    out: options.Out,
    preset: options.PresetName = "quick",
    seed: options.Seed = 0,
    cell: Annotated[str, typer.Option(help="name or path of a cell file, of the twin or a real one")] = "twin",
    part: options.Part = "ring",
    production: Annotated[str, typer.Option(help="name or path of a production file: the pieces")] = "gauge",
    model: Annotated[Path | None, typer.Option(help="judge by this model, instead of one that is trained here")] = None,
    config: Annotated[str, typer.Option(help="name or path of a detection file, for training")] = "default",
    dataset: options.Dataset = None,
    scheduler: options.Scheduler = None,
    compare: options.Compare = None,
    tolerance: options.Tolerance = 0.02,
) -> None:
    """Find whether the same piece gets the same verdict again."""
    started = time.perf_counter()
    with answering():
        chosen = options.preset_of(PRESETS, preset)
        detection = load_detection(config).content if model is None else InspectorInfo.load(model).config
        padim = ModelConfig(resolution=chosen.resolution)
        settings = {
            "command": f"python -m scenarios.repeatability --preset {preset} --seed {seed}",
            **options.material_settings(cell=cell, part=part, productions=("paper", production), dataset=dataset),
            "visits": chosen.visits,
            "camera": dict(chosen.camera) if model is None else None,
            "configuration": detection.model_dump(),
            "model": padim.model_dump() if model is None else sha256_of_file(model / DESCRIPTION_FILE),
        }
        begin(out, settings)
        with workers(scheduler) as client:
            training, again = _materials(
                client,
                chosen,
                dataset=dataset,
                cell=cell,
                part=part,
                production=production,
                model=model,
                seed=seed,
                folder=out / "pictures",
            )
            if training is not None:
                what = {"cell": Configured(detection, padim, masked=training.dataset.masked)}
                judged = trained_and_judged(client, what, training, again, out / "judged")["cell"]
            else:
                assert model is not None
                _refuse_other_cell(model, again)
                judged = judged_by(client, {"cell": model}, again, out / "judged")["cell"]
        pieces = pieces_of(again, judged, k=min(detection.vote.k, len(again.views)))
        agreements, spreads, mass = agreements_of(pieces), spreads_of(again, judged), spread_of(masses_of(again))
        study = Study(
            name="repeatability",
            title="The same piece again",
            findings=findings_of(agreements, spreads, mass),
            tables=tables_of(pieces, agreements, spreads, mass),
            plots=plots_of(pieces, spreads, where=_where(cell, dataset)),
            figures=figures_of(agreements, spreads, mass, judged.threshold),
            settings=settings,
            seconds=time.perf_counter() - started,
            lost=(() if training is None else training.lost) + again.lost,
        )
        finish(study, out, compare=compare, tolerance=tolerance)


def _where(cell: str, dataset: Path | None) -> str:
    if dataset is not None:
        return ""
    return f" ({cell})" if load_cell(cell).content.real else ", in simulation"


def _refuse_other_cell(model: Path, material: Material) -> None:
    info = InspectorInfo.load(model)
    if info.views != material.views or info.made_for != material.dataset.made_for:
        raise ConfigError(
            f"{model}: was not trained with pictures of this part and cell as it stands; collect a dataset with it and "
            "train on that"
        )


if __name__ == "__main__":
    typer.run(_main)
