import numpy as np
import pybullet as p
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cell.config import load_cell, load_part
from cell.interfaces import JointTrajectory, MotionRejected, Pose
from cell.motion.inverse import inverse
from cell.motion.panda import Q_MAX, Q_MIN, forward, jacobian
from cell.motion.round import camera_pose, grasp_pose, view_pose
from cell.motion.trajectory import point_to_point, smoothed, stretched, time_path, tool_peaks, violation
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


def test_inverse_gives_back_the_configuration_that_made_the_pose():
    for q in np.random.default_rng(1).uniform(Q_MIN + 0.1, Q_MAX - 0.1, size=(100, 7)):
        # A forearm that points beyond straight has no closed form in the paper.
        q[3] = min(q[3], -0.5)
        goal = forward(q)
        solutions = inverse(goal, q[6:])
        assert np.abs(solutions - q).max(axis=1).min() < 1e-6
        for solution in solutions:
            assert (solution >= Q_MIN).all() and (solution <= Q_MAX).all()
            np.testing.assert_allclose(forward(solution).position_m, goal.position_m, atol=1e-6)
            np.testing.assert_allclose(forward(solution).rotation, goal.rotation, atol=1e-6)


def test_inverse_has_nothing_to_say_about_what_is_out_of_reach():
    assert len(inverse(Pose(np.eye(3), np.array([2.0, 0.0, 0.5])), np.linspace(-2.8, 2.8, 20))) == 0


def test_jacobian_is_the_derivative_of_forward():
    for q in np.random.default_rng(2).uniform(Q_MIN + 0.1, Q_MAX - 0.1, size=(5, 7)):
        analytic = jacobian(q)
        for joint, step in enumerate(np.eye(7) * 1e-6):
            ahead, behind = forward(q + step), forward(q - step)
            np.testing.assert_allclose(analytic[:3, joint], (ahead.position_m - behind.position_m) / 2e-6, atol=1e-8)
            turn = Rotation.from_matrix(ahead.rotation @ behind.rotation.T).as_rotvec() / 2e-6
            np.testing.assert_allclose(analytic[3:, joint], turn, atol=1e-6)


@settings(max_examples=12, deadline=None)
@given(start=joint_positions, end=joint_positions, speed=st.floats(0.05, 1.0))
def test_point_to_point_keeps_every_limit(start, end, speed):
    trajectory = point_to_point(np.array(start), np.array(end), goal="somewhere", speed=speed)
    assert violation(trajectory) is None
    np.testing.assert_allclose(trajectory.positions_rad[[0, -1]], [start, end], atol=1e-12)
    np.testing.assert_allclose(trajectory.velocities_rad_s[[0, -1]], 0, atol=1e-9)


def test_point_to_point_uses_the_limits():
    trajectory = point_to_point(HOME, HOME + np.array([0.5, 0, 0, 0, 0, 0, 0]), goal="somewhere")
    assert np.abs(trajectory.velocities_rad_s).max() > 0.5 * 2.175


@settings(max_examples=6, deadline=None)
@given(corners=st.lists(joint_positions, min_size=3, max_size=5), speed=st.sampled_from([1.0, 0.3]))
def test_paths_with_corners_keep_every_limit(corners, speed):
    # Corners near enough to each other for the paths that come up.
    corners = np.clip(np.array(corners[0]) + (np.array(corners) - corners[0]) * 0.3, Q_MIN + 0.05, Q_MAX - 0.05)
    trajectory = time_path(corners, goal="somewhere", speed=speed)
    assert violation(trajectory) is None
    np.testing.assert_allclose(trajectory.positions_rad[[0, -1]], corners[[0, -1]], atol=1e-12)
    np.testing.assert_allclose(trajectory.velocities_rad_s[[0, -1]], 0, atol=1e-9)
    velocity, acceleration = tool_peaks(trajectory)
    assert velocity <= 1.7 * speed + 1e-6 and acceleration <= 13.0 * speed**2 + 1e-3


def test_velocities_belong_to_the_positions():
    trajectory = time_path(HOME + np.array([[0.0] * 7, [0.5] * 7, [0.2, 0.8, 0.1, 0.1, 0.3, 0.9, 0]]), goal="x")
    slope = np.gradient(trajectory.positions_rad, trajectory.times_s, axis=0)
    np.testing.assert_allclose(trajectory.velocities_rad_s[2:-2], slope[2:-2], atol=0.02)


def test_speed_stretches_time_and_nothing_else():
    full = point_to_point(HOME, HOME + 0.3, goal="x")
    slow = stretched(full, 0.3)
    assert slow.duration_s == pytest.approx(full.duration_s / 0.3, abs=1e-3)
    at = np.searchsorted(slow.times_s, full.times_s[100] / 0.3)
    np.testing.assert_allclose(slow.positions_rad[at], full.positions_rad[100], atol=2e-3)


def test_violation_sees_an_abrupt_start():
    good = point_to_point(HOME, HOME + 0.4, goal="x")
    late = JointTrajectory("x", good.times_s[:-80], good.positions_rad[80:], good.velocities_rad_s[80:])
    assert "acceleration" in violation(late)


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


def test_smoothed_motion_has_the_same_ends_and_less_jerk():
    fast = point_to_point(HOME, HOME + 0.4, goal="x")
    slow = smoothed(fast, 0.05)
    np.testing.assert_allclose(slow.positions_rad[[0, -1]], fast.positions_rad[[0, -1]], atol=1e-12)
    np.testing.assert_allclose(slow.velocities_rad_s[[0, -1]], 0.0, atol=1e-12)
    assert slow.duration_s == pytest.approx(fast.duration_s + 0.049)
    np.testing.assert_allclose(np.gradient(slow.positions_rad, 0.001, axis=0), slow.velocities_rad_s, atol=0.01)
    accelerations = [np.diff(one.velocities_rad_s, axis=0) / 0.001 for one in (fast, slow)]
    jerks = [np.abs(np.diff(one, axis=0)).max() / 0.001 for one in accelerations]
    assert jerks[1] <= 2.1 * np.abs(accelerations[0]).max() / 0.05 < jerks[0]
