"""Scoring in a process of its own, so that computing never disturbs the one that talks to the robot."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import CellError
from cell.processes import end_with_parent
from detection import DetectionError

if TYPE_CHECKING:
    from detection import Inspector, ViewScore

_WAITING = 4
_MEMORY = "look for lack of memory"
_inspector: Inspector | None = None


def _load(model: Path, threads: int) -> None:
    """Load the models in the scoring process, every byte of them checked."""
    # Only this process pays for loading the network's libraries.
    import numba
    import torch

    from detection import Inspector

    global _inspector
    end_with_parent()
    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    _inspector = Inspector.load(model, verify=True)


def _score(view: str, image: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> tuple[ViewScore, float]:
    """Return the score and the seconds that it took."""
    assert _inspector is not None
    start = perf_counter()
    score = _inspector.score_view(view, image, mask=mask)
    return score, perf_counter() - start


class ScoringProcess:
    """Scores pictures beside the motion; a context manager.

    Parameters
    ----------
    model : Path
        Folder of the models. Entering loads them and raises `DetectionError` when they are not whole.
    threads : int
        How many threads the network may use.

    Attributes
    ----------
    seconds : dict of str to float
        How long each picture of the last `collect` was worked on, by view.

    Notes
    -----
    At most four pictures wait: a faster camera waits for the scorer, no picture is dropped. A picture that cannot
    be scored is a problem of its part, never an exception in the middle of a motion.
    """

    def __init__(self, model: Path, *, threads: int) -> None:
        self._model = model
        self._threads = threads
        self._scores: dict[str, Future[tuple[ViewScore, float]]] = {}
        self.seconds: dict[str, float] = {}
        self._problems: list[str] = []
        self._ended = False

    def __enter__(self) -> Self:
        self._room = threading.BoundedSemaphore(_WAITING)
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        try:
            self._pool.submit(_load, self._model, self._threads).result()
        except BaseException as error:
            self._pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise CellError(f"The scoring process ended while loading {self._model}: {_MEMORY}") from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, view: str, image: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> None:
        """Hand a picture over, and what to ignore in it; waits while too many are under way."""
        self._room.acquire()
        try:
            future = self._pool.submit(_score, view, image, mask)
        except BrokenProcessPool:
            self._room.release()
            self._note_end(view)
            return
        future.add_done_callback(lambda _: self._room.release())
        self._scores[view] = future

    def collect(self) -> tuple[dict[str, ViewScore], tuple[str, ...]]:
        """Wait for all pictures handed over since the last call.

        Returns
        -------
        scores : dict of str to ViewScore
            By view, of the pictures that could be scored.
        problems : tuple of str
            Why others could not.
        """
        futures, self._scores = self._scores, {}
        self.seconds = {}
        scores = {}
        for view, future in futures.items():
            try:
                scores[view], self.seconds[view] = future.result()
            except BrokenProcessPool:
                self._note_end(view)
            except DetectionError as error:
                self._problems.append(str(error))
        problems, self._problems = tuple(self._problems), []
        return scores, problems

    def require_alive(self) -> None:
        """Raise `CellError` when the process has ended: no further part could be scored."""
        if self._ended:
            raise CellError(f"The scoring process has ended, and with it the line: {_MEMORY}, then start again")

    def _note_end(self, view: str) -> None:
        self._ended = True
        self._problems.append(f"view {view}: the scoring process has ended: {_MEMORY}")
