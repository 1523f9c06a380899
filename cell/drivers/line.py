"""What a real line has besides its devices: time that goes on by itself, and parts that somebody else lays down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from cell.interfaces import DeviceTimeout, PartTicket
from cell.schema import FileModel
from cell.setup import Setup


class WallClockConfig(FileModel):
    """There is nothing to set."""


class WallClock:
    """The computer's monotonic clock; see `cell.interfaces.Clock`."""

    Config = WallClockConfig

    def __init__(self, config: WallClockConfig, setup: Setup) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def now(self) -> float:
        """Return seconds since an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def computed(self, wall_s: float) -> None:
        """Do nothing: the clock went on meanwhile."""


class FedLineConfig(FileModel):
    """Lot, cavities and labels stand in the production file."""


class FedLine:
    """A feeder that always has the next part at its place, a person or a machine; see `cell.interfaces.PartSource`.

    Parts are told apart by their lot, the second at which the line was connected (UTC), and their number. They are
    taken to come from the cavities in turn. Where no part lies, the hand grasps nothing, and the line stops.
    """

    Config = FedLineConfig

    def __init__(self, config: FedLineConfig, setup: Setup) -> None:
        self._setup = setup

    def __enter__(self) -> Self:
        self._numbers: Iterator[int] = iter(self._setup.order.numbers)
        self._started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def next(self) -> PartTicket:
        """Say which part lies there now. Raises `DeviceTimeout` when all that were asked for have come."""
        number = next(self._numbers, None)
        if number is None:
            raise DeviceTimeout("feeder", "presenting a part", "all parts asked for have come", "order more")
        production = self._setup.production
        part_id = f"{production.lot}-{self._started}-{number:05d}"
        label = production.batch_of(number).label
        return PartTicket(part_id, production.lot, number % production.cavities + 1, number, label)
