"""Files that are there whole after a loss of power, or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

INCOMING = "incoming"
"""Folder beside the finished files in which half ones lie."""


def write_durably(path: Path, data: bytes | memoryview, *, root: Path) -> None:
    """Write a file so that its name never stands for less than all its bytes, and outlasts a loss of power.

    Parameters
    ----------
    path : Path
        In a folder under `root`; a file of that name is replaced.
    data : bytes
    root : Path
        Holds the folder `INCOMING`, on the same file system.

    Raises
    ------
    OSError
        It could not be written; nothing of that name has changed.
    """
    half = root / INCOMING / f"{uuid.uuid4().hex}.part"
    try:
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.parent.mkdir(exist_ok=True)
        half.replace(path)
    except OSError:
        half.unlink(missing_ok=True)
        raise
    # The name lasts when its folder does, and that folder's name when the one above does: another process may
    # have made it a moment ago.
    _sync_folder(path.parent)
    _sync_folder(path.parent.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they outlast a loss of power."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
