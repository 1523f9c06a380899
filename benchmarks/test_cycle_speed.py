"""How long a part takes: the cell's own time beside the computing time that pytest-benchmark measures."""

import pytest

from cell.config import load_cell, load_part, load_production
from cell.cycle import Cycle
from cell.gantt import seconds_by_kind
from cell.interfaces import Intrinsics
from cell.motion.round import camera_pose
from cell.motion.stored import planned_round
from cell.setup import Order, open_cell
from cell.silhouette import hand_mask
from cell.timeline import robot_time


def test_a_part_goes_round(benchmark, request: pytest.FixtureRequest) -> None:
    cell_file = load_cell(request.config.getoption("--cell"))
    order = Order(cell_file, load_part("ring"), load_production("good"), range(4))
    with open_cell(order) as cell:
        cycle = Cycle(cell)
        cycle.prepare()

        def one_part() -> float:
            *_, cycle_s = cycle.run(
                cell.source.next(), on_frame=lambda view, frame, mask: None, choose_bin=lambda passage: "recheck"
            )
            return cycle_s

        cycle_s = benchmark.pedantic(one_part, rounds=4, iterations=1)
        benchmark.extra_info["cell_time_s"] = round(cycle_s, 2)
        benchmark.extra_info["robot_s"] = robot_time(cycle.steps)
        benchmark.extra_info |= seconds_by_kind(cycle.steps)


def test_a_picture_is_taken(benchmark, request: pytest.FixtureRequest) -> None:
    cell_file = load_cell(request.config.getoption("--cell"))
    order = Order(cell_file, load_part("ring"), load_production("good"), range(1))
    with open_cell(order) as cell:
        cell.source.next()
        benchmark.pedantic(cell.camera.capture, rounds=10, warmup_rounds=1)


@pytest.mark.parametrize("view", range(8))
def test_hand_is_masked_in_20_megapixels(benchmark, view: int) -> None:
    file, part = load_cell("twin").content, load_part("ring")
    stop = list(planned_round(file, part.content, part.path.parent).views[0].values())[view]
    camera, k = camera_pose(file.scene.camera), Intrinsics(10417.0, 10417.0, 2736.0, 1824.0, 5472, 3648)
    hand = file.hand.model_copy(update={"palm": True})
    benchmark(hand_mask, hand, stop.q, 0.004, camera, k)
