"""The process that makes a candidate, as the pages see it: apart from theirs and from the line's, and below both."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from cell.config import Loaded
from cell.interfaces import CellError
from cell.processes import end_with_parent
from cell.schema import PartFile
from detection import DetectionError

_NICENESS = 19
_LEAVING_S = 5.0


@dataclass(frozen=True)
class Making:
    """How the making of a candidate stands.

    Attributes
    ----------
    running : bool
    doing : str
        What is being done, and how much of it is `done` of how much there is.
    done, total : int
    problem : str
        Why the last one was not made; empty where it was, also where it then failed its challenge.
    """

    running: bool = False
    doing: str = ""
    done: int = 0
    total: int = 0
    problem: str = ""


class CandidateMaker:
    """Makes candidates of the line's model, one at a time; a context manager.

    Parameters
    ----------
    records : str
        Address of the records.
    model : Path
        What the line inspects with; candidates are made beside it.
    part : Loaded
    """

    def __init__(self, records: str, model: Path, part: Loaded[PartFile]) -> None:
        self._records = records
        self._model = model
        self._part = part
        self._now = Making()
        self._turn = threading.Lock()
        self._process: SpawnProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.join(_LEAVING_S)
            self._process.kill()

    @property
    def now(self) -> Making:
        """How it stands."""
        return self._now

    def start(self, who: str) -> None:
        """Begin to make one, in the name of a person; raises `CellError` while another one is made."""
        with self._turn:
            if self._now.running:
                raise CellError("A candidate is being made already")
            context = multiprocessing.get_context("spawn")
            news, theirs = context.Pipe(duplex=False)
            folder = self._model.with_name(f"{self._model.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
            self._process = context.Process(
                target=_make, args=(self._records, self._model, folder, self._part, who, theirs), name="candidate"
            )
            self._process.start()
            theirs.close()  # so that the end of the process ends what is read from it
            self._now = Making(running=True)
            threading.Thread(target=self._listen, args=(self._process, news), daemon=True).start()

    def _listen(self, process: SpawnProcess, news: Connection) -> None:
        problem = None
        while problem is None:
            try:
                told = news.recv()
            except (EOFError, OSError):
                process.join()
                problem = f"The process that made the candidate has ended (exit code {process.exitcode})"
            else:
                if isinstance(told, Making):
                    self._now = told
                else:
                    problem = told
        self._now = Making(problem=problem)


def _make(records: str, model: Path, folder: Path, part: Loaded[PartFile], who: str, news: Connection) -> None:
    """Make a candidate on one thread; at the end send why it could not be made, an empty text where it was."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    end_with_parent()
    os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    # Only this process pays for loading the network's libraries.
    import numba
    import torch

    from cell.candidates import make_candidate

    torch.set_num_threads(1)
    numba.set_num_threads(1)

    def tell(doing: str, done: int, total: int) -> None:
        news.send(Making(True, doing, done, total))

    try:
        make_candidate(records, model, folder, part, who=who, progress=tell)
    except (CellError, DetectionError, OSError) as error:
        news.send(str(error))
    else:
        news.send("")
