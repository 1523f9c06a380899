"""The lifecycle of simulated devices."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class InWorld:
    """A device that is connected as long as its world is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
