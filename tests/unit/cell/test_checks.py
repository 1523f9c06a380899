"""Trying the devices one by one."""

import pytest

from cell.checks import check_cell
from cell.commands.check import run_check
from cell.config import load_part, load_production
from cell.interfaces import CellError
from cell.setup import Order
from scenarios.faults import Fault, with_faults


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
