"""`twinspect collect`."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

from cell.collecting import collect
from cell.commands.console import clearing, confirming, progress
from cell.commands.console import out as screen
from cell.config import load_cell, load_part, load_production
from cell.setup import Order


def run_collect(
    cell: str, part: str, count: int, out: Path, production: str, seed: int, cleared_by: str | None
) -> None:
    """Write a dataset and say what is in it."""
    order = Order(load_cell(cell), load_part(part), load_production(production), range(count), seed)
    start = perf_counter()
    with progress("collecting parts", count) as report:
        done = collect(order, out, clear=clearing(cleared_by), confirm=confirming, progress=report)
    pictures = done * len(order.part.content.view_names)
    screen.print(f"{done} parts, {pictures} pictures in {perf_counter() - start:.0f} s: {out}")
    if done < count:
        screen.print(f"{count - done} parts could not be inspected whole and were left out")
