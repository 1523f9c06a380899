"""`twinspect inspect`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.table import Table
from rich.text import Text

from cell.commands.console import clearing, confirming, errors, progress
from cell.commands.console import out as screen
from cell.config import load_cell, load_part, load_production
from cell.inspection import inspect
from cell.records.address import shown
from cell.results import InspectedPart
from cell.setup import Order


def run_inspect(
    cell: str, part: str, model: Path, count: int, production: str, records: str, seed: int, cleared_by: str | None
) -> None:
    """Inspect, record, and list the verdicts."""
    order = Order(load_cell(cell), load_part(part), load_production(production), range(count), seed)
    done: list[InspectedPart] = []
    try:
        with progress("inspecting", count) as bar:
            for inspected in inspect(order, model, records, clear=clearing(cleared_by), confirm=confirming):
                done.append(inspected)
                bar(len(done))
                for alarm in inspected.alarms:
                    errors.print(f"{inspected.ticket.part_id}: {alarm}")
    finally:
        if done:
            screen.print(verdict_table(done))
    bins = Counter(inspected.verdict.bin for inspected in done)
    screen.print(f"{bins['ok']} ok, {bins['reject']} reject, {bins['recheck']} recheck; recorded in {shown(records)}")


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
