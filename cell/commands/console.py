"""What the commands share on the screen."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cell.interfaces import CellError, ConfigError
from cell.start import Clear, refuse_uncleared, refuse_unconfirmed
from detection import DetectionError

out = Console(highlight=False, soft_wrap=True, markup=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


class Report(Protocol):
    """Told how much of a task is done, and what is being done if that changed."""

    def __call__(self, done: int, doing: str | None = None, total: int | None = None) -> None:
        """Redraw the bar."""
        ...


@contextmanager
def progress(doing: str, total: int | None) -> Iterator[Report]:
    """Show a bar on standard error while something long runs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(doing, total=total)

        def report(done: int, doing: str | None = None, total: int | None = None) -> None:
            bar.update(task, completed=done, total=total, description=doing)

        yield report


@contextmanager
def answering() -> Iterator[None]:
    """Say in one sentence on standard error what was refused or failed, and exit with code 1; with 130 after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except (CellError, DetectionError, OSError) as error:
        errors.print(f"error: {error}", style="red")
        sys.exit(1)


def clearing(cleared_by: str | None) -> Clear:
    """Return how a person is asked to empty hand and scale; a name given beforehand is the answer."""
    return partial(_ask_to_clear, cleared_by=cleared_by)


def _ask_to_clear(found: Sequence[str], *, cleared_by: str | None) -> str:
    for what in found:
        errors.print(what)
    if cleared_by:
        return cleared_by
    if not sys.stdin.isatty():
        return refuse_uncleared(found)
    errors.print(
        "Put what lies on the scale or is in the hand into the bin recheck. What the hand still holds it lets go when "
        "you answer: hold it."
    )
    if not typer.confirm("Is the scale empty, and may the hand open?"):
        return refuse_uncleared(found)
    return str(typer.prompt("Your name"))


def confirming(way: str) -> None:
    """Have a person agree that a real arm goes a way for the first time; see `cell.start.Confirm`."""
    if not sys.stdin.isatty():
        refuse_unconfirmed(way)
    errors.print(f"The arm goes {way} for the first time, at a tenth of its speed. Keep the stop button in your hand.")
    if not typer.confirm("Go?"):
        raise CellError(f"The arm was not allowed to go {way}; it stands where it was")


def require_writable(path: Path, *, holds: str | None = None) -> None:
    """Refuse a place that cannot be written, before hours are spent on what would go there.

    Parameters
    ----------
    path : Path
        Of a file to be written, or of a folder.
    holds : str, optional
        For a folder: a file by which one that may be replaced is recognised.
    """
    if holds is None and path.is_dir():
        raise ConfigError(f"{path}: is a folder, not a file")
    taken = path.exists() and not (path.is_dir() and not any(path.iterdir()))
    if holds is not None and taken and not (path / holds).is_file():
        raise ConfigError(f"{path}: exists and holds something else; choose another place or remove it")
    existing = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_keeping(path: Path, text: str) -> None:
    """Write a file that a person keeps; what was there before stays beside it."""
    if path.exists():
        kept = path.with_name(f"{path.name}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        write_text(kept, path.read_text(encoding="utf-8"))
        out.print(f"the file as it was: {kept}")
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(path.name + ".part")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
