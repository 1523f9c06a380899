"""Storing pictures beside the motion."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import CellError, Frame
from cell.records.pictures import PictureStore, StoredPicture

_WAITING = 4
_THREADS = 2


@dataclass(frozen=True)
class StoredView:
    """What lies in the store of one view of a part; `mask` is None where nothing was masked."""

    picture: StoredPicture
    mask: StoredPicture | None


class Archive:
    """Stores the pictures of a part; a context manager.

    Parameters
    ----------
    store : PictureStore

    Notes
    -----
    Two threads do the work: encoding, hashing and writing leave Python's lock free, and a picture of 60 MB need not
    cross into another process. At most four pictures wait: a faster camera waits for the disk, no picture is dropped.
    """

    def __init__(self, store: PictureStore) -> None:
        self._store = store
        self._stored: dict[str, Future[StoredView]] = {}

    def __enter__(self) -> Self:
        self._room = threading.BoundedSemaphore(_WAITING)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="archive")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)

    def submit(self, view: str, frame: Frame, mask: NDArray[np.bool_] | None) -> None:
        """Hand a picture over; waits while too many are under way."""
        self._room.acquire()
        future = self._threads.submit(self._put, frame.image, mask)
        future.add_done_callback(lambda _: self._room.release())
        self._stored[view] = future

    def collect(self) -> dict[str, StoredView]:
        """Wait for all pictures handed over since the last call.

        Raises
        ------
        CellError
            One could not be stored.
        """
        futures, self._stored = self._stored, {}
        stored = {}
        for view, future in futures.items():
            try:
                stored[view] = future.result()
            except OSError as error:
                raise CellError(
                    f"The picture of view {view} cannot be stored in {self._store.folder}: {error.strerror or error}; "
                    "the line stops, for no part is inspected that cannot be recorded: make room or mend the disk"
                ) from error
        return stored

    def _put(self, image: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> StoredView:
        picture = self._store.put(image)
        return StoredView(picture, None if mask is None else self._store.put(mask.astype(np.uint8) * np.uint8(255)))
