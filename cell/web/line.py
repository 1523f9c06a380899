"""The process of the line, as the pages see it: its newest snapshot, and the commands that a person may give."""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Self

from cell.setup import Order
from cell.web.shift import run_shifts
from cell.web.snapshot import ALLOWED, Command, Snapshot

_LEAVING_S = 20.0


class LineProcess:
    """Owns the process in which the line runs; a context manager.

    Parameters
    ----------
    order : Order
        With one copy of the cell.
    model : Path
    records : str
        Address of the records.

    Notes
    -----
    Enter it before this process lowers its own priority: the line inherits it.
    """

    def __init__(self, order: Order, model: Path, records: str) -> None:
        self.order = order
        self.model = model
        self._records = records
        self._snapshot = Snapshot()

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        theirs, self._commands = context.Pipe(duplex=False)
        news, ours = context.Pipe(duplex=False)
        self._process = context.Process(
            target=run_shifts, args=(self.order, self.model, self._records, theirs, ours), name="line"
        )
        self._process.start()
        theirs.close()
        ours.close()  # so that the end of the process ends what is read from it
        threading.Thread(target=self._listen, args=(news,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join(_LEAVING_S)
        self._process.kill()

    @property
    def snapshot(self) -> Snapshot:
        """How the line stands."""
        return self._snapshot

    def ask(self, command: Command, who: str) -> None:
        """Hand a command to the line; one that makes no sense in its state is left."""
        if command in ALLOWED[self._snapshot.state]:
            self._commands.send((command, who))

    def _listen(self, news: Connection) -> None:
        while True:
            try:
                self._snapshot = news.recv()
            except (EOFError, OSError):
                break
        self._process.join()
        message = f"The process of the line has ended (exit code {self._process.exitcode}); start twinspect serve again"
        self._snapshot = Snapshot(state="gone", message=message)
