"""How long a part takes: the cell's own time beside the computing time that pytest-benchmark measures."""

import pytest

from cell.config import load_cell, load_part, load_production
from cell.cycle import Cycle
from cell.setup import Order, open_cell


def test_a_part_goes_round(benchmark, request: pytest.FixtureRequest) -> None:
    cell_file = load_cell(request.config.getoption("--cell"))
    order = Order(cell_file, load_part("ring"), load_production("good"), range(4))
    with open_cell(order) as cell:
        cycle = Cycle(cell)
        cycle.prepare()

        def one_part() -> float:
            *_, cycle_s = cycle.run(
                cell.source.next(), on_frame=lambda view, frame: None, choose_bin=lambda passage: "recheck"
            )
            return cycle_s

        cycle_s = benchmark.pedantic(one_part, rounds=4, iterations=1)
        benchmark.extra_info["cell_time_s"] = round(cycle_s, 2)


def test_a_picture_is_taken(benchmark, request: pytest.FixtureRequest) -> None:
    cell_file = load_cell(request.config.getoption("--cell"))
    order = Order(cell_file, load_part("ring"), load_production("good"), range(1))
    with open_cell(order) as cell:
        cell.source.next()
        benchmark.pedantic(cell.camera.capture, rounds=10, warmup_rounds=1)
