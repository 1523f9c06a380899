"""Kinematics and limits of the Franka Emika Panda.

Source: Franka Control Interface documentation, "Robot and interface specifications" (DH parameters after Craig,
joint limits).
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import Pose

Q_MIN = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
Q_MAX = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
V_MAX = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])
A_MAX = np.array([15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0])
J_MAX = np.array([7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0])
OPENING_MAX_M = 0.08
TOOL_V_MAX, TOOL_A_MAX = 1.7, 13.0

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
FLANGE_M = 0.107
# The hand is turned by -45° about the flange; the tool centre point lies between the finger tips.
_HAND_YAW = -np.pi / 4
TCP_M = 0.1034


@cache
def hand_hulls_mm() -> dict[str, tuple[NDArray[np.float64], ...]]:
    """Return the corners (N, 3) of convex pieces of the Franka hand's "palm" and of one "finger".

    Millimetres in the tool centre point's frame; the finger is the one on the side of y, the hand closed. Hulls
    of the meshes in franka_description (Apache-2.0): of the palm's surface in 16 × 12 cells across y and z, rounded to
    1 mm, and of 6 slices of the finger, to 0.5 mm.
    """
    pieces = json.loads(files("cell.motion").joinpath("panda_hand.json").read_text(encoding="utf-8"))
    return {name: tuple(np.array(corners, dtype=np.float64) for corners in hulls) for name, hulls in pieces.items()}


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


_TOOL = _turn(np.array(0.0), FLANGE_M) @ _turn(np.array(_HAND_YAW), TCP_M)


def _frames(
    q: NDArray[np.float64], off: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frames of the joints (..., 7, 4, 4) and of the tool centre point (..., 4, 4) from positions (..., 7)."""
    frames = []
    frame = np.eye(4)
    for joint, (constant, (a, d, alpha)) in enumerate(zip(_DH_CONSTANT, _DH, strict=True)):
        if off is None:
            frame = frame @ constant @ _turn(q[..., joint], d)
        else:
            a_off, d_off, alpha_off, theta_off, sine, cosine = off[joint]
            said = q[..., joint]
            angle = said + theta_off + sine * np.sin(said) + cosine * np.cos(said)
            frame = frame @ _dh_constant(a + a_off, alpha + alpha_off) @ _turn(angle, d + d_off)
        frames.append(frame)
    return np.stack(frames, axis=-3), frame @ _TOOL


def forward(q: NDArray[np.float64]) -> Pose:
    """Return the pose of the tool centre point (z: approach, y: opening) in the base's frame.

    Parameters
    ----------
    q : (7,) float64
        Joint positions, rad.
    """
    tool = forward_all(q)
    return Pose(tool[:3, :3], tool[:3, 3])


def forward_all(q: NDArray[np.float64], *, off: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return the frames (..., 4, 4) of the tool centre point at joint positions (..., 7); see `forward`.

    `off` (7, 6) is what an arm's parameters differ from the nominal ones by, a m, d m, alpha rad and theta rad, and the
    sine's and the cosine's part, rad, of what an encoder that runs out of true misses once a turn (after Judd and
    Knasinski, *A technique to calibrate industrial robots with experimental verification*, 1990).
    """
    return _frames(q, off)[1]


def jacobian(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what joint velocities do to the tool centre point, (..., 6, 7): velocity m/s, then rotation rad/s."""
    frames, tool = _frames(q)
    axes = frames[..., :3, 2]
    levers = tool[..., np.newaxis, :3, 3] - frames[..., :3, 3]
    return np.concatenate([np.cross(axes, levers), axes], axis=-1).swapaxes(-1, -2)
