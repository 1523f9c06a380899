"""A disk that can lose its power: what was not synchronised is gone, or is there by its name alone."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """Follows what happens to the files of a folder, and knows what would be left of it without power.

    A file keeps the bytes that it had when it was last synchronised. A name lasts when its folder was synchronised
    after the name was given, and the folder's own name does. `after_call` is called after each call on a file.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._open: dict[int, Path] = {}
        # What a file holds without power, by its inode; a number that is used again gets a new box.
        self._synced: dict[int, list[bytes]] = {}
        self._lasting: set[Path] = set(folder.rglob("*"))
        self._named: dict[Path, list[bytes]] = {}
        for path in self._lasting:
            if path.is_file():
                self._named[path] = self._synced[path.stat().st_ino] = [path.read_bytes()]
        # Files are written by a thread: the power is lost between two of its calls, not within one.
        self._call = threading.RLock()
        self.after_call: Callable[[], None] = lambda: None
        for name, follow in (
            ("open", self._opened),
            ("write", lambda *args: None),
            ("fsync", self._fsynced),
            ("replace", lambda *args: None),
        ):
            monkeypatch.setattr(os, name, self._wrap(follow, getattr(os, name)))

    def _wrap(self, follow: Any, original: Any) -> Any:
        def wrapped(*args: Any, **options: Any) -> Any:
            with self._call:
                result = original(*args, **options)
                follow(result, *args)
                self.after_call()
                return result

        return wrapped

    def _opened(self, descriptor: int, path: Any, flags: int, *args: Any) -> None:
        self._open[descriptor] = Path(path)
        if flags & os.O_EXCL:
            self._synced[os.fstat(descriptor).st_ino] = [b""]

    def _fsynced(self, result: None, descriptor: int) -> None:
        path = self._open[descriptor]
        if path.is_dir():
            for name in path.iterdir():
                self._lasting.add(name)
                if name.is_file():
                    self._named[name] = self._synced.setdefault(name.stat().st_ino, [b""])
        else:
            self._synced[path.stat().st_ino][0] = path.read_bytes()

    def after_loss(self, target: Path, *, names: bool) -> None:
        """Copy what would be left.

        With `names`, every name given so far has made it to the disk, also before the bytes that it stands for; a
        file system may do that.
        """
        with self._call:
            self._copy(target, names=names)

    def _copy(self, target: Path, *, names: bool) -> None:
        for path in sorted(self._folder.rglob("*")):
            lasts = names or all(p in self._lasting for p in (path, *path.parents) if self._folder in p.parents)
            if not lasts:
                continue
            copy = target / path.relative_to(self._folder)
            if path.is_dir():
                copy.mkdir(parents=True, exist_ok=True)
            else:
                held = self._synced.get(path.stat().st_ino, [b""]) if names else self._named[path]
                copy.write_bytes(held[0])


def copy_database(file: Path, folder: Path) -> None:
    """Copy an SQLite database with its log, which holds what was committed last."""
    for part in (file, file.with_name(file.name + "-wal")):
        if part.exists():
            shutil.copy(part, folder / part.name)
