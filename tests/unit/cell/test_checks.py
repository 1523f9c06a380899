"""Trying the devices one by one."""

import pytest

from cell.checks import check_cell, hand_is_empty, scale_is_empty
from cell.commands.check import run_check
from cell.config import load_part, load_production
from cell.interfaces import CellError, DeviceError, Grasp, Weighing
from cell.schema import MassLimits
from cell.setup import Order
from scenarios.faults import Fault, with_faults


class Hand:
    """A hand around something, or around nothing."""

    def __init__(self, width_m: float, *, held: bool = False) -> None:
        self.width_m, self.held, self.calls = width_m, held, []

    def state(self) -> Grasp:
        return Grasp(self.held, self.width_m)

    def grasp(self, width_m: float, force_n: float) -> Grasp:
        self.calls.append("grasp")
        return self.state()

    def release(self) -> None:
        self.calls.append("release")


class Pan:
    def __init__(self, mass_g: float) -> None:
        self.mass_g = mass_g

    def weigh(self) -> Weighing:
        return Weighing(self.mass_g, True, 0.0)


def order_on(cell) -> Order:
    return Order(cell, load_part("ring"), load_production("good"), range(1))


def test_every_device_of_the_twin_works(small_cell):
    steps = list(check_cell(order_on(small_cell("twin"))))
    assert all(step.ok for step in steps), [step for step in steps if not step.ok]
    devices = list(dict.fromkeys(step.device for step in steps))
    assert devices == ["world", "clock", "arm", "gripper", "scale", "source", "camera"]


def test_one_device_that_fails_keeps_none_from_being_tried(small_cell, tmp_path):
    cell = with_faults(small_cell("twin"), Fault(device="scale", kind="silent", call=1))
    steps = list(check_cell(order_on(cell)))
    assert [(step.device, step.said) for step in steps if not step.ok] == [
        ("scale", "scale: it said nothing while weighing; look at its cable")
    ]
    assert steps[-1].device == "camera" and steps[-1].ok


def test_report_says_what_failed(small_cell, tmp_path, monkeypatch):
    cell = with_faults(small_cell("twin"), Fault(device="camera", kind="lost", call=1))
    monkeypatch.setattr("cell.commands.check.load_cell", lambda name: cell)
    with pytest.raises(CellError, match=r"1 of 15 steps failed"):
        run_check("twin", "ring", tmp_path / "report")
    page = (tmp_path / "report" / "report.md").read_text()
    assert "| camera | take a picture | **failed** |" in page and "- numpy: " in page
    assert '"ok": false' in (tmp_path / "report" / "report.json").read_text()


def test_empty_hand_is_proven_by_its_width():
    hand = Hand(0.0005)
    assert "0.5 mm" in hand_is_empty(hand) and hand.calls == ["grasp", "release"]


@pytest.mark.parametrize("hand, calls", [(Hand(0.004), ["grasp"]), (Hand(0.004, held=True), [])])
def test_hand_that_holds_something_is_not_opened(hand, calls):
    with pytest.raises(DeviceError, match=r"4\.0 mm wide is between the fingers.*take it out"):
        hand_is_empty(hand)
    assert hand.calls == calls


def test_loaded_scale_is_not_empty():
    limits = MassLimits(nominal_g=23.0, tolerance_g=0.25)
    assert scale_is_empty(Pan(0.02), limits)
    for mass_g in (23.0, -23.0):
        with pytest.raises(DeviceError, match=r"23\.000 g are on it"):
            scale_is_empty(Pan(mass_g), limits)
