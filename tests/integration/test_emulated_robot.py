"""Whole cycles through the drivers of arm, hand, camera and scale, at the twin behind the robot's wire protocol."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("panda_py", reason="pip install 'twinspect[hardware]'")
from cell.collecting import collect
from cell.config import load_part, load_production
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


class Watched:
    """A camera that notes at each picture how far the arm stands from the nearest planned view."""

    def __init__(self, camera, arm, views, off_mm):
        self._camera, self._arm, self._views, self._off_mm = camera, arm, views, off_mm

    def __getattr__(self, name):
        return getattr(self._camera, name)

    def capture(self):
        here = self._arm.state().positions_rad
        view = min(self._views, key=lambda planned: np.abs(planned - here).max())
        self._off_mm.append(1000 * np.linalg.norm(forward(here).position_m - forward(view).position_m))
        return self._camera.capture()


@pytest.fixture(scope="module")
def model(sensors_cell, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wired")
    order = Order(sensors_cell(456), load_part("ring"), load_production("good"), range(6), 1)
    collect(order, folder / "good", progress=lambda done: None)
    train(read_dataset(folder / "good"), folder / "model", config=DetectionConfig(), model=ModelConfig())
    return folder / "model"


@pytest.mark.timeout(1800)
def test_twenty_cycles_end_in_a_verdict_without_a_fault(small_cell, model, tmp_path):
    order = Order(small_cell("emulated", 456), load_part("ring"), load_production("mixed"), range(CYCLES), 5)
    off_mm = []

    def watch(cell):
        legs = planned_round(cell.file, cell.part, cell.folder).legs
        views = [leg.positions_rad[-1] for leg in legs.values()]
        return replace(cell, camera=Watched(cell.camera, cell.arm, views, off_mm))

    results = list(inspect(order, model, f"sqlite:///{tmp_path}/r.sqlite", watch=watch))
    assert len(results) == CYCLES and len(off_mm) == 16 * CYCLES
    for part in results:
        assert part.verdict.bin in ("ok", "reject"), part.verdict.reasons
        assert len(part.scores) == 16 and part.weighing.stable
    in_time = [step.in_time for part in results for step in part.steps if step.kind == "motion"]
    print(f"\n{CYCLES} cycles: off at the views by {np.median(off_mm):.3f} mm (median), {max(off_mm):.3f} at worst")
    print(f"in time: mean {np.mean(in_time):.4f}, worst motion {min(in_time):.4f}")
    assert np.median(off_mm) <= 0.3 and max(off_mm) <= 0.5


@pytest.mark.timeout(900)
def test_states_are_answered_in_time_while_pictures_are_scored(small_cell, model, tmp_path):
    wired = at_pace(small_cell("emulated", 456), 1.0)
    order = Order(wired, load_part("ring"), load_production("good"), range(2), 9)
    for result in inspect(order, model, f"sqlite:///{tmp_path}/r.sqlite"):
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
