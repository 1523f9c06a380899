import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import patch

import prerendered
import pytest

from cell.config import load_cell, load_part, load_production
from cell.interfaces import ConfigError
from cell.setup import Cell, Order, open_cell


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        names = metafunc.config.getoption("--cell") or ["twin", "emulated", "replay"]
        metafunc.parametrize("cell", names, indirect=True, scope="module")


@pytest.fixture(scope="module")
def cell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    if request.param == "replay":
        order = recorded(tmp_path_factory.mktemp("recorded"))
    else:
        try:
            order = Order(load_cell(request.param), load_part("ring"), load_production("good"), range(20))
        except ConfigError as error:
            if "which is not installed" not in str(error):
                raise
            pytest.skip(str(error))
    with ExitStack() as stack:
        try:
            connected = stack.enter_context(open_cell(order))
        except ConfigError as error:
            if "C compiler" not in str(error):
                raise
            pytest.skip(str(error))
        yield connected


def recorded(folder: Path) -> Order:
    """The shipped replay cell, with parts to play back."""
    part = load_part("ring")
    part = replace(part, content=prerendered.PART)
    camera = prerendered.Prerendered(iter(()), lambda what: None)
    made_for = {
        "part": part.content.model_dump(mode="json", by_alias=True, exclude={"mass", "density_g_cm3"}),
        "camera_serial": camera.serial,
        "intrinsics": asdict(camera.intrinsics),
        "exposure_us": camera.exposure_us,
    }
    address = prerendered.make_records(folder)
    with patch.object(prerendered, "RUN", replace(prerendered.RUN, made_for=json.dumps(made_for))):
        prerendered.run_line(address, range(6))
    file = folder / "replay.yaml"
    file.write_text(load_cell("replay").path.read_text().replace("sqlite:///runs/records.sqlite", address))
    return Order(load_cell(str(file)), part, load_production("good"), range(6))
