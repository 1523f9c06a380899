"""Which lines are running: each holds a lock that the system releases however its process ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from cell.records.files import make_folder

_FOLDER = "running"


class RunLock:
    """The lock of a run that this process holds.

    Parameters
    ----------
    pictures : Path
        The folder that all lines with these records share.
    run : int
        The run's entry.
    """

    def __init__(self, pictures: Path, run: int) -> None:
        self._path = _path(pictures, run)
        make_folder(self._path.parent)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Say that the run is over."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def is_running(pictures: Path, run: int) -> bool:
    """Whether a process still holds the lock of a run."""
    try:
        descriptor = os.open(_path(pictures, run), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _path(pictures: Path, run: int) -> Path:
    return pictures / _FOLDER / f"{run}.lock"
