"""`twinspect candidate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cell.commands.records import DEFAULT_RECORDS, Records

# As in `cell.commands`: each command imports what it needs when it runs.

candidate_app = typer.Typer(
    name="candidate",
    help="Extend a model by parts that people confirmed as good, challenge it, and release it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@candidate_app.command()
def make(
    model: Annotated[Path, typer.Option(help="The model to extend: trained with --keep-state, or a candidate.")],
    part: Annotated[str, typer.Option(help="Part: a name under assets/parts or the path of a part file.")],
    out: Annotated[Path, typer.Option(help="New folder for the candidate.")],
    who: Annotated[str, typer.Option(help="Who has it made; another person has to release it.")],
    records: Records = DEFAULT_RECORDS,
) -> None:
    """Learn from confirmed parts and challenge the candidate with known parts; exit code 1 when it fails."""
    from cell.candidates import make_candidate
    from cell.commands.console import out as screen
    from cell.commands.console import progress
    from cell.config import load_part
    from cell.interfaces import CellError

    with progress("extending", None) as bar:
        wrong = make_candidate(
            records,
            model,
            out,
            load_part(part),
            who=who.strip(),
            progress=lambda doing, done, total: bar(done, doing, total),
        )
    if wrong:
        raise CellError(f"The candidate {out} failed its challenge: {'; '.join(wrong)}")
    screen.print(f"{out} told all known parts apart; a person other than {who} may release it")


@candidate_app.command()
def release(
    candidate: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a candidate.")],
    who: Annotated[str, typer.Option(help="The person who releases: not the one who had it made.")],
    why: Annotated[str, typer.Option(help="The reason.")],
    records: Records = DEFAULT_RECORDS,
) -> None:
    """Let a candidate that passed its challenge inspect; no line changes by itself."""
    from cell.candidates import release_candidate
    from cell.commands.console import out as screen
    from cell.records.address import Address
    from cell.records.candidates import candidate_of
    from cell.records.database import Database
    from cell.records.run import description_of

    with Database(Address.parse(records)) as database:
        with database.reading() as session:
            found = candidate_of(session, description_of(candidate)).record.entry
        entry = release_candidate(database, found, who=who.strip(), why=why.strip())
    screen.print(f"entry {entry}: {who} released {candidate}; name it with --model at the next start")


@candidate_app.command("list")
def list_candidates(records: Records = DEFAULT_RECORDS) -> None:
    """Show the newest candidates and how far they got."""
    from rich.table import Table

    from cell.commands.console import out as screen
    from cell.records.address import Address
    from cell.records.candidates import newest_candidates
    from cell.records.database import Database

    table = Table("entry", "made (UTC)", "by", "model", "new parts", "threshold", "state", "wrong verdicts, release")
    with Database(Address.parse(records)) as database, database.reading() as session:
        for found in newest_candidates(session, count=50)[::-1]:
            said = "; ".join(found.result.wrong) if found.result else ""
            if found.approval is not None:
                said = f"{found.approval.who}: {found.approval.why}"
            row = found.record
            table.add_row(
                str(row.entry),
                found.made_at[:19].replace("T", " "),
                row.made_by,
                row.model,
                str(len(found.confirmed_by)),
                f"{found.threshold:.3f}",
                found.state,
                said,
            )
    screen.print(table)
