import os
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

from cell.config import Loaded, load_cell, load_part, load_production
from cell.schema import CellFile, ClassEntry
from cell.setup import Order

# The same examples every time, and no time limit for one of them: the machine may be busy.
settings.register_profile("calm", deadline=None, derandomize=True)
settings.load_profile("calm")


_numbers = count(1)


def small(name: str, width: int) -> Loaded[CellFile]:
    """A simulated cell with pictures of 4:3 that take less time, and a driver that waits less long for its scale."""
    cell = load_cell(name)
    camera, scale = cell.content.camera, cell.content.scale
    changed = {"camera": _with(camera, width=width, height=width * 3 // 4)}
    if "driver" in scale.options:
        changed["scale"] = _with(scale, driver={**scale.options["driver"], "timeout_s": 1.0})
    return replace(cell, content=cell.content.model_copy(update=changed))


def with_twins_arm(cell: Loaded[CellFile]) -> Loaded[CellFile]:
    """The same cell with the twin's arm and hand: faster, and the same every time."""
    twin = load_cell("twin").content
    changed = {name: getattr(twin, name) for name in ("world", "arm", "gripper", "motion")}
    return replace(cell, content=cell.content.model_copy(update=changed))


def _with(entry: ClassEntry, **options) -> ClassEntry:
    return entry.model_validate({"class": entry.path, **entry.options, **options})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cell", action="append", help="a cell that the conformance suite runs on; default: all simulated"
    )


@pytest.fixture(scope="session")
def order_of():
    """Return a function that orders parts from the small twin."""

    def order(
        production: str = "good", count: int = 1, *, seed: int = 0, truth: Path | None = None, width: int = 456
    ) -> Order:
        return Order(small("twin", width), load_part("ring"), load_production(production), range(count), seed, truth)

    return order


@pytest.fixture(scope="session")
def small_cell():
    """Return a function that loads a simulated cell with small pictures."""
    return lambda name, width=304: small(name, width)


@pytest.fixture(scope="session")
def sensors_cell():
    """Return a function that loads the emulated cell with small pictures and the twin's arm."""
    return lambda width=304: with_twins_arm(small("emulated", width))


@pytest.fixture(scope="session")
def loopback():
    """Return a function that gives a loopback address that nobody else on this machine takes."""

    def address() -> str:
        high, low = divmod(os.getpid() % 2**16, 2**8)
        return f"127.{next(_numbers)}.{high}.{low}"

    return address
