"""`twinspect records`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

# As in `cell.commands`: each command imports what it needs when it runs.

records_app = typer.Typer(
    name="records", help="List, check and export what was inspected.", no_args_is_help=True, rich_markup_mode=None
)

Records = Annotated[str, typer.Option(help="Database of the records.")]
Who = Annotated[str, typer.Option(help="The person who decides.")]
Why = Annotated[str, typer.Option(help="The reason.")]
PartId = Annotated[str, typer.Argument(metavar="PART", help="Name of a part.")]
DEFAULT_RECORDS = "sqlite:///runs/records.sqlite"


@records_app.command("list")
def list_parts(
    records: Records = DEFAULT_RECORDS,
    last: Annotated[int, typer.Option(min=1, help="How many.")] = 50,
    lot: Annotated[str | None, typer.Option(help="Only of this lot.")] = None,
    verdict: Annotated[Literal["ok", "reject", "recheck"] | None, typer.Option(help="Only those.")] = None,
) -> None:
    """Show the newest parts."""
    from cell.commands.records_shown import run_list

    run_list(records, last, lot, verdict)


@records_app.command()
def show(part: PartId, records: Records = DEFAULT_RECORDS) -> None:
    """Show everything about a part."""
    from cell.commands.records_shown import run_show

    run_show(records, part)


@records_app.command()
def verify(records: Records = DEFAULT_RECORDS) -> None:
    """Check the chain of hashes, every picture, and bins against verdicts; exit code 1 when anything is wrong."""
    from cell.commands.records_shown import run_verify

    run_verify(records)


@records_app.command()
def export(
    out: Annotated[Path, typer.Option(help="File: a table (CSV), or with --part a certificate (HTML).")],
    part: Annotated[str | None, typer.Option(help="Name of a part.")] = None,
    records: Records = DEFAULT_RECORDS,
) -> None:
    """Write all parts as a table, or the certificate of one."""
    from cell.commands.records_shown import run_export

    run_export(records, out, part)


@records_app.command()
def compare(records: Records = DEFAULT_RECORDS) -> None:
    """Compare the verdicts of parts that the replay cell inspected again with those before."""
    from cell.commands.records_shown import run_compare

    run_compare(records)


@records_app.command()
def drift(records: Records = DEFAULT_RECORDS) -> None:
    """Show the control charts of scores and mass."""
    from cell.commands.records_shown import run_drift

    run_drift(records)


@records_app.command()
def decide(
    part: PartId,
    verdict: Annotated[Literal["ok", "reject", "recheck"], typer.Argument(help="What the part is.")],
    who: Who,
    why: Why,
    records: Records = DEFAULT_RECORDS,
) -> None:
    """Record what a person decided about a part; what the line found stays beside it."""
    from cell.commands.records_shown import run_decide

    run_decide(records, part, verdict, who, why)


@records_app.command()
def change(
    subject: Annotated[Literal["light", "camera"], typer.Argument(help="What a person changed at the cell.")],
    who: Who,
    why: Why,
    records: Records = DEFAULT_RECORDS,
) -> None:
    """Record a change of light or camera: the control charts start anew."""
    from cell.commands.records_shown import run_change

    run_change(records, subject, who, why)


@records_app.command()
def prune(
    cell: Annotated[str, typer.Option(help="The cell whose file holds the rule, under `retention`.")],
    records: Records = DEFAULT_RECORDS,
) -> None:
    """Remove the pictures that the rule lets go, and files that interrupted lines left more than a day ago."""
    from cell.commands.records_shown import run_prune

    run_prune(records, cell)
