"""A real arm goes each way of a plan for the first time slowly, and after a person agreed."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from prerendered import FILE, ROUND, cell_of

from cell.cycle import Cycle
from cell.interfaces import CellError
from cell.motion.stored import ConfirmedWays
from cell.setup import Cell

REAL = FILE.model_copy(update={"world": None})


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def run(cell: Cell, **asked) -> list[float]:
    """Run one part; return how long each way takes, in seconds."""
    durations = []
    follow = cell.arm.follow

    def watched(trajectory):
        durations.append(trajectory.duration_s)
        follow(trajectory)

    cell.arm.follow = watched
    cycle = Cycle(cell)
    with patch("cell.cycle.planned_round", lambda *args: ROUND):
        cycle.prepare(**asked)
    cycle.run(cell.source.next(), on_frame=lambda *taken: None, choose_bin=lambda passage: "ok")
    return durations


def cell_with(file) -> Cell:
    return replace(cell_of(iter(range(9))), file=file)


def test_first_run_is_slow_and_asked_about_and_the_second_is_not():
    ways = []
    first = run(cell_with(REAL), confirm=ways.append)
    assert len(ways) == len(first) == len(set(ways)) and "from home to feeder" in ways
    second = run(cell_with(REAL))
    assert second == run(cell_with(FILE))
    assert (np.array(first) >= 10 * np.array(second) - 1e-6).all()


def test_nothing_moves_without_a_person():
    cell = cell_with(REAL)
    with pytest.raises(CellError, match="from home to feeder for the first time"):
        run(cell)
    assert (cell.arm.state().positions_rad == np.array(FILE.motion.home_rad)).all()
    assert ("home", "feeder") not in ConfirmedWays(REAL, cell.part, cell.folder)


def test_another_plan_is_asked_about_again():
    run(cell_with(REAL), confirm=lambda way: None)
    higher = REAL.scene.model_copy(update={"clearance_m": REAL.scene.clearance_m + 0.01})
    with pytest.raises(CellError, match="first time"):
        run(cell_with(REAL.model_copy(update={"scene": higher})))


def test_a_person_who_says_no_is_obeyed():
    def refuse(way):
        if way.endswith("to scale"):
            raise CellError("no")

    cell = cell_with(REAL)
    with pytest.raises(CellError, match="no"):
        run(cell, confirm=refuse)
    gone = ConfirmedWays(REAL, cell.part, cell.folder)
    assert ("home", "feeder") in gone and not any(way[1] == "scale" and way in gone for way in ROUND.legs)
