"""What `twinspect records` does and shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from cell.commands.console import out as screen
from cell.commands.console import progress, require_writable
from cell.interfaces import CellError, ConfigError
from cell.records.address import Address
from cell.records.database import Database
from cell.records.queries import (
    Inspection,
    alarms_of,
    audits,
    change,
    count_verdicts,
    decide,
    decisions_of,
    faults_of,
    newest,
    of_part,
)

_COLOURS = {"ok": "green", "reject": "red", "recheck": "yellow"}


def _coloured(verdict: str) -> Text:
    return Text(verdict, style=_COLOURS.get(verdict, ""))


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def run_list(records: str, last: int, lot: str | None, verdict: str | None) -> None:
    """List the newest inspections, the newest last."""
    with Database(Address.parse(records)) as database, database.reading() as session:
        found = newest(session, count=last, lot=lot, verdict=verdict)
        counts = count_verdicts(session)
        screen.print(parts_table(found[::-1]))
    screen.print(", ".join(f"{counts.get(name, 0)} {name}" for name in _COLOURS) + " on record")


def parts_table(inspections: Sequence[Inspection]) -> Table:
    """Return inspections as a table for the screen."""
    table = Table("entry", "begun (UTC)", "part", "lot", "verdict", "bin", "mass (g)", "cycle (s)", "reasons")
    for column in table.columns[:-1]:
        column.overflow = "fold"  # a name that is cut off names nothing
    for i in inspections:
        table.add_row(
            str(i.part.entry),
            i.begun.at[:19].replace("T", " "),
            i.part.part_id + (" (played back)" if i.part.audits else ""),
            i.part.lot,
            _coloured(i.stands),
            (i.ending.bin if i.ending else None) or "–",
            _number(i.verdict.mass_g if i.verdict else None, 3),
            _number(i.ending.cycle_s if i.ending else None, 1),
            "; ".join(i.verdict.reasons) if i.verdict else "",
        )
    return table


def run_show(records: str, part: str) -> None:
    """Show all inspections of a part, and the latest one whole."""
    with Database(Address.parse(records)) as database, database.reading() as session:
        found = of_part(session, part)
        screen.print(parts_table(found))
        latest = found[-1]
        run = latest.run
        screen.print(f"entry {latest.part.entry}, hash {latest.begun.hash}")
        screen.print(f"cell {run.cell}, model {run.model} ({run.model_hash[:12]}), run {run.entry}")
        for title, messages in (
            ("fault", [row.message for row in faults_of(session, latest.part.entry)]),
            ("alarm", [row.message for row in alarms_of(session, latest.part.entry)]),
            (
                "decision",
                [
                    f"{row.subject}: {row.decided}, by {row.who}: {row.why}"
                    for inspection in found
                    for row in decisions_of(session, inspection.part.entry)
                ],
            ),
        ):
            for message in messages:
                screen.print(f"{title}: {message}")
        if latest.ending is not None and latest.ending.fault:
            screen.print(f"not let go over a bin: {latest.ending.fault}")
        if latest.ending is not None and latest.ending.in_time:
            share, name = min((share, name) for name, share in latest.ending.in_time)
            percent = math.floor(10_000 * share) / 100
            screen.print(f"commands that the arm got in time: {percent:.2f} % at the least, on the way to {name}")
        if latest.verdict is not None:
            table = Table("view", "score", "threshold", "frame", "exposure (µs)", "retries", "picture")
            for view in latest.verdict.views:
                score, threshold = _number(view.score, 3), _number(latest.verdict.threshold, 3)
                exposure, retries = f"{view.exposure_us:g}", "–" if view.retries is None else str(view.retries)
                table.add_row(view.view, score, threshold, str(view.frame), exposure, retries, view.picture[:12])
            screen.print(table)


def run_verify(records: str) -> None:
    """Check all records; raise `CellError` when anything is wrong."""
    from cell.records.verification import verify

    with Database(Address.parse(records)) as database, progress("checking", None) as bar:
        result = verify(database, progress=lambda done, total: bar(done, total=total))
    for problem in result.problems:
        screen.print(problem)
    for part in result.under_way:
        screen.print(f"{part} is under way, or its line was interrupted")
    if result.unnamed:
        screen.print(f"{result.unnamed} picture files that no record names; `records prune` removes old ones")
    screen.print(
        f"{result.entries} entries, {result.inspections} inspections, {result.pictures} pictures; "
        f"hash of the last entry {result.head}"
    )
    if result.problems:
        raise CellError(f"{len(result.problems)} records are not what was written; compare with a copy of the records")


def run_export(records: str, out: Path, part: str | None) -> None:
    """Write a table or a certificate."""
    from cell.records.export import write_certificate, write_csv
    from cell.records.pictures import PictureStore

    require_writable(out)
    address = Address.parse(records)
    with Database(address) as database, database.reading() as session:
        out.parent.mkdir(parents=True, exist_ok=True)
        if part is not None:
            write_certificate(out, session, PictureStore(address.pictures), part)
        else:
            with progress("exporting", None) as bar:
                write_csv(out, session, progress=lambda done, total: bar(done, total=total))
    screen.print(f"written to {out}")


def run_compare(records: str) -> None:
    """List verdicts of then and now."""
    table = Table("part", "then", "model then", "now", "model now", "largest change of a score", "reasons now")
    with Database(Address.parse(records)) as database, database.reading() as session:
        pairs = audits(session)
        for first, again in pairs:
            scores = [{v.view: v.score for v in i.verdict.views} if i.verdict else {} for i in (first, again)]
            changes = [
                (abs(now - then), view)
                for view, then in scores[0].items()
                if then is not None and (now := scores[1].get(view)) is not None
            ]
            largest = max(changes, default=None)
            table.add_row(
                first.part.part_id,
                _coloured(first.stands),
                first.run.model_hash[:12],
                _coloured(again.stands),
                again.run.model_hash[:12],
                "–" if largest is None else f"{largest[0]:.3f} ({largest[1]})",
                "; ".join(again.verdict.reasons) if again.verdict else "",
            )
        same = sum(first.stands == again.stands for first, again in pairs)
    screen.print(table)
    screen.print(f"{same} of {len(pairs)} verdicts are the same")


def run_drift(records: str) -> None:
    """Show where the control charts of each cell stand."""
    from cell.records.drift import BASELINE, DriftWatch

    with Database(Address.parse(records)) as database:
        watch = DriftWatch(database)
    if not watch.lines:
        screen.print("no part that ended as ok is on record")
    for cell, line in watch.lines.items():
        section = line.section
        screen.print(f"{cell}, lot {section.lot}, model {section.model[:12]}, camera {section.camera[:12]}")
        table = Table("chart", "parts", "centre", "limits", "moving average", "")
        for name, chart in line.charts.items():
            if chart.centre is None:
                table.add_row(name, f"{len(chart.values)} of {BASELINE} for the baseline", "–", "–", "–", "")
                continue
            alarm = Text("outside", style="red") if chart.outside else Text("within", style="green")
            parts, limits = str(BASELINE + chart.count), f"± {chart.limit:.3g}"
            table.add_row(name, parts, f"{chart.centre:.4g}", limits, f"{chart.average:.4g}", alarm)
        screen.print(table)


def run_decide(records: str, part: str, verdict: str, who: str, why: str) -> None:
    """Record a decision about a part."""
    with Database(Address.parse(records)) as database:
        entry = decide(database, part, verdict, who=who, why=why)
    screen.print(f"entry {entry}: {part} is {verdict} by decision of {who}")


def run_change(records: str, subject: str, who: str, why: str) -> None:
    """Record a change at the cell."""
    with Database(Address.parse(records)) as database:
        entry = change(database, subject, who=who, why=why)
    screen.print(f"entry {entry}: {subject} changed; the control charts start anew")


def run_prune(records: str, cell: str) -> None:
    """Remove pictures by the cell's rule."""
    from cell.config import load_cell
    from cell.records.retention import prune, sweep

    loaded = load_cell(cell)
    rule = loaded.content.retention
    if rule is None:
        raise ConfigError(
            f"{loaded.path}: has no key retention, so all pictures stay; write e.g. retention: {{max_gb: 500}}"
        )
    with Database(Address.parse(records)) as database:
        pruned, swept = prune(database, rule), sweep(database)
    screen.print(
        f"{pruned.pictures} pictures removed ({pruned.bytes / 1e9:.2f} GB), {pruned.bytes_left / 1e9:.2f} GB left; "
        f"{swept} files of interrupted lines removed"
    )
    if pruned.bytes_left > rule.max_gb * 1e9:
        screen.print(f"the rule protects more than its {rule.max_gb:g} GB: add disk, or change the rule")
