"""Camera, its mounting and the arm's geometry from corners of a board that the arm showed to the camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from cell.calibration.board import Corners
from cell.interfaces import CellError, Intrinsics, Pose
from cell.motion.panda import forward, forward_all
from cell.projection import pixels_of

# How far an arm's parameters are expected to be off, as standard deviations: a, d (m), alpha, theta (rad), and both
# parts of what an encoder misses once a turn. Links are made to ISO 2768 fine and H (0.2 mm in 400 mm, 0.3 mm square
# over 300 mm); Pandas that were not calibrated are off by millimetres at the tool, which are mostly the joints' zeros;
# makers of shaft encoders state 20 arc seconds.
_EXPECTED = np.tile([2e-4, 2e-4, 1e-3, 3e-3, 7e-5, 7e-5], (7, 1)).ravel()
# k1, k2, p1, p2: lenses of such cameras bend by a per cent or two at the corners, where the board is not seen.
_LENS = np.array([0.3, 0.3, 3e-3, 3e-3])
# Of each joint at each stop: about 0.1 mm at the tool at three standard deviations, Franka's repeatability.
_REPEATABILITY_RAD = 4e-5
_CORNER_PX = 0.1
_STEP_RAD = 1e-6
_FEWEST = 8


@dataclass(frozen=True)
class Shot:
    """A picture of the board.

    Attributes
    ----------
    name : str
        Of the view.
    grasp : int
        How the hand holds the board; it may lie a little otherwise in the hand at each.
    joints_rad : (7,) float64
        As the arm reported them.
    corners : Corners
    """

    name: str
    grasp: int
    joints_rad: NDArray[np.float64]
    corners: Corners


@dataclass(frozen=True)
class Solution:
    """What the pictures say.

    Attributes
    ----------
    intrinsics : Intrinsics
    camera : Pose
        In the base's frame.
    boards : tuple of Pose
        Of the board in the frame of the tool centre point, for each grasp.
    off : (7, 6) float64
        What the arm differs by from the nominal one; see `cell.motion.panda.forward_all`.
    """

    intrinsics: Intrinsics
    camera: Pose
    boards: tuple[Pose, ...]
    off: NDArray[np.float64]

    def pixels(self, shots: Sequence[Shot]) -> NDArray[np.float64]:
        """Return where the corners of shots, one after the other (N, 2), are expected from what the arm reported."""
        tools = forward_all(np.stack([shot.joints_rad for shot in shots]), off=self.off)
        boards = np.stack([_matrix(self.boards[shot.grasp]) for shot in shots])
        in_camera = _matrix(self.camera.inverse()) @ tools @ boards
        of_shot = np.repeat(np.arange(len(shots)), [len(shot.corners.points_m) for shot in shots])
        points = np.concatenate([shot.corners.points_m for shot in shots])
        seen = np.einsum("nij,nj->ni", in_camera[of_shot, :3, :3], points) + in_camera[of_shot, :3, 3]
        return pixels_of(self.intrinsics, seen[:, :2] / seen[:, 2:])

    def errors_px(self, shot: Shot) -> NDArray[np.float64]:
        """Return how far off (N,) the corners of a shot are found from where they are expected."""
        return np.asarray(np.linalg.norm(self.pixels([shot]) - shot.corners.pixels, axis=1))


def solve(shots: Sequence[Shot], width: int, height: int, *, arm: bool) -> Solution:
    """Estimate everything together, so that the corners are expected where they were found.

    Parameters
    ----------
    shots : sequence of Shot
        From different directions.
    width, height : int
        Of the pictures.
    arm : bool
        Whether the arm's parameters are estimated, too; otherwise it is taken to be the nominal one.

    Returns
    -------
    Solution

    Raises
    ------
    CellError
        There are too few pictures, or they contradict each other.

    Notes
    -----
    Starts from OpenCV's `calibrateCamera` and `calibrateHandEye` (camera beside the arm, board in the hand). Then the
    reprojection error is minimised by Levenberg and Marquardt's method, weighted by what corners and the arm's
    repeatability make uncertain, with the expected size of the arm's errors and the lens's distortion as prior
    knowledge: what the pictures say nothing about stays nominal.
    """
    if len(shots) < _FEWEST:
        raise CellError(
            f"{len(shots)} pictures show enough of the board, and at least {_FEWEST} must: look at light, "
            "focus and whether the board in the part file is the one in the hand"
        )
    start = _start(shots, width, height)
    expected = _EXPECTED if arm else np.empty(0)
    weights = [_weights(start, shot) for shot in shots]
    found_at = np.concatenate([shot.corners.pixels for shot in shots])
    ends = np.cumsum([len(shot.corners.pixels) for shot in shots])[:-1]

    def unpack(x: NDArray[np.float64]) -> Solution:
        k = start.intrinsics
        fx, fy, cx, cy = np.array([k.fx, k.fy, k.cx, k.cy]) * np.exp(x[:4])
        k1, k2, p1, p2 = x[4:8]
        poses = [_moved(pose, x[8 + 6 * index :][:6]) for index, pose in enumerate((start.camera, *start.boards))]
        off = x[8 + 6 * len(poses) :] * expected if arm else np.zeros(_EXPECTED.size)
        intrinsics = Intrinsics(fx, fy, cx, cy, width, height, k1, k2, p1, p2)
        return Solution(intrinsics, poses[0], tuple(poses[1:]), off.reshape(7, 6))

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        away = unpack(x).pixels(shots) - found_at
        seen = [w @ part.ravel() for w, part in zip(weights, np.split(away, ends), strict=True)]
        return np.concatenate([*seen, x[4:8] / _LENS, x[len(x) - len(expected) :]])

    k = start.intrinsics
    x0 = np.concatenate([np.zeros(4), [k.k1, k.k2, k.p1, k.p2], np.zeros(6 * (1 + len(start.boards)) + len(expected))])
    found = least_squares(residuals, x0, method="lm", x_scale="jac", ftol=1e-6, xtol=1e-7)
    if not found.success:
        raise CellError(f"The calibration does not settle ({found.message}); take the pictures again")
    return unpack(found.x)


def held_out_errors_px(shots: Sequence[Shot], width: int, height: int, *, arm: bool) -> list[NDArray[np.float64]]:
    """Return the errors of each shot, expected from the others alone."""
    others = [[*shots[:index], *shots[index + 1 :]] for index in range(len(shots))]
    return [solve(rest, width, height, arm=arm).errors_px(shot) for rest, shot in zip(others, shots, strict=True)]


def _start(shots: Sequence[Shot], width: int, height: int) -> Solution:
    """Solve for the camera alone, then for where it stands, with the nominal arm."""
    points = [shot.corners.points_m.astype(np.float32) for shot in shots]
    # OpenCV counts from the centre of the first pixel.
    pixels = [(shot.corners.pixels - 0.5).astype(np.float32) for shot in shots]
    _, matrix, lens, turns, places = cv2.calibrateCamera(
        points, pixels, (width, height), np.eye(3), np.zeros(5), flags=cv2.CALIB_FIX_K3
    )
    k1, k2, p1, p2, _ = lens.ravel().tolist()
    (fx, _, cx), (_, fy, cy), _ = matrix.tolist()
    intrinsics = Intrinsics(fx, fy, cx + 0.5, cy + 0.5, width, height, k1, k2, p1, p2)
    in_camera = [
        Pose(np.asarray(cv2.Rodrigues(turn)[0], np.float64), np.asarray(place, np.float64).ravel())
        for turn, place in zip(turns, places, strict=True)
    ]
    hands = [forward(shot.joints_rad) for shot in shots]
    grasps = sorted({shot.grasp for shot in shots})
    most = max(grasps, key=lambda grasp: sum(shot.grasp == grasp for shot in shots))
    used = [index for index, shot in enumerate(shots) if shot.grasp == most]
    bases = [hands[index].inverse() for index in used]
    turn, place = cv2.calibrateHandEye(
        [pose.rotation for pose in bases],
        [pose.position_m for pose in bases],
        [in_camera[index].rotation for index in used],
        [in_camera[index].position_m for index in used],
        method=cv2.CALIB_HAND_EYE_PARK,
    )
    camera = Pose(np.asarray(turn, np.float64), np.asarray(place, np.float64).ravel())
    boards = []
    for grasp in range(max(grasps) + 1):
        index = next((i for i, shot in enumerate(shots) if shot.grasp == grasp), 0)
        boards.append(hands[index].inverse() @ camera @ in_camera[index])
    return Solution(intrinsics, camera, tuple(boards), np.zeros((7, 6)))


def _weights(start: Solution, shot: Shot) -> NDArray[np.float64]:
    """Return the matrix that whitens a shot's residuals: corners are found well, but the arm moves them together."""
    here = start.pixels([shot]).ravel()
    steps = shot.joints_rad + _STEP_RAD * np.eye(7)
    moved = [start.pixels([replace(shot, joints_rad=q)]).ravel() for q in steps]
    slopes = np.stack([(there - here) / _STEP_RAD for there in moved], axis=1)
    covariance = _CORNER_PX**2 * np.eye(len(here)) + _REPEATABILITY_RAD**2 * slopes @ slopes.T
    return np.asarray(np.linalg.inv(np.linalg.cholesky(covariance)))


def _moved(pose: Pose, step: NDArray[np.float64]) -> Pose:
    """Turn a pose about its own origin by a rotation vector, rad, and shift it, 0.1 m."""
    return Pose(Rotation.from_rotvec(step[:3]).as_matrix() @ pose.rotation, pose.position_m + 0.1 * step[3:])


def _matrix(pose: Pose) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = pose.rotation, pose.position_m
    return matrix
