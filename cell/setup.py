"""From files to a running cell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from cell.config import DEVICES, Loaded, load_class
from cell.interfaces import Arm, Camera, Clock, Gripper, PartSource, Scale
from cell.motion.geometry import CorrectedArm
from cell.schema import CellFile, ClassEntry, PartFile, ProductionFile, Scene


@dataclass(frozen=True)
class Order:
    """What a run of the cell is about.

    Attributes
    ----------
    numbers : sequence of int
        Which parts of the production this cell handles, counted from 0.
    seed : int
        Everything random about the parts follows from it and from a part's number.
    truth : Path or None
        Where a part source that knows the truth about its parts writes it.
    """

    cell: Loaded[CellFile]
    part: Loaded[PartFile]
    production: Loaded[ProductionFile]
    numbers: Sequence[int]
    seed: int = 0
    truth: Path | None = None


@dataclass(frozen=True)
class Setup:
    """What each device is constructed with, beside its own configuration.

    Attributes
    ----------
    order : Order
    world : Any
        What the entry `world` of the cell file made, or None.
    now : callable
        The cell's time, seconds; wall time for the world and the clock, which come first.
    """

    order: Order
    world: Any
    now: Callable[[], float] = time.monotonic

    @property
    def scene(self) -> Scene:
        """Where things stand."""
        return self.order.cell.content.scene

    @property
    def part(self) -> PartFile:
        """The part at hand."""
        return self.order.part.content

    @property
    def production(self) -> ProductionFile:
        """What the source makes or expects."""
        return self.order.production.content


class Wrapper(Protocol):
    """What may stand in front of the devices of a cell."""

    def around(self, name: str, device: Any) -> Any:
        """Return what the cell shall use instead of the device of that name."""
        ...


class Devices:
    """Constructs and connects the devices that a cell file names, one by one; a context manager.

    Leaving disconnects them in reverse order.
    """

    def __init__(self, order: Order) -> None:
        self._order = order
        self._world: Any = None
        self._now: Callable[[], float] = time.monotonic

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        entry = self._order.cell.content.faults
        self._wrapper = None if entry is None else self._make("faults", entry, Wrapper)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def connect(self, name: str) -> Any:
        """Connect one of `cell.config.DEVICES`; the world and the clock come before the others.

        Raises
        ------
        ConfigError
            The cell file says something of it that cannot be.
        DeviceError
            It cannot be connected.
        """
        entry = getattr(self._order.cell.content, name)
        if entry is None:
            return None
        device = self._stack.enter_context(self._make(name, entry, DEVICES[name]))
        geometry = self._order.cell.content.arm_geometry
        if name == "arm" and geometry is not None:
            device = CorrectedArm(device, geometry)
        if name == "world":
            self._world = device
        elif name == "clock":
            self._now = device.now
        return device if self._wrapper is None else self._wrapper.around(name, device)

    def _make(self, name: str, entry: ClassEntry, like: type) -> Any:
        made, config = load_class(entry, f"{self._order.cell.path}: {name}", like=like)
        return made(config, Setup(self._order, self._world, self._now))


@dataclass(frozen=True)
class Cell:
    """A connected cell; the part file's own files are relative to `folder`."""

    file: CellFile
    part: PartFile
    folder: Path
    clock: Clock
    arm: Arm
    gripper: Gripper
    camera: Camera
    scale: Scale
    source: PartSource


@contextmanager
def open_cell(order: Order) -> Iterator[Cell]:
    """Construct and connect the devices that the cell file names; disconnect them in reverse order."""
    with Devices(order) as devices:
        connected = {name: devices.connect(name) for name in DEVICES}
        del connected["world"]
        yield Cell(order.cell.content, order.part.content, order.part.path.parent, **connected)
