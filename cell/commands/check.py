"""`twinspect check`."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.table import Table
from rich.text import Text

from cell.checks import Step, check_cell
from cell.commands.console import out as screen
from cell.commands.console import progress, require_writable, write_text
from cell.config import load_cell, load_part, load_production
from cell.interfaces import CellError, ConfigError
from cell.setup import Devices, Order

_PACKAGES = ("twinspect", "numpy", "pypylon", "pyserial", "panda-python", "pybullet")


def run_check(cell: str, part: str, out: Path) -> None:
    """Try every device, write ``report.md`` and ``report.json``, and fail where one failed."""
    require_writable(out, holds="report.json")
    order = _order(cell, part)
    steps = []
    with progress("checking", None) as bar:
        for step in check_cell(order):
            steps.append(step)
            bar(len(steps), step.device)
    report = {
        "cell": str(order.cell.path),
        "kind": order.cell.content.kind,
        "checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(),
        "ok": all(step.ok for step in steps),
        "steps": [asdict(step) | {"seconds": round(step.seconds, 3)} for step in steps],
    }
    write_text(out / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_text(out / "report.md", _markdown(report, steps))
    screen.print(_table(steps))
    failed = [step for step in steps if not step.ok]
    if failed:
        raise CellError(f"{len(failed)} of {len(steps)} steps failed; the report is {out / 'report.md'}")
    screen.print(f"all {len(steps)} steps went well; the report is {out / 'report.md'}")


def run_recording(cell: str, part: str, file: Path, seconds: float) -> None:
    """Write down what the cell's scale sends, with a dialect proposed from it."""
    require_writable(file)
    order = _order(cell, part)
    screen.print(
        f"Recording for {seconds:.0f} s: leave the pan empty, put a part on it, wait until it rests, tare, take the "
        "part off, wait again. The scale must be set to send continuously."
    )
    with Devices(order) as devices:
        for name in ("world", "clock"):
            devices.connect(name)
        scale = devices.connect("scale")
        if not hasattr(scale, "record"):
            raise ConfigError(f"{order.cell.path}: scale: {order.cell.content.scale.path} is on no serial line")
        heard, line = scale.record(seconds), scale.line
    # Only a cell with a scale on a serial line needs its package.
    from cell.drivers.scale_recording import propose

    write_text(file, propose(heard, line))
    screen.print(f"{len(heard)} bytes heard; read, correct and name {file}, then give its path as the scale's dialect")


def _order(cell: str, part: str) -> Order:
    return Order(load_cell(cell), load_part(part), load_production("good"), range(1))


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0], "system": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _markdown(report: dict[str, object], steps: Sequence[Step]) -> str:
    verdict = "Every step went well." if report["ok"] else "**Not every step went well.**"
    rows = [
        f"| {step.device} | {step.action} | {'ok' if step.ok else '**failed**'} | {step.seconds:.2f} | "
        f"{step.said.replace('|', chr(92) + '|')} |"
        for step in steps
    ]
    versions = [f"- {name}: {number}" for name, number in _versions().items()]
    return "\n".join(
        (
            f"# Check of the cell {report['kind']}",
            "",
            f"{report['cell']}, {report['checked_at']}. {verdict}",
            "",
            "| device | action | result | seconds | seen |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "## Versions",
            "",
            *versions,
            "",
        )
    )


def _table(steps: Sequence[Step]) -> Table:
    table = Table("device", "action", "result", "s", "seen")
    for step in steps:
        result = Text("ok", style="green") if step.ok else Text("failed", style="red")
        table.add_row(step.device, step.action, result, f"{step.seconds:.2f}", step.said)
    return table
