"""Whole cycles without pictures: collisions, limits, dropped parts and robot time. ``--cycles`` says how many.

``pytest benchmarks/test_motion.py --cycles 200`` takes about ten minutes.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import pytest

from cell.config import load_cell, load_part, load_production
from cell.cycle import Cycle
from cell.interfaces import Frame
from cell.motion.collision import CollisionModel, Load
from cell.motion.panda import A_MAX, J_MAX, V_MAX, forward
from cell.motion.round import FEEDER, SCALE
from cell.motion.stored import planned_round
from cell.motion.trajectory import SAMPLE_S, stretched, tool_peaks, violation
from cell.setup import Order, open_cell
from cell.timeline import robot_time

BINS = ("ok", "reject", "recheck")


class Blind:
    """The cell's camera, taking its time but no pictures."""

    def __init__(self, cell):
        self.intrinsics, self.exposure_us, self._clock = cell.camera.intrinsics, cell.camera.exposure_us, cell.clock

    def capture(self):
        self._clock.sleep(self.exposure_us * 1e-6)
        return Frame(np.zeros((1, 1), np.uint8), self._clock.now(), self.exposure_us, "blind", 0)


class Guard:
    """The cell's arm; it watches how far from everything the simulated arm and its part really are."""

    def __init__(self, cell, model, world):
        self._arm, self._model, self._world = cell.arm, model, world
        self.violations, self.collisions, self.lag_rad = [], [], 0.0

    def __getattr__(self, name):
        return getattr(self._arm, name)

    def follow(self, trajectory):
        assert np.allclose(np.diff(trajectory.times_s), SAMPLE_S)
        broken = violation(trajectory)
        if broken:
            self.violations.append((trajectory.goal, broken))
        step, count = self._world.step, [0]

        def watched(**options):
            step(**options)
            count[0] += 1
            if count[0] % 4 == 0:
                self._look(trajectory.goal)

        self._world.step = watched
        try:
            self._arm.follow(trajectory)
        finally:
            del self._world.step

    def _look(self, goal):
        world = self._world
        joints = world.joints()[0]
        self.lag_rad = max(self.lag_rad, float(np.abs(joints - world._joints).max()))
        held = forward(joints).inverse() @ world.part_pose() if world.gripped else None
        load = Load(float(world.fingers().sum()), held=held)
        contact = self._model.contact(joints, load, clearance_m=0.0)
        # What a part lies on is touched by the part; anything else by nothing.
        if contact and not (goal in (FEEDER, SCALE) or (goal.startswith("GP") and contact.first == "held part")):
            self.collisions.append((goal, str(contact)))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("speed", [1.0, 0.3])
def test_randomised_cycles(benchmark, request: pytest.FixtureRequest, speed: float) -> None:
    cell_file = load_cell(request.config.getoption("--cell"))
    motion = cell_file.content.motion.model_copy(update={"speed": speed})
    cell_file = replace(cell_file, content=cell_file.content.model_copy(update={"motion": motion}))
    production = load_production("mixed")
    # Grasp offsets and everything else as on a bad day.
    production = replace(production, content=production.content.model_copy(update={"nuisances": 3}))
    part = load_part("ring")
    cycles = request.config.getoption("--cycles")
    order = Order(cell_file, part, production, range(cycles), seed=7)
    scene = cell_file.content.scene
    robot_s = []
    with open_cell(order) as cell:
        world = cell.arm._world
        cell.source.next()
        hulls = [hull / 1000 for hull in world.part.hulls]
        obstacles = [*scene.boxes, *motion.keep_out]
        with CollisionModel(obstacles, hulls, clearance_m=motion.distance_m) as model:
            guard = Guard(cell, model, world)
            cycle = Cycle(replace(cell, camera=Blind(cell), arm=guard))
            cycle.prepare()
            remaining = iter(range(1, cycles))

            def one() -> None:
                number = next(remaining)
                ticket = cell.source.next()
                cycle.run(ticket, on_frame=lambda *_: None, choose_bin=lambda _: BINS[number % 3])
                robot_s.append(robot_time(cycle.steps))

            benchmark.pedantic(one, rounds=cycles - 1, iterations=1)
    benchmark.extra_info["cycles"] = len(robot_s)
    benchmark.extra_info["robot_s_median"] = statistics.median(robot_s)
    benchmark.extra_info["robot_s_most"] = max(robot_s)
    benchmark.extra_info["lag_rad"] = guard.lag_rad
    assert guard.violations == [] and guard.collisions == []


@pytest.mark.parametrize("speed", [1.0, 0.3])
def test_legs_use_the_limits(benchmark, request: pytest.FixtureRequest, speed: float) -> None:
    file, part = load_cell(request.config.getoption("--cell")).content, load_part("ring").content
    planned = benchmark.pedantic(planned_round, (file, part), rounds=1)
    shares = np.zeros(3)
    for leg in (stretched(leg, speed) for leg in planned.legs.values()):
        assert violation(leg) is None
        for order, limit in enumerate((V_MAX, A_MAX, J_MAX)):
            values = np.diff(leg.positions_rad, n=order + 1, axis=0) / SAMPLE_S ** (order + 1)
            shares[order] = max(shares[order], float((np.abs(values) / limit).max()))
        assert tool_peaks(leg)[0] <= 1.7
    benchmark.extra_info.update(dict(zip(("velocity", "acceleration", "jerk"), shares.tolist(), strict=True)))
