"""What the simulated devices have in common: a world, and that they are connected as long as it is."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import ConfigError
from cell.setup import Setup
from twin.snapshot import PartBody, Snapshot

if TYPE_CHECKING:
    from twin.world import World


class InWorld:
    """A device that is connected as long as its world is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LoadCell(Protocol):
    """What carries the scale's pan."""

    def follow(self, world: World, step_s: float) -> None:
        """Follow the force on the pan for one step of the world."""
        ...

    def reading_g(self) -> float:
        """Return what is shown now, grams."""
        ...


@runtime_checkable
class SharedWorld(Protocol):
    """What the devices beside the arm need of their world, wherever it is simulated."""

    pan_m: float
    part: PartBody | None

    @property
    def time_s(self) -> float:
        """Its time, seconds."""
        ...

    def wait(self, seconds: float) -> None:
        """Let about so much time pass."""
        ...

    def add_computing(self, wall_s: float) -> None:
        """Lay computing time on its line."""
        ...

    def present(self, part: PartBody, offset_m: NDArray[np.float64], yaw_rad: float) -> None:
        """Take the last part away and lay a new one at the feeder, so far (2,) from where it should lie."""
        ...

    def snapshot(self) -> Snapshot:
        """Freeze what a picture depends on."""
        ...

    def mount(self, load_cell: LoadCell) -> None:
        """Put a scale under the pan."""
        ...

    def reading_g(self) -> float:
        """Return what the scale shows, grams."""
        ...


def world_of(setup: Setup) -> SharedWorld:
    """Return the world that the devices of a simulated cell share. Raises `ConfigError` where there is none."""
    if not isinstance(setup.world, SharedWorld):
        raise ConfigError(
            f"{setup.order.cell.path}: world: must be a simulated one, as twin.world:World, which the simulated "
            "devices share"
        )
    return setup.world
