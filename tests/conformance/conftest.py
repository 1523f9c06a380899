from collections.abc import Iterator

import pytest

from cell.config import load_cell, load_part, load_production
from cell.interfaces import ConfigError
from cell.setup import Cell, Order, open_cell


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        names = metafunc.config.getoption("--cell") or ["twin", "emulated"]
        metafunc.parametrize("cell", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def cell(request: pytest.FixtureRequest) -> Iterator[Cell]:
    try:
        file = load_cell(request.param)
    except ConfigError as error:
        if "which is not installed" not in str(error):
            raise
        pytest.skip(str(error))
    with open_cell(Order(file, load_part("ring"), load_production("good"), range(20))) as connected:
        yield connected
