from collections.abc import Iterator

import pytest

from cell.config import load_cell, load_part, load_production
from cell.setup import Cell, Order, open_cell


@pytest.fixture(scope="module")
def cell(request: pytest.FixtureRequest) -> Iterator[Cell]:
    name = request.config.getoption("--cell")
    order = Order(load_cell(name), load_part("ring"), load_production("good"), range(20))
    with open_cell(order) as connected:
        yield connected
