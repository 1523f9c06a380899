"""Whole cycles through the drivers of arm, hand, camera and scale, at the twin behind the robot's wire protocol."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("panda_py", reason="pip install 'twinspect[hardware]'")
from cell.collecting import collect
from cell.config import load_part, load_production
from cell.cycle import Cycle
from cell.inspection import inspect
from cell.interfaces import MotionRejected, NotConnected, ReflexStop
from cell.motion.panda import forward
from cell.motion.stored import planned_round
from cell.motion.trajectory import point_to_point
from cell.setup import Order, open_cell
from detection import DetectionConfig, ModelConfig, read_dataset, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler: apt-get install gcc libc6-dev"
    ),
]
CYCLES = 20


def at_pace(cell, pace):
    world = cell.content.world
    entry = world.model_validate({"class": world.path, **world.options, "pace": pace})
    return replace(cell, content=cell.content.model_copy(update={"world": entry}))


@pytest.mark.timeout(1800)
def test_twenty_cycles_without_a_fault(small_cell):
    order = Order(small_cell("emulated"), load_part("ring"), load_production("good"), range(CYCLES), 5)
    off_mm, in_time = [], []
    with open_cell(order) as cell:
        legs = planned_round(cell.file, cell.part, cell.folder).legs
        views = {goal: leg.positions_rad[-1] for (_, goal), leg in legs.items()}

        def measure(view, frame, mask):
            here, there = forward(cell.arm.state().positions_rad), forward(views[view])
            off_mm.append(1000 * np.linalg.norm(here.position_m - there.position_m))

        cycle = Cycle(cell)
        cycle.prepare()
        for _ in range(CYCLES):
            passage, target, _ = cycle.run(cell.source.next(), on_frame=measure, choose_bin=lambda passage: "ok")
            assert passage.faults == () and len(passage.pictures) == 16 and target == "ok"
            assert abs(passage.weighing.mass_g - cell.part.mass.nominal_g) <= cell.part.mass.tolerance_g
            in_time += [step.in_time for step in cycle.steps if step.kind == "motion"]
    print(f"\n{CYCLES} cycles: off at the views by {np.median(off_mm):.3f} mm (median), {max(off_mm):.3f} at worst")
    print(f"in time: mean {np.mean(in_time):.4f}, worst motion {min(in_time):.4f}")
    assert np.median(off_mm) <= 0.5 and max(off_mm) <= 0.3


@pytest.mark.timeout(900)
def test_states_are_answered_in_time_while_pictures_are_scored(small_cell, sensors_cell, tmp_path):
    part, good = load_part("ring"), load_production("good")
    collect(Order(sensors_cell(456), part, good, range(6), 1), tmp_path / "good", progress=lambda done: None)
    model = tmp_path / "model"
    train(read_dataset(tmp_path / "good"), model, config=DetectionConfig(), model=ModelConfig(n_features=25))

    wired = at_pace(small_cell("emulated", 456), 1.0)
    results = list(inspect(Order(wired, part, good, range(2), 9), model, f"sqlite:///{tmp_path}/r.sqlite"))
    for result in results:
        assert result.verdict.bin in ("ok", "reject") and len(result.scores) == 16
        motions = [step.in_time for step in result.steps if step.kind == "motion"]
        print(f"\nin time: mean {np.mean(motions):.4f}, worst motion {min(motions):.4f} of {len(motions)}")
        assert np.mean(motions) >= 0.99


def test_nothing_moves_after_a_lost_connection_before_somebody_acknowledged(small_cell):
    order = Order(small_cell("emulated"), load_part("ring"), load_production("good"), range(1), 5)
    with open_cell(order) as cell:
        here = cell.arm.state().positions_rad
        aside = point_to_point(here, here + 0.1, goal="aside", speed=0.2)
        cell.arm.provoke("connection lost")
        with pytest.raises(NotConnected, match="it is gone"):
            cell.arm.follow(aside)
        stands = cell.arm.state()
        assert "it is gone" in stands.fault
        back = point_to_point(stands.positions_rad, here, goal="back", speed=0.2)
        with pytest.raises(ReflexStop, match="acknowledge"):
            cell.arm.follow(back)
        np.testing.assert_allclose(cell.arm.state().positions_rad, stands.positions_rad, atol=1e-3)
        cell.arm.recover(acknowledged_by="a test")
        cell.arm.follow(point_to_point(cell.arm.state().positions_rad, here, goal="back", speed=0.2))
        np.testing.assert_allclose(cell.arm.state().positions_rad, here, atol=2e-3)


def test_motion_that_would_leave_its_path_is_refused_before_it_moves(small_cell):
    order = Order(small_cell("emulated"), load_part("ring"), load_production("good"), range(1), 5)
    with open_cell(order) as cell:
        here = cell.arm.state().positions_rad
        with pytest.raises(MotionRejected, match=r"lower motion\.speed"):
            cell.arm.follow(point_to_point(here, here + 0.3, goal="aside"))
        np.testing.assert_allclose(cell.arm.state().positions_rad, here, atol=1e-4)
