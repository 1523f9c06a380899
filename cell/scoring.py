"""Scoring in a process of its own, so that computing never disturbs the one that talks to the robot."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import CellError

if TYPE_CHECKING:
    from detection import Inspector, ViewScore

_WAITING = 4
_inspector: Inspector | None = None


def _load(model: Path, threads: int) -> None:
    """Load the models once in the scoring process."""
    # Only this process pays for loading the network's libraries.
    import numba
    import torch

    from detection import Inspector

    global _inspector
    torch.set_num_threads(threads)
    numba.set_num_threads(threads)
    _inspector = Inspector.load(model)


def _score(view: str, image: NDArray[np.uint8]) -> ViewScore:
    assert _inspector is not None
    return _inspector.score_view(view, image)


class ScoringProcess:
    """Scores pictures beside the motion.

    Parameters
    ----------
    model : Path
        Folder of the models.
    threads : int
        How many threads the network may use.

    Notes
    -----
    At most four pictures wait: a faster camera waits for the scorer, no picture is dropped.
    """

    def __init__(self, model: Path, *, threads: int) -> None:
        self._model = model
        self._threads = threads
        self._scores: dict[str, Future[ViewScore]] = {}

    def __enter__(self) -> Self:
        self._room = threading.BoundedSemaphore(_WAITING)
        self._pool = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_load,
            initargs=(self._model, self._threads),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, view: str, image: NDArray[np.uint8]) -> None:
        """Hand a picture over; waits while too many are under way."""
        self._room.acquire()
        try:
            future = self._pool.submit(_score, view, image)
        except BrokenProcessPool as error:
            self._room.release()
            raise self._gone() from error
        future.add_done_callback(lambda _: self._room.release())
        self._scores[view] = future

    def collect(self) -> dict[str, ViewScore]:
        """Wait for all pictures handed over since the last call and return their scores by view."""
        futures, self._scores = self._scores, {}
        try:
            return {view: future.result() for view, future in futures.items()}
        except BrokenProcessPool as error:
            raise self._gone() from error

    def _gone(self) -> CellError:
        return CellError(
            f"The scoring process ended while scoring with {self._model}: look for lack of memory; no verdict was given"
        )
