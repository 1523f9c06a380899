"""Clock and feeder of a real line, and the cell file that names them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("panda_py", reason="pip install 'twinspect[hardware]'")

from cell.config import DEVICES, load_cell, load_class, load_part, load_production
from cell.drivers.line import FedLine, FedLineConfig, WallClock, WallClockConfig
from cell.interfaces import DeviceTimeout
from cell.setup import Order, Setup


@pytest.fixture
def setup():
    return Setup(Order(load_cell("real"), load_part("ring"), load_production("good"), range(3)), None)


def test_shipped_file_names_devices_that_can_be_made_and_has_no_world(setup):
    file = load_cell("real").content
    assert file.real and file.motion.speed <= 0.4
    for name, like in DEVICES.items():
        entry = getattr(file, name)
        if entry is not None:
            made, config = load_class(entry, name, like=like)
            assert made(config, setup) is not None
    twin = load_cell("twin").content
    assert file.scene == twin.scene and file.hand == twin.hand


def test_clock_is_the_walls(setup):
    with WallClock(WallClockConfig(), setup) as clock:
        before = clock.now()
        clock.sleep(0.05)
        clock.computed(1000.0)
        assert 0.05 <= clock.now() - before < 100


def test_parts_have_names_of_their_own_and_come_from_the_cavities_in_turn(setup, monkeypatch):
    content = setup.order.production.content.model_copy(update={"cavities": 2})
    order = replace(setup.order, production=replace(setup.order.production, content=content))
    started = iter(("20261123T081500", "20261123T091500"))
    clock = SimpleNamespace(now=lambda zone: SimpleNamespace(strftime=lambda form: next(started)))
    monkeypatch.setattr("cell.drivers.line.datetime", clock)
    names = []
    for _ in range(2):
        with FedLine(FedLineConfig(), Setup(order, None)) as line:
            tickets = [line.next() for _ in range(3)]
            with pytest.raises(DeviceTimeout, match="all parts asked for have come"):
                line.next()
        assert [ticket.cavity for ticket in tickets] == [1, 2, 1]
        assert {ticket.lot for ticket in tickets} == {content.lot} and {ticket.label for ticket in tickets} == {"good"}
        names += [ticket.part_id for ticket in tickets]
    assert len(set(names)) == 6 and names[0] == f"{content.lot}-20261123T081500-00000"
