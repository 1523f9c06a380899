"""The world in a process of its own: what the devices beside the arm see of it."""

import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest

from cell.config import load_cell, load_part, load_production
from cell.interfaces import ConfigError, NotConnected, Pose
from cell.setup import Order, Setup
from twin.conditions import Conditions
from twin.device import world_of
from twin.parts.shape import make_shape
from twin.scale import LoadCell, TwinScaleConfig
from twin.snapshot import PartBody
from twin.wire.process import WiredWorld, WiredWorldConfig

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler: apt-get install gcc libc6-dev"
)
SETUP = Setup(Order(load_cell("twin"), load_part("ring"), load_production("good"), range(1)), None)


def body(mass_g=20.0):
    shape = make_shape(SETUP.order.part)
    return PartBody("x-1", shape.mesh, shape.hulls, mass_g, (), (), (), 1.0, Conditions(), (0, 1))


@pytest.fixture(scope="module")
def world():
    with WiredWorld(WiredWorldConfig(pace=10.0), SETUP) as served:
        yield served


def test_time_goes_on_by_itself(world):
    before = world.time_s
    world.wait(0.2)
    assert world.time_s >= before + 0.2
    world.add_computing(1000.0)
    assert world.time_s < before + 900


def test_a_part_is_seen_where_it_lies(world):
    assert world_of(Setup(SETUP.order, world)) is world
    world.present(body(), np.array([0.01, 0.0]), 0.0)
    world.wait(0.5)
    seen = world.snapshot()
    assert seen.part is world.part and isinstance(seen.part_pose, Pose)
    place = np.add(SETUP.scene.feeder.position_m, (0.01, 0, 0))
    np.testing.assert_allclose(seen.part_pose.position_m, place, atol=2e-3)
    world.take_out()
    assert world.part is None and world.snapshot().part_pose is None


def test_a_part_on_the_pan_is_weighed(loopback):
    cell = SETUP.order.cell
    scene = cell.content.scene.model_copy(update={"feeder": cell.content.scene.scale})
    on_scale = replace(SETUP.order, cell=replace(cell, content=cell.content.model_copy(update={"scene": scene})))
    with WiredWorld(WiredWorldConfig(pace=10.0, host=loopback()), Setup(on_scale, None)) as world:
        world.mount(LoadCell(TwinScaleConfig(noise_g=0.0, drift_g=0.0, vibration_g_s2=0.0)))
        world.present(body(20.0), np.zeros(2), 0.0)
        world.wait(5.0)
        assert world.reading_g() == pytest.approx(20.0, abs=0.1)
        world.take_out()
        world.wait(5.0)
        assert abs(world.reading_g()) < 0.1


def test_what_goes_wrong_there_is_raised_here_and_it_goes_on(world):
    with pytest.raises(AttributeError, match="hulls"):
        world.present(None, np.zeros(2), 0.0)
    world.wait(0.05)
    os.kill(world._process.pid, signal.SIGINT)
    world.take_out()
    assert world.snapshot().part is None


def test_an_address_that_is_taken_is_named(world):
    with pytest.raises(ConfigError, match=rf"{world.host}: ports 1337 and 1338 cannot be listened on"):
        WiredWorld(WiredWorldConfig(host=world.host), SETUP).__enter__()


def test_a_world_that_ended_is_named(loopback):
    with WiredWorld(WiredWorldConfig(host=loopback()), SETUP) as world:
        os.kill(world._process.pid, signal.SIGKILL)
        with pytest.raises(NotConnected, match=r"its process ended \(exit code -9\)"):
            world.snapshot()
        with pytest.raises(NotConnected, match="while waiting"):
            world.wait(10.0)
