"""From files to a running cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cell.config import DEVICES, Loaded, load_class
from cell.interfaces import Arm, Camera, Clock, Gripper, PartSource, Scale
from cell.schema import CellFile, PartFile, ProductionFile, Scene


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
    """What each device is constructed with, beside its own configuration."""

    order: Order
    world: Any

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


@dataclass(frozen=True)
class Cell:
    """A connected cell."""

    file: CellFile
    part: PartFile
    clock: Clock
    arm: Arm
    gripper: Gripper
    camera: Camera
    scale: Scale
    source: PartSource


@contextmanager
def open_cell(order: Order) -> Iterator[Cell]:
    """Construct and connect the devices that the cell file names; disconnect them in reverse order."""
    file = order.cell.content

    with ExitStack() as stack:

        def connect(key: str, world: Any) -> Any:
            made, config = load_class(getattr(file, key), f"{order.cell.path}: {key}", like=DEVICES[key])
            return stack.enter_context(made(config, Setup(order, world)))

        world = connect("world", None) if file.world else None
        yield Cell(
            file=file,
            part=order.part.content,
            clock=connect("clock", world),
            arm=connect("arm", world),
            gripper=connect("gripper", world),
            camera=connect("camera", world),
            scale=connect("scale", world),
            source=connect("source", world),
        )
