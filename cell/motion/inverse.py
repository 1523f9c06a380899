"""Inverse kinematics of the Panda in closed form, with its last joint as the free parameter.

Source: He and Liu, "Analytical inverse kinematics for Franka Emika Panda – a geometrical solver for 7-DOF
manipulators with unconventional design", ICCMA 2021. Names of points and angles are the paper's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import Pose
from cell.motion.panda import FLANGE_M, Q_MAX, Q_MIN, TCP_M, forward_all

_D1, _D3, _D5 = 0.333, 0.316, 0.384
_A4, _A7 = 0.0825, 0.088
_L24, _L46 = np.hypot(_A4, _D3), np.hypot(_A4, _D5)
_H46, _342, _46H = np.arctan(_D5 / _A4), np.arctan(_D3 / _A4), np.arctan(_A4 / _D5)
_MARGIN_RAD = 0.03
_REACHED = 1e-6


def inverse(goal: Pose, q7: NDArray[np.float64], *, margin_rad: float = _MARGIN_RAD) -> NDArray[np.float64]:
    """Return all joint positions that bring the tool centre point to `goal` with the last joint at given angles.

    Parameters
    ----------
    goal : Pose
        Of the tool centre point, in the base's frame.
    q7 : (K,) float64
        Angles of the last joint, rad.
    margin_rad : float
        Kept from each joint limit, rad.

    Returns
    -------
    (N, 7) float64
        At most four solutions for each angle, all of them within the limits; N can be 0.
    """
    q7 = np.atleast_1d(np.asarray(q7, dtype=np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = _solve(goal, q7)
    lower, upper = Q_MIN + margin_rad, Q_MAX - margin_rad
    found = found[np.isfinite(found).all(axis=1) & (found >= lower).all(axis=1) & (found <= upper).all(axis=1)]
    tools = forward_all(found)
    away = np.abs(tools[:, :3, 3] - goal.position_m).max(axis=1)
    turned = np.abs(tools[:, :3, :3] - goal.rotation).max(axis=(1, 2))
    exact: NDArray[np.float64] = found[(away < _REACHED) & (turned < _REACHED)]
    return exact


def inverse_near(goal: Pose, near: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the joint positions at `goal` with the last joint as in `near` (7,) that are next to it, or None."""
    found = inverse(goal, near[6:])
    if len(found) == 0:
        return None
    nearest: NDArray[np.float64] = found[int(np.argmin(np.abs(found - near).max(axis=1)))]
    return nearest


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    units: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return units


def _solve(goal: Pose, q7: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return candidates (4 K, 7); those that do not exist hold NaN or miss the goal."""
    z_hand = goal.rotation[:, 2]
    angle = q7 - np.pi / 4
    x6 = np.stack([np.cos(angle), -np.sin(angle), np.zeros_like(angle)], axis=1) @ goal.rotation.T
    p6 = goal.position_m - (FLANGE_M + TCP_M) * z_hand - _A7 * x6
    p2 = np.array([0.0, 0.0, _D1])
    v26 = p6 - p2
    l26 = np.linalg.norm(v26, axis=1)

    angle246 = np.arccos((_L24**2 + _L46**2 - l26**2) / (2 * _L24 * _L46))
    q4 = angle246 + _H46 + _342 - 2 * np.pi
    angle462 = np.arccos((l26**2 + _L46**2 - _L24**2) / (2 * l26 * _L46))
    angle26h = _46H + angle462

    z6 = _unit(np.cross(z_hand, x6))
    y6 = _unit(np.cross(z6, x6))
    r6 = np.stack([x6, y6, z6], axis=2)
    v62 = -np.einsum("kji,kj->ki", r6, v26)
    phi = np.arctan2(v62[:, 1], v62[:, 0])
    theta = np.arcsin(-l26 * np.cos(angle26h) / np.hypot(v62[:, 0], v62[:, 1]))
    angle_p26 = 1.5 * np.pi - angle462 - angle246 - _342
    l_p6 = l26 * np.sin(angle_p26) / np.sin(np.pi - angle_p26 - angle26h)

    solutions = []
    for q6 in (np.pi - theta - phi, theta - phi):
        q6 = np.mod(q6 - Q_MIN[5], 2 * np.pi) + Q_MIN[5]
        c6, s6, zero = np.cos(q6), np.sin(q6), np.zeros_like(q6)
        z5 = np.einsum("kij,kj->ki", r6, np.stack([s6, c6, zero], axis=1))
        v2p = p6 - l_p6[:, np.newaxis] * z5 - p2
        z3 = _unit(v2p)
        x3 = np.cross(_unit(-np.cross(v26, v2p)), z3)
        vh4 = p2 + _D3 * z3 + _A4 * x3 - p6 + _D5 * z5
        # Columns of the fifth frame, seen from the sixth.
        x5 = np.einsum("kij,kj->ki", r6, np.stack([c6, -s6, zero], axis=1))
        y5 = -r6[:, :, 2]
        q5 = -np.arctan2((y5 * vh4).sum(axis=1), (x5 * vh4).sum(axis=1))
        for shoulder in (1.0, -1.0):
            q1 = np.arctan2(shoulder * v2p[:, 1], shoulder * v2p[:, 0])
            q2 = shoulder * np.arccos(z3[:, 2])
            along = np.cos(q1) * x3[:, 0] + np.sin(q1) * x3[:, 1]
            across = -np.sin(q1) * x3[:, 0] + np.cos(q1) * x3[:, 1]
            q3 = np.arctan2(across, np.cos(q2) * along - np.sin(q2) * x3[:, 2])
            solutions.append(np.stack([q1, q2, q3, q4, q5, q6, q7], axis=1))
    return np.concatenate(solutions)
