"""`twinspect evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

from rich.table import Table

from cell.commands.console import out as screen
from cell.commands.console import progress, require_writable, write_text
from detection import Inspector, evaluate, read_dataset

_SHOWN = (
    "part_auroc",
    "image_auroc",
    "pixel_auroc",
    "pro",
    "tnr_at_full_tpr",
    "threshold_at_full_tpr",
    "tnr_at_full_tpr_on_grid",
    "threshold_at_full_tpr_on_grid",
    "tpr",
    "tnr",
    "threshold",
    "parts_good",
    "parts_defective",
    "parts_recheck",
    "images_per_second",
)


def run_evaluate(dataset: Path, model: Path, file: Path) -> None:
    """Write the figures and show the main ones."""
    require_writable(file)
    inspector = Inspector.load(model)
    with progress("scoring", None) as report:
        evaluation = evaluate(
            read_dataset(dataset), inspector, progress=lambda doing, done, total: report(done, doing, total)
        )
    figures = evaluation.to_json()
    write_text(file, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    table = Table("figure", "value", "95 % interval", title=f"{model} on {dataset}")
    for name in _SHOWN:
        value, interval = figures[name], figures.get(f"{name}_interval")
        table.add_row(
            name,
            "–" if value is None else f"{value:.4g}",
            f"{interval[0]:.3f} – {interval[1]:.3f}" if interval else "",
        )
    screen.print(table)
