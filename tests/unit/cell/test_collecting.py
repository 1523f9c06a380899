"""What a dataset's maker is told when the line stops: whether a part was the cause."""

from dataclasses import replace
from pathlib import Path

import pytest

from cell.collecting import CollectedPart, PartLost, collect
from cell.config import load_cell, load_part, load_production
from cell.interfaces import CellError, GraspLost, NotConnected, ReflexStop
from cell.setup import Order

ORDER = Order(load_cell("twin"), load_part("ring"), load_production("good"), range(3))
ROW = ("p-00000", "lot", 1, 0, "good", "22.9")
IMAGES = tuple(
    ("p-00000", view, f"images/p-00000/{view}.png", 0, 900.0, 0.0, "") for view in ORDER.part.content.view_names
)


def stopping(monkeypatch: pytest.MonkeyPatch, error: Exception | None, *parts: CollectedPart) -> None:
    def run_line(order, work):
        yield from parts
        if error is not None:
            raise error

    monkeypatch.setattr("cell.collecting.run_line", run_line)


@pytest.mark.parametrize("kind", [GraspLost, ReflexStop])
def test_a_part_that_stops_the_line_is_told_apart_and_those_before_it_are_kept(
    kind: type[GraspLost], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = CollectedPart(ROW, IMAGES, {"cell_kind": "test"}, False)
    error = kind("arm", "showing V3", "it stopped", "look")
    stopping(monkeypatch, error, whole)
    with pytest.raises(PartLost, match="it stopped while showing V3; look; 1 whole parts are kept in"):
        collect(ORDER, tmp_path / "some", progress=lambda _: None)
    assert (tmp_path / "some" / "dataset.json").is_file()
    stopping(monkeypatch, error)
    with pytest.raises(PartLost, match=r"look$"):
        collect(ORDER, tmp_path / "none", progress=lambda _: None)
    assert not (tmp_path / "none").exists()


def test_parts_none_of_which_is_whole_are_the_cause_and_a_lost_connection_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = CollectedPart(ROW, IMAGES, {"cell_kind": "test"}, False)
    stopping(monkeypatch, None, replace(whole, faulty=True))
    with pytest.raises(PartLost, match="No part could be inspected whole"):
        collect(ORDER, tmp_path / "none", progress=lambda _: None)
    for parts in ((), (whole,)):
        stopping(monkeypatch, NotConnected("arm", "moving", "it is gone", "connect it"), *parts)
        with pytest.raises(CellError, match="it is gone") as raised:
            collect(ORDER, tmp_path / f"gone-{len(parts)}", progress=lambda _: None)
        assert not isinstance(raised.value, PartLost)
