"""`twinspect inspect`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cell.commands.console import out as screen
from cell.commands.console import progress
from cell.config import load_cell, load_part, load_production
from cell.inspection import inspect, refuse_uncleared
from cell.records.address import shown
from cell.records.recovery import Interrupted
from cell.results import InspectedPart
from cell.setup import Order

errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def run_inspect(
    cell: str, part: str, model: Path, count: int, production: str, records: str, seed: int, cleared_by: str | None
) -> None:
    """Inspect, record, and list the verdicts."""
    order = Order(load_cell(cell), load_part(part), load_production(production), range(count), seed)
    done: list[InspectedPart] = []
    try:
        with progress("inspecting", count) as bar:
            for inspected in inspect(order, model, records, clear=partial(_clear, cleared_by=cleared_by)):
                done.append(inspected)
                bar(len(done))
                for alarm in inspected.alarms:
                    errors.print(f"{inspected.ticket.part_id}: {alarm}")
    finally:
        if done:
            screen.print(verdict_table(done))
    bins = Counter(inspected.verdict.bin for inspected in done)
    screen.print(f"{bins['ok']} ok, {bins['reject']} reject, {bins['recheck']} recheck; recorded in {shown(records)}")


def _clear(left: Sequence[Interrupted], *, cleared_by: str | None) -> str:
    """Say what an interrupted line left, and have a person look at hand and scale."""
    for part in left:
        errors.print(str(part))
    if cleared_by:
        return cleared_by
    if not sys.stdin.isatty():
        return refuse_uncleared(left)
    errors.print("Take what lies on the scale or hangs in the hand, and put it into the bin recheck.")
    if not typer.confirm("Are hand and scale empty now?"):
        return refuse_uncleared(left)
    return str(typer.prompt("Your name"))


def verdict_table(parts: list[InspectedPart]) -> Table:
    """Return the verdicts as a table for the screen."""
    table = Table("part", "verdict", "views over T", "mass (g)", "cycle (s)", "reasons")
    colours = {"ok": "green", "reject": "red", "recheck": "yellow"}
    for part in parts:
        table.add_row(
            part.ticket.part_id,
            Text(part.verdict.bin, style=colours[part.verdict.bin]),
            str(len(part.views_over)),
            f"{part.weighing.mass_g:.3f}" if part.weighing else "–",
            f"{part.cycle_s:.1f}" if part.cycle_s is not None else "–",
            "; ".join(part.verdict.reasons),
        )
    return table
