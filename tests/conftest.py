from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

from cell.config import Loaded, load_cell, load_part, load_production
from cell.schema import CellFile
from cell.setup import Order

# The same examples every time, and no time limit for one of them: the machine may be busy.
settings.register_profile("calm", deadline=None, derandomize=True)
settings.load_profile("calm")


def small_twin(width: int) -> Loaded[CellFile]:
    """The twin's cell with pictures of 4:3 that take less time."""
    cell = load_cell("twin")
    entry = cell.content.camera
    picture = {"width": width, "height": width * 3 // 4}
    camera = entry.model_validate({"class": entry.path, **entry.options, **picture})
    return replace(cell, content=cell.content.model_copy(update={"camera": camera}))


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
        return Order(small_twin(width), load_part("ring"), load_production(production), range(count), seed, truth)

    return order
