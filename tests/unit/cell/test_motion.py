import numpy as np
import pybullet as p
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell.config import load_cell, load_part
from cell.interfaces import JointTrajectory, MotionRejected
from cell.motion.panda import Q_MAX, Q_MIN, forward, inverse
from cell.motion.round import camera_pose, grasp_pose, plan_round, view_pose
from cell.motion.trajectory import point_to_point, violation
from twin.world import panda_urdf

HOME = np.array(load_cell("twin").content.motion.home_rad)
joint_positions = st.tuples(*(st.floats(low + 0.05, high - 0.05) for low, high in zip(Q_MIN, Q_MAX, strict=True)))


@pytest.fixture(scope="module")
def bullet():
    client = p.connect(p.DIRECT)
    robot = p.loadURDF(str(panda_urdf()), useFixedBase=True, physicsClientId=client)
    yield client, robot
    p.disconnect(client)


def test_forward_agrees_with_the_urdf(bullet):
    client, robot = bullet
    for q in np.random.default_rng(0).uniform(Q_MIN, Q_MAX, size=(20, 7)):
        for joint, angle in enumerate(q):
            p.resetJointState(robot, joint, angle, physicsClientId=client)
        hand = p.getLinkState(robot, 8, computeForwardKinematics=True, physicsClientId=client)
        rotation = np.array(p.getMatrixFromQuaternion(hand[5])).reshape(3, 3)
        pose = forward(q)
        np.testing.assert_allclose(pose.rotation, rotation, atol=1e-6)
        np.testing.assert_allclose(pose.position_m, np.array(hand[4]) + rotation @ [0, 0, 0.1034], atol=1e-6)


def test_inverse_finds_poses_that_exist_and_stays_within_limits():
    found = 0
    for q in np.random.default_rng(1).uniform(Q_MIN + 0.3, Q_MAX - 0.3, size=(12, 7)):
        goal = forward(q)
        solution = inverse(goal, HOME)
        if solution is None:
            continue
        found += 1
        assert (solution >= Q_MIN).all() and (solution <= Q_MAX).all()
        reached = forward(solution)
        np.testing.assert_allclose(reached.position_m, goal.position_m, atol=1e-6)
        np.testing.assert_allclose(reached.rotation, goal.rotation, atol=1e-6)
    assert found >= 10


@settings(max_examples=60, deadline=None)
@given(start=joint_positions, end=joint_positions, speed=st.floats(0.05, 1.0))
def test_point_to_point_keeps_every_limit(start, end, speed):
    trajectory = point_to_point(np.array(start), np.array(end), goal="somewhere", speed=speed)
    assert violation(trajectory) is None
    np.testing.assert_allclose(trajectory.positions_rad[[0, -1]], [start, end], atol=1e-12)
    np.testing.assert_allclose(trajectory.velocities_rad_s[[0, -1]], 0, atol=1e-9)


def test_point_to_point_uses_the_limits():
    trajectory = point_to_point(HOME, HOME + np.array([0.5, 0, 0, 0, 0, 0, 0]), goal="somewhere")
    assert np.abs(trajectory.velocities_rad_s).max() > 0.5 * 2.175


def test_end_outside_the_limits_is_rejected_by_name():
    end = HOME.copy()
    end[3] = 0.5
    with pytest.raises(MotionRejected, match=r"joint 4 .* planning the way to nowhere"):
        point_to_point(HOME, end, goal="nowhere")


@pytest.mark.parametrize(
    "stretch, said", [(0.2, "velocity|acceleration|jerk"), (1.0, None)], ids=["five times too fast", "as planned"]
)
def test_violation_sees_what_is_too_fast(stretch, said):
    good = point_to_point(HOME, HOME + 0.4, goal="x")
    fast = JointTrajectory("x", good.times_s * stretch, good.positions_rad, good.velocities_rad_s / stretch)
    result = violation(fast)
    assert (result is None) if said is None else any(word in result for word in said.split("|"))


def test_every_view_shows_the_part_centre_on_the_optical_axis_at_the_working_distance():
    scene, part = load_cell("twin").content.scene, load_part("ring").content
    camera = camera_pose(scene.camera)
    for grasp in part.grasps:
        for view in part.views:
            hand = view_pose(view, grasp, part, scene.camera)
            centre = (hand @ grasp_pose(grasp).inverse()).apply(np.array(part.centre_mm) / 1000)
            seen = camera.inverse().apply(centre)
            np.testing.assert_allclose(seen, [0, 0, 0.42], atol=1e-9)
            to_camera = hand.rotation.T @ -camera.rotation[:, 2]
            assert np.degrees(np.arccos(np.clip(to_camera[2], -1, 1))) == pytest.approx(view.tilt_deg, abs=1e-6)


def test_hand_comes_from_below_without_roll():
    scene, part = load_cell("twin").content.scene, load_part("ring").content
    camera = camera_pose(scene.camera)
    for view in part.views:
        if view.roll_deg == 0:
            hand = camera.inverse() @ view_pose(view, part.grasps[0], part, scene.camera)
            centre = hand.apply(grasp_pose(part.grasps[0]).inverse().apply(np.array(part.centre_mm) / 1000))
            assert hand.position_m[1] > centre[1], view.name


def test_unreachable_pose_is_named_before_anything_moves():
    scene, part = load_cell("twin").content.scene, load_part("ring").content
    far = scene.model_copy(update={"scale": scene.scale.model_copy(update={"position_m": (2.0, 0.0, 0.1)})})
    with pytest.raises(MotionRejected, match="pose above scale"):
        plan_round(far, part, HOME)


def test_round_is_the_same_every_time():
    scene, part = load_cell("twin").content.scene, load_part("ring").content
    first, second = plan_round(scene, part, HOME), plan_round(scene, part, HOME)
    for one, other in zip(first.views, second.views, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name].q, other[name].q)
