"""What every device of every cell must do; ``--cell NAME`` runs it on another cell."""

import numpy as np
import pytest

from cell.cycle import Cycle
from cell.interfaces import MotionRejected, ReflexStop
from cell.motion.trajectory import point_to_point


@pytest.fixture(scope="module")
def ready(cell):
    """A cell at home with a part at the feeder, and its cycle."""
    cycle = Cycle(cell)
    cycle.prepare()
    return cell, cycle


def test_clock_goes_forward(cell):
    before = cell.clock.now()
    cell.clock.sleep(0.1)
    assert cell.clock.now() - before > 0.08


def test_arm_reaches_the_end_of_a_trajectory(ready):
    cell, _ = ready
    here = cell.arm.state().positions_rad
    there = here + np.array([0.1, 0.05, 0, 0, 0, 0.1, -0.2])
    before = cell.clock.now()
    speed = cell.file.motion.speed
    trajectory = point_to_point(here, there, goal="a little aside", speed=speed)
    cell.arm.follow(trajectory)
    cell.clock.sleep(0.5)  # an arm comes to rest after its command does
    state = cell.arm.state()
    np.testing.assert_allclose(state.positions_rad, there, atol=1e-3)
    assert state.fault is None
    assert cell.clock.now() - before >= trajectory.duration_s * 0.99
    cell.arm.follow(point_to_point(state.positions_rad, here, goal="back", speed=speed))


def test_arm_refuses_a_trajectory_that_starts_elsewhere(ready):
    cell, _ = ready
    here = cell.arm.state().positions_rad
    with pytest.raises(MotionRejected, match=r"arm: .*start"):
        cell.arm.follow(point_to_point(here + 0.2, here, goal="home"))
    np.testing.assert_allclose(cell.arm.state().positions_rad, here, atol=1e-4)


def test_arm_refuses_a_trajectory_over_its_limits(ready):
    cell, _ = ready
    here = cell.arm.state().positions_rad
    slow = point_to_point(here, here + 0.3, goal="too fast")
    fast = type(slow)(slow.goal, slow.times_s / 20, slow.positions_rad, slow.velocities_rad_s * 20)
    with pytest.raises(MotionRejected, match="joint"):
        cell.arm.follow(fast)
    np.testing.assert_allclose(cell.arm.state().positions_rad, here, atol=1e-4)


def test_recovery_needs_a_person(cell):
    with pytest.raises(ReflexStop, match="nobody acknowledged"):
        cell.arm.recover(acknowledged_by="")


def test_gripper_says_that_it_holds_nothing(ready):
    cell, _ = ready
    grasp = cell.gripper.grasp(0.004, 20.0)
    assert not grasp.held and grasp.width_m < 0.002
    cell.gripper.release()
    assert cell.gripper.state().width_m > 0.07


def test_empty_scale_weighs_nothing(ready):
    cell, _ = ready
    cell.scale.tare()
    weighing = cell.scale.weigh()
    assert weighing.stable and abs(weighing.mass_g) < 0.01


def test_a_part_goes_round(ready):
    cell, cycle = ready
    ticket = cell.source.next()
    frames, masks = {}, []

    def keep(view, frame, mask):
        frames[view] = frame
        masks.append(mask)

    passage, target, cycle_s = cycle.run(ticket, on_frame=keep, choose_bin=lambda passage: "recheck")
    assert target == "recheck" and passage.faults == () and cycle_s > 1
    assert tuple(frames) == passage.pictures and set(frames) == set(cell.part.view_names)

    k = cell.camera.intrinsics
    for frame in frames.values():
        assert frame.image.dtype == np.uint8 and frame.image.shape[:2] == (k.height, k.width)
        assert frame.serial == cell.camera.serial and frame.exposure_us == cell.camera.exposure_us
    if cell.file.hand is not None:
        assert all(mask.dtype == np.bool_ and mask.shape == (k.height, k.width) and mask.any() for mask in masks)
    assert len({frame.number for frame in frames.values()}) == len(frames)
    times = [frame.timestamp_s for frame in frames.values()]
    assert times == sorted(times) and len(set(times)) == len(times)

    mass = cell.part.mass
    assert passage.weighing is not None and passage.weighing.stable
    assert abs(passage.weighing.mass_g - mass.nominal_g) <= mass.tolerance_g
    assert not cell.gripper.state().held


def test_parts_have_names_of_their_own(ready):
    cell, _ = ready
    tickets = [cell.source.next() for _ in range(3)]
    assert len({ticket.part_id for ticket in tickets}) == 3
