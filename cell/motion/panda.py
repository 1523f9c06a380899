"""Kinematics and limits of the Franka Emika Panda.

Source: Franka Control Interface documentation, "Robot and interface specifications" (DH parameters after Craig,
joint limits).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cell.interfaces import N_JOINTS, Pose

Q_MIN = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
Q_MAX = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
V_MAX = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])
A_MAX = np.array([15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0])
J_MAX = np.array([7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0])
OPENING_MAX_M = 0.08

# The hand without its fingers: boxes that cover it, by two opposite corners, mm, in the frame of the tool centre point.
# Measured on the mesh of the hand in franka_description and rounded up.
PALM_MM = (
    ((-18.5, -104.0, -113.0), (18.5, 101.0, -37.0)),
    ((-6.0, -104.0, -130.0), (6.0, -38.0, -113.0)),
    ((-32.0, -32.0, -107.0), (32.0, 32.0, -95.0)),
    ((-29.0, 24.0, -113.0), (29.0, 95.0, -95.0)),
    ((-25.0, 64.0, -95.0), (25.0, 101.0, -45.0)),
)

# a (m), d (m), alpha (rad) of the seven joints, after Craig.
_DH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
)
_FLANGE_M = 0.107
# The hand is turned by -45° about the flange; the tool centre point lies between the finger tips.
_HAND_YAW = -np.pi / 4
_TCP_M = 0.1034
_MARGIN_RAD = 0.03
_REACHED = 1e-7
_STEP_RAD = 0.4


def _dh_constant(a: float, alpha: float) -> NDArray[np.float64]:
    c, s = np.cos(alpha), np.sin(alpha)
    return np.array([[1, 0, 0, a], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]], dtype=np.float64)


_DH_CONSTANT = tuple(_dh_constant(a, alpha) for a, _, alpha in _DH)


def _turn(angle: NDArray[np.float64], lift: float) -> NDArray[np.float64]:
    """Rotations about z with a lift along it, (..., 4, 4) from (...)."""
    turned = np.zeros((*angle.shape, 4, 4))
    turned[..., 0, 0] = turned[..., 1, 1] = np.cos(angle)
    turned[..., 1, 0] = np.sin(angle)
    turned[..., 0, 1] = -turned[..., 1, 0]
    turned[..., 2, 2] = turned[..., 3, 3] = 1.0
    turned[..., 2, 3] = lift
    return turned


_TOOL = _turn(np.array(0.0), _FLANGE_M) @ _turn(np.array(_HAND_YAW), _TCP_M)


def _frames(q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frames of the joints (..., 7, 4, 4) and of the tool centre point (..., 4, 4) from positions (..., 7)."""
    frames = []
    frame = np.eye(4)
    for joint, (constant, (_, d, _)) in enumerate(zip(_DH_CONSTANT, _DH, strict=True)):
        frame = frame @ constant @ _turn(q[..., joint], d)
        frames.append(frame)
    return np.stack(frames, axis=-3), frame @ _TOOL


def forward(q: NDArray[np.float64]) -> Pose:
    """Return the pose of the tool centre point (z: approach, y: opening) in the base's frame.

    Parameters
    ----------
    q : (7,) float64
        Joint positions, rad.
    """
    tool = _frames(q)[1]
    return Pose(tool[:3, :3], tool[:3, 3])


def inverse(
    goal: Pose, near: NDArray[np.float64], *, starts: int = 16, steps: int = 60, seed: int = 0
) -> NDArray[np.float64] | None:
    """Return joint positions that bring the tool centre point to `goal`, or None if none were found.

    Damped least squares from several starts at once (Buss, 2004); of the solutions within the joint limits, the
    one whose largest joint move from `near` is smallest.

    Parameters
    ----------
    goal : Pose
        In the base's frame.
    near : (7,) float64
        Where the arm comes from, rad.
    starts, steps : int
        Starts (`near`, and random ones drawn with `seed`) and iterations of each.
    """
    lower, upper = Q_MIN + _MARGIN_RAD, Q_MAX - _MARGIN_RAD
    q = np.random.default_rng(seed).uniform(lower, upper, size=(starts, N_JOINTS))
    q[0] = np.clip(near, lower, upper)
    for _ in range(steps):
        frames, tool = _frames(q)
        turn = Rotation.from_matrix(goal.rotation @ tool[:, :3, :3].swapaxes(1, 2)).as_rotvec()
        error = np.concatenate([goal.position_m - tool[:, :3, 3], turn], axis=1)
        reached = np.abs(error).max(axis=1) < _REACHED
        if reached.all():
            break
        axes = frames[:, :, :3, 2]
        levers = tool[:, np.newaxis, :3, 3] - frames[:, :, :3, 3]
        jacobian = np.concatenate([np.cross(axes, levers), axes], axis=2).swapaxes(1, 2)
        # Damping that fades with the error converges fast and stays calm beside singular poses.
        damping = np.clip((error**2).sum(axis=1), 1e-8, 0.05)[:, np.newaxis, np.newaxis] * np.eye(6)
        normal = jacobian @ jacobian.swapaxes(1, 2) + damping
        step = (jacobian.swapaxes(1, 2) @ np.linalg.solve(normal, error[:, :, np.newaxis]))[..., 0]
        step *= np.minimum(1.0, _STEP_RAD / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-12))
        q = np.where(reached[:, np.newaxis], q, np.clip(q + step, lower, upper))
    if not reached.any():
        return None
    moves = np.where(reached, np.abs(q - near).max(axis=1), np.inf)
    solution: NDArray[np.float64] = q[int(np.argmin(moves))]
    return solution
