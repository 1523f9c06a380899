"""`twinspect check --challenge`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import typer

from cell.challenge import Challenged, challenge, challenge_parts
from cell.commands.console import clearing, confirming, errors, progress, require_writable, write_text
from cell.commands.console import out as screen
from cell.commands.inspect import verdict_table
from cell.config import load_cell, load_part, load_production
from cell.interfaces import CellError
from cell.records.address import shown
from cell.schema import ProductionFile
from cell.setup import Order


def run_challenge(
    cell: str, part: str, model: Path, production: str, records: str, seed: int, out: Path, cleared_by: str | None
) -> None:
    """Inspect known parts, write ``report.md`` and ``report.json``, and fail where a verdict was wrong."""
    require_writable(out, holds="report.json")
    order = Order(load_cell(cell), load_part(part), load_production(production), range(1), seed)
    order = replace(order, numbers=range(challenge_parts(order)))
    lay_in = _simulated
    if order.cell.content.real:
        lay_in = partial(_ask_for, production=order.production.content)
        if not sys.stdin.isatty():
            raise CellError("A person lays the known parts in: run the challenge at a terminal")
    done: list[Challenged] = []
    with progress("challenging", len(order.numbers)) as bar:
        for known in challenge(order, model, records, lay_in=lay_in, clear=clearing(cleared_by), confirm=confirming):
            done.append(known)
            bar(len(done))
    wrong = [known.wrong for known in done if known.wrong is not None]
    report = {
        "cell": str(order.cell.path),
        "part": str(order.part.path),
        "model": str(model),
        "production": str(order.production.path),
        "records": shown(records),
        "challenged_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "released": not wrong,
        "wrong": wrong,
        "parts": [
            {
                "part_id": known.found.ticket.part_id,
                "declared": known.declared,
                "verdict": known.found.verdict.bin,
                "reasons": list(known.found.verdict.reasons),
                "views_over_threshold": list(known.found.views_over),
                "mass_g": known.found.weighing.mass_g if known.found.weighing else None,
            }
            for known in done
        ],
    }
    write_text(out / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "report.md", _markdown(report, done))
    screen.print(verdict_table([known.found for known in done]))
    if wrong:
        raise CellError(f"The line is not released: {'; '.join(wrong)}; the report is {out / 'report.md'}")
    screen.print(f"all {len(done)} verdicts are right, the line is released; the report is {out / 'report.md'}")


def _simulated(number: int) -> None:
    """Do nothing: a simulated source makes the part."""


def _ask_for(number: int, *, production: ProductionFile) -> None:
    errors.print(f"Lay known part {number + 1} at the feeder: a {production.batch_of(number).label} one.")
    if not typer.confirm("Does it lie there?"):
        raise CellError("The challenge was left; the line is as it was before")


def _markdown(report: dict[str, object], parts: Sequence[Challenged]) -> str:
    verdict = "The line is released." if report["released"] else "**The line is not released.**"
    rows = [
        f"| {known.found.ticket.part_id} | {known.declared} | {known.found.verdict.bin} | "
        f"{'right' if known.wrong is None else '**wrong**'} | {'; '.join(known.found.verdict.reasons)} |"
        for known in parts
    ]
    return "\n".join(
        (
            "# Challenge with known parts",
            "",
            f"{report['cell']}, {report['part']}, {report['model']}, {report['challenged_at']}. {verdict}",
            "",
            "| part | declared | verdict | | reasons |",
            "|---|---|---|---|---|",
            *rows,
            "",
        )
    )
