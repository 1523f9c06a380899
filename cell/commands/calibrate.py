"""`twinspect calibrate`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.table import Table

from cell.calibration.session import calibrate
from cell.commands.console import clearing, confirming, progress, require_writable, write_keeping, write_text
from cell.commands.console import out as screen
from cell.config import check, is_asset, load_cell, load_part, load_production
from cell.interfaces import ConfigError
from cell.schema import CellFile
from cell.setup import Order
from cell.written import with_values


def run_calibrate(cell: str, board: str, part: str, out: Path | None, seed: int, cleared_by: str | None) -> None:
    """Calibrate, write the cell file, and say how well pictures are predicted."""
    order = Order(load_cell(cell), load_part(board), load_production("board"), range(1), seed)
    if out is None and is_asset(order.cell.path):
        raise ConfigError(f"{order.cell.path} came with twinspect and stays as it is: say with --out where to write")
    target = order.cell.path if out is None else out
    require_writable(target)
    shown = load_part(part).content
    with progress("calibrating", len(order.part.content.view_names)) as bar:
        result = calibrate(order, shown, clear=clearing(cleared_by), confirm=confirming, progress=bar)
    before = order.cell.path.read_text(encoding="utf-8")
    after = with_values(before, result.values())
    now = datetime.now(UTC)
    check(yaml.safe_load(after), CellFile, f"{target} as calibrated")
    write_keeping(target, after)
    report = {
        "cell": str(order.cell.path),
        "written": str(target),
        "calibrated_at": now.isoformat(timespec="seconds"),
        "pictures": len(result.shots),
        "corners": len(result.after_px),
        "crop_of": shown.name,
        "errors_px_at_1024": {
            "cell file as it was": _figures(result.before_px),
            "camera with the nominal arm, held out": _figures(result.nominal_px),
            "camera and arm, held out": _figures(result.after_px),
        },
    }
    said = target.with_name(target.stem + ".calibration.json")
    write_text(said, json.dumps(report, indent=1) + "\n")
    table = Table(f"pixels of a 1024² crop of {shown.name}", "median", "95th percentile", "largest")
    for name, errors in (
        ("cell file as it was", result.before_px),
        ("camera with the nominal arm, held-out pictures", result.nominal_px),
        ("camera and arm, held-out pictures", result.after_px),
    ):
        table.add_row(name, *(f"{value:.2f}" for value in _figures(errors).values()))
    screen.print(table)
    screen.print(f"{len(result.shots)} pictures, {len(result.after_px)} corners; written to {target} and {said}")


def _figures(errors_px: NDArray[np.float64]) -> dict[str, float]:
    return {
        "median": round(float(np.median(errors_px)), 3),
        "p95": round(float(np.percentile(errors_px, 95)), 3),
        "largest": round(float(errors_px.max()), 3),
    }
