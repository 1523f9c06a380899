"""Point-to-point trajectories within velocity, acceleration and jerk limits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import JointTrajectory, MotionRejected
from cell.motion.panda import A_MAX, J_MAX, Q_MAX, Q_MIN, V_MAX

SAMPLE_S = 0.001
# Extremes of the quintic s(u) = 10u³ - 15u⁴ + 6u⁵ and its derivatives on [0, 1].
_PEAK_VELOCITY = 15 / 8
_PEAK_ACCELERATION = 10 / np.sqrt(3)
_PEAK_JERK = 60.0
_ROUNDING = 1e-3


def point_to_point(
    start: NDArray[np.float64], end: NDArray[np.float64], *, goal: str, speed: float = 1.0
) -> JointTrajectory:
    """Time a straight move in joint space, as short as a quintic allows within the Panda's limits.

    All joints start and end together, at rest and without acceleration (Flash and Hogan, 1985).

    Parameters
    ----------
    start, end : (7,) float64
        Joint positions, rad.
    goal : str
        Name of the pose it leads to.
    speed : float
        Share of the limits in (0, 1]: times stretch by ``1 / speed``.

    Raises
    ------
    MotionRejected
        The end lies outside the joint limits.
    """
    outside = np.flatnonzero((end < Q_MIN) | (end > Q_MAX) | ~np.isfinite(end))
    if outside.size:
        joint = int(outside[0])
        raise MotionRejected(
            "arm",
            f"planning the way to {goal}",
            f"joint {joint + 1} would have to stand at {end[joint]:.3f} rad, "
            f"outside {Q_MIN[joint]} to {Q_MAX[joint]} rad",
            "change the pose in the part or cell file",
        )
    move = np.abs(end - start)
    duration = max(
        float((_PEAK_VELOCITY * move / V_MAX).max()),
        float(np.sqrt((_PEAK_ACCELERATION * move / A_MAX).max())),
        float(np.cbrt((_PEAK_JERK * move / J_MAX).max())),
        SAMPLE_S,
    )
    duration /= speed
    times = np.linspace(0.0, duration, max(2, int(np.ceil(duration / SAMPLE_S)) + 1))
    u = (times / duration)[:, np.newaxis]
    way = u**3 * (10 - 15 * u + 6 * u**2)
    rate = 30 * u**2 * (1 - u) ** 2 / duration
    return JointTrajectory(goal, times, start + way * (end - start), rate * (end - start))


def violation(trajectory: JointTrajectory) -> str | None:
    """Return which of the Panda's limits a trajectory breaks, in words, or None.

    Checked at its samples: positions, and velocities, accelerations and jerks by difference.
    """
    values, times = trajectory.positions_rad, trajectory.times_s
    if not np.isfinite(values).all() or (np.diff(times) <= 0).any():
        return "it holds times or positions that are no increasing, finite numbers"
    step = np.diff(times)[:, np.newaxis]
    for name, unit, low, high in (
        ("position", "rad", Q_MIN, Q_MAX),
        ("velocity", "rad/s", -V_MAX, V_MAX),
        ("acceleration", "rad/s²", -A_MAX, A_MAX),
        ("jerk", "rad/s³", -J_MAX, J_MAX),
    ):
        over = np.argwhere((values < low - _ROUNDING) | (values > high + _ROUNDING))
        if len(over):
            sample, joint = (int(index) for index in over[0])
            return (
                f"the {name} of joint {joint + 1} would be {values[sample, joint]:.3f} {unit}, "
                f"outside {low[joint]} to {high[joint]}"
            )
        values = np.diff(values, axis=0) / step[: len(values) - 1]
    return None
