"""What the commands share on the screen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cell.interfaces import ConfigError

out = Console(highlight=False, soft_wrap=True)


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


def require_writable(path: Path) -> None:
    """Refuse a path under which nothing can be written, before hours are spent on what would go there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
