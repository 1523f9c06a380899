"""Camera and arm from pictures of a board: the estimate, the arm between, and the cell file."""

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import cell.calibration.solve
from cell.calibration.board import CharucoPattern, Corners, find_corners
from cell.calibration.session import pattern_of
from cell.calibration.solve import Shot, solve
from cell.config import load_part
from cell.interfaces import ArmState, CellError, ConfigError, Pose
from cell.motion.geometry import CorrectedArm, joints_at
from cell.motion.inverse import inverse
from cell.motion.panda import Q_MAX, Q_MIN, forward, forward_all
from cell.motion.round import camera_pose, grasp_pose, view_pose
from cell.motion.trajectory import point_to_point, violation
from cell.schema import ArmGeometry, CameraMount
from cell.written import with_values
from twin.arm_error import ArmError

BOARD = load_part("board").content
PATTERN = pattern_of(BOARD)
MOUNT = CameraMount(position_m=(0.45, 0.78, 0.50), look_at_m=(0.45, 0.36, 0.50))
HOME = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
MATRIX = np.array([[2741.0, 0, 640.3], [0, 2735.0, 478.1], [0, 0, 1]])
LENS = np.array([-0.08, 0.02, 0.0003, -0.0002])


def shots_of(arm=None, *, noise_px: float = 0.0, joints_rad: float = 0.0) -> list[Shot]:
    """Pictures of the board by OpenCV's own projection, as an arm with these errors shows it."""
    rng = np.random.default_rng(1)
    corners = np.asarray(PATTERN.board().getChessboardCorners(), float) / 1000
    camera, shots = camera_pose(MOUNT), []
    for index, grasp in enumerate(BOARD.grasps):
        in_hand = grasp_pose(grasp).inverse() @ Pose(np.eye(3), np.array([-0.0481, -0.0362, 0.0001]))
        for view in BOARD.views:
            ways = inverse(view_pose(view, grasp, BOARD, MOUNT), np.arange(-2.5, 2.5, 0.1))
            reported = ways[np.argmin(np.abs(ways - HOME).max(axis=1))]
            moved = reported + joints_rad * rng.standard_normal(7)
            true = moved if arm is None else arm.true(moved)
            seen = camera.inverse() @ forward(true) @ in_hand
            pixels, _ = cv2.projectPoints(corners, cv2.Rodrigues(seen.rotation)[0], seen.position_m, MATRIX, LENS)
            found = pixels.reshape(-1, 2) + 0.5 + noise_px * rng.standard_normal((len(corners), 2))
            shots.append(Shot(f"{grasp.name}-{view.name}", index, reported, Corners(corners, found)))
    return shots


def p95(shots, *, arm: bool) -> float:
    """Of pictures that the estimate has not seen."""
    found = solve([shot for index, shot in enumerate(shots) if index % 6], 1280, 960, arm=arm)
    return float(np.percentile(np.concatenate([found.errors_px(shot) for shot in shots[::6]]), 95))


def test_exact_pictures_give_camera_and_mounting_back():
    found = solve(shots_of(), 1280, 960, arm=False)
    k, camera = found.intrinsics, camera_pose(MOUNT)
    np.testing.assert_allclose((k.fx, k.fy, k.cx - 0.5, k.cy - 0.5), MATRIX[[0, 1, 0, 1], [0, 1, 2, 2]], atol=0.3)
    np.testing.assert_allclose(found.camera.position_m, camera.position_m, atol=1e-4)
    np.testing.assert_allclose(found.camera.rotation, camera.rotation, atol=1e-4)
    assert max(found.errors_px(shot).max() for shot in shots_of()) < 0.02


@pytest.mark.parametrize("unit", [0, 2])
def test_arm_that_nobody_calibrated_is_found_out(unit):
    arm = ArmError(unit)
    shots = shots_of(arm, noise_px=0.05, joints_rad=4e-5)
    off = [forward(shot.joints_rad).position_m - forward(arm.true(shot.joints_rad)).position_m for shot in shots]
    assert 1e-3 < np.linalg.norm(off, axis=1).mean() < 5e-3
    # 0.66 of these pixels are one of a crop of 104 mm at 1024². A planned round keeps to fewer postures of the arm than
    # these, and does better: see tests/integration/test_calibrate.py.
    assert p95(shots, arm=False) > 3
    assert p95(shots, arm=True) < 0.45


class RunOutArm:
    """An arm with nothing wrong but its encoders, by three times what their makers state."""

    def __init__(self) -> None:
        self.off = np.zeros((7, 6))
        self.off[:, 4:] = np.random.default_rng(0).normal(0, 3e-4, (7, 2))

    def true(self, reported):
        return joints_at(forward_all(reported, off=self.off), forward_all, reported)


def test_encoders_that_run_out_of_true_are_found_out(monkeypatch):
    shots = shots_of(RunOutArm())
    expected = cell.calibration.solve._EXPECTED
    assert p95(shots, arm=True) < 0.25
    monkeypatch.setattr(cell.calibration.solve, "_EXPECTED", np.where(expected == 7e-5, 1e-12, expected))
    assert p95(shots, arm=True) > 0.45


def test_too_few_pictures_are_refused():
    with pytest.raises(CellError, match="7 pictures show enough of the board"):
        solve(shots_of()[:7], 1280, 960, arm=True)


def test_corners_are_found_where_they_were_drawn():
    scale, shift = 10, np.array([40.0, 30.0])
    drawn = PATTERN.board().generateImage((PATTERN.columns * 120, PATTERN.rows * 120), marginSize=0)
    picture = np.full((960, 1280), 255, np.uint8)
    picture[30 : 30 + drawn.shape[0], 40 : 40 + drawn.shape[1]] = drawn
    found = find_corners(cv2.GaussianBlur(picture, (0, 0), 1.0), PATTERN)
    assert len(found.pixels) == (PATTERN.columns - 1) * (PATTERN.rows - 1)
    np.testing.assert_allclose(found.pixels, found.points_m[:, :2] * 1000 * scale + shift, atol=0.1)
    assert find_corners(np.zeros((480, 640), np.uint8), PATTERN) is None


@pytest.mark.parametrize(("turned", "tilted"), [(10, 0.0), (-25, 4e-4), (40, 7e-4)])
def test_markers_beside_a_corner_do_not_draw_it_aside(turned: float, tilted: float) -> None:
    fine, shown = 40, 26  # pixels of a square's twelfth: as drawn, and as seen after four of them are averaged
    drawn = PATTERN.board().generateImage((PATTERN.columns * 12 * fine, PATTERN.rows * 12 * fine), marginSize=0)
    middle = np.array([[1.0, 0, -drawn.shape[1] / 2], [0, 1, -drawn.shape[0] / 2], [0, 0, 1]])
    c, s = shown / fine * np.array([np.cos(np.radians(turned)), np.sin(np.radians(turned))])
    to_picture = (
        np.array([[1, 0, 2560.0], [0, 1, 1920], [0, 0, 1]]) @ [[c, -s, 0], [s, c, 0], [0, tilted / 4, 1]] @ middle
    )
    seen = cv2.warpPerspective(cv2.GaussianBlur(drawn, (0, 0), 1.5), to_picture, (5120, 3840), borderValue=255)
    picture = cv2.resize(seen, (1280, 960), interpolation=cv2.INTER_AREA)
    found = find_corners(picture, PATTERN)
    points = found.points_m[:, :2] * 1000 * fine - 0.5
    expected = (cv2.perspectiveTransform(points[np.newaxis], to_picture)[0] + 0.5) / 4
    assert len(found.pixels) == 35
    np.testing.assert_allclose(found.pixels, expected, atol=0.1)


def test_board_and_part_are_told_apart():
    with pytest.raises(ConfigError, match="no calibration board"):
        pattern_of(load_part("ring").content)
    with pytest.raises(ValueError, match="more markers than"):
        CharucoPattern(columns=20, rows=20, square_mm=10, marker_mm=7)


class RecordingArm:
    """An arm whose tool is not where its joints say; it remembers where it was sent."""

    def __init__(self, joints_rad) -> None:
        self.joints_rad, self.sent = joints_rad, None

    def state(self) -> ArmState:
        return ArmState(self.joints_rad, np.zeros(7), None)

    def follow(self, trajectory) -> None:
        self.sent, self.joints_rad = trajectory, trajectory.positions_rad[-1]


GEOMETRY = ArmGeometry(
    a_mm=(0.1, -0.2, 0.1, 0.2, -0.1, 0.2, 0.1),
    d_mm=(0.2, 0.1, -0.2, 0.1, 0.2, -0.1, 0.1),
    alpha_rad=(1e-3, -5e-4, 2e-4, -1e-3, 5e-4, 3e-4, -4e-4),
    theta_rad=(1e-3, 2e-3, -2e-3, 1e-3, -1e-3, 3e-3, -2e-3),
    encoder_sin_rad=(1e-4, 0, 0, -1e-4, 5e-5, 0, 1e-4),
    encoder_cos_rad=(0, 1e-4, -5e-5, 0, 1e-4, 1e-4, 0),
)
OFF = np.array(list(GEOMETRY.model_dump().values())).T * (1e-3, 1e-3, 1, 1, 1, 1)


def test_corrected_arm_brings_the_tool_where_the_nominal_one_would():
    goal = HOME + np.array([0.5, 0.3, -0.4, 0.5, 0.2, 0.6, -0.9])
    real = RecordingArm(HOME)
    arm = CorrectedArm(real, GEOMETRY)
    here = arm.state().positions_rad
    np.testing.assert_allclose(forward_all(here), forward_all(HOME, off=OFF), atol=1e-9)
    planned = point_to_point(here, goal, goal="there")
    arm.follow(planned)
    np.testing.assert_allclose(
        forward_all(real.sent.positions_rad, off=OFF), forward_all(planned.positions_rad), atol=1e-8
    )
    np.testing.assert_allclose(arm.state().positions_rad, goal, atol=1e-5)
    steps = np.gradient(real.sent.positions_rad, real.sent.times_s, axis=0)
    np.testing.assert_allclose(real.sent.velocities_rad_s[2:-2], steps[2:-2], atol=2e-3)
    assert violation(real.sent) is None


@given(st.integers(0, 50), st.lists(st.floats(0.15, 0.85), min_size=7, max_size=7))
def test_reported_and_true_joints_undo_each_other(unit, shares):
    reported = Q_MIN + np.array(shares) * (Q_MAX - Q_MIN)
    reported[[3, 5]] = -2.0, 1.9  # away from singular postures
    arm = ArmError(unit)
    true = arm.true(reported)
    np.testing.assert_allclose(forward_all(arm.true(arm.reported(true))), forward_all(true), atol=1e-6)
    np.testing.assert_allclose(joints_at(forward_all(true), forward_all, true), true, atol=1e-12)


CELL = """# my cell
kind: real
camera:                         # the old one
  class: a:B
  intrinsics:
    fx: 1   # guessed
    fy: 2
scene:
  camera: {position_m: [1, 2, 3], look_at_m: [0, 0, 0]}   # by tape
other: 7
"""


def test_written_values_leave_everything_else_as_it_was():
    values = {
        ("camera", "intrinsics"): {"fx": 10.5, "fy": 11.5, "k1": -0.1},
        ("scene", "camera"): {"position_m": [1.5, 2.5, 3.5], "look_at_m": [0.1, 0.2, 0.3], "up": [0.0, 0.0, 1.0]},
        ("arm_geometry",): {"a_mm": [0.5] * 7},
    }
    text = with_values(CELL, values)
    said = yaml.safe_load(text)
    assert said["camera"] == {"class": "a:B", "intrinsics": values["camera", "intrinsics"]}
    assert said["scene"]["camera"] == values["scene", "camera"] and said["other"] == 7
    assert said["arm_geometry"] == {"a_mm": [0.5] * 7}
    assert all(comment in text for comment in ("# my cell", "# the old one", "# guessed", "# by tape"))
    assert with_values(text, values) == text


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.floats(-1e6, 1e6) | st.lists(st.integers(), max_size=3), min_size=1)
)
def test_whatever_is_written_is_read_back(values):
    text = with_values(CELL, {("camera", name): value for name, value in values.items()})
    assert yaml.safe_load(text)["camera"] == {"class": "a:B", "intrinsics": {"fx": 1, "fy": 2}, **values}


def test_a_value_that_another_key_shares_is_refused():
    with pytest.raises(ConfigError, match="cannot be written"):
        with_values("one: &same {x: 1}\ntwo: *same\n", {("two", "x"): 2})
