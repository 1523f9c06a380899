"""`twinspect demo`: the whole way, from pictures of good parts to verdicts on parts that nobody has seen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from cell.collecting import collect
from cell.commands.console import out as screen
from cell.commands.console import progress, write_text
from cell.commands.inspect import verdict_table
from cell.commands.train import run_train
from cell.config import Loaded, load_cell, load_part, load_production
from cell.inspection import inspect
from cell.interfaces import ConfigError
from cell.report import Run, read_truth, summary, write_report
from cell.schema import CellFile
from cell.setup import Order

_TRAINING_PARTS = 16
_INSPECTED_PARTS = 16
# 0.6 MP: half the pictures' cost, and still twice as fine as what the network sees.
_PICTURE = {"width": 912, "height": 684}
# SQLite keeps two more files beside a database that was not closed.
_RECORDS = ("records.sqlite", "records.sqlite-shm", "records.sqlite-wal", "records.sqlite.pictures")
_MADE = ("training", "model", "inspection", "report.html", "summary.json", *_RECORDS)


def run_demo(out: Path, seed: int) -> None:
    """Collect, train, inspect, report."""
    start = perf_counter()
    _clear(out)
    cell, part = _with_small_pictures(load_cell("twin")), load_part("ring")
    training = Order(cell, part, load_production("good"), range(_TRAINING_PARTS), seed)
    # Another seed: the good parts that are inspected are not those that were trained on.
    inspected = Order(
        cell, part, load_production("mixed"), range(_INSPECTED_PARTS), seed + 1, out / "inspection" / "truth"
    )

    with progress("collecting good parts", _TRAINING_PARTS) as bar:
        collect(training, out / "training", progress=bar)
    inspector = run_train(
        out / "training", out / "model", config="default", weights=None, train_parts=None, keep_state=False, model={}
    )
    parts = []
    with progress("inspecting unseen parts", _INSPECTED_PARTS) as bar:
        for result in inspect(inspected, out / "model", f"sqlite:///{out / 'records.sqlite'}"):
            parts.append(result)
            bar(len(parts))

    truths = read_truth(out / "inspection" / "truth")
    run = Run(tuple(parts), tuple(truths[p.ticket.part_id] for p in parts), inspector.info.config.vote.k)
    figures = summary(run, seconds=perf_counter() - start)
    settings = [
        ("command", f"twinspect demo --seed {seed}"),
        (
            "versions",
            ", ".join(f"{name} {version(name)}" for name in ("twinspect", "torch", "numpy", "pybullet")),
        ),
        ("training parts", str(_TRAINING_PARTS)),
        ("network", f"{inspector.info.backbone}, {len(inspector.views)} views"),
        ("configuration", inspector.info.config.model_dump_json()),
    ]
    write_report(out / "report.html", run, mass=part.content.mass, settings=settings)
    write_text(out / "summary.json", json.dumps(figures, indent=1, allow_nan=False) + "\n")

    screen.print(verdict_table(parts))
    for name, rate in (("TPR", run.tpr), ("TNR", run.tnr)):
        if rate is not None:
            screen.print(f"{name} {rate.value:.3f} (95 % interval {rate.low:.3f} to {rate.high:.3f})")
    screen.print(f"{figures['seconds']:.0f} s; open {out / 'report.html'}")


def _clear(out: Path) -> None:
    """Remove what an earlier demo left in its folder; refuse a folder that holds anything else."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file; give a folder with --out")
    left = list(out.iterdir()) if out.exists() else []
    foreign = sorted(path.name for path in left if path.name not in _MADE)
    if foreign:
        raise ConfigError(f"{out}: holds {foreign[0]}, which no demo made; give another folder with --out")
    for path in left:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _with_small_pictures(cell: Loaded[CellFile]) -> Loaded[CellFile]:
    entry = cell.content.camera
    camera = entry.model_validate({"class": entry.path, **entry.options, **_PICTURE})
    return replace(cell, content=cell.content.model_copy(update={"camera": camera}))
