"""From a path in joint space to a trajectory within velocity, acceleration and jerk limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from cell.interfaces import JointTrajectory, MotionRejected
from cell.motion.panda import A_MAX, J_MAX, Q_MAX, Q_MIN, TOOL_A_MAX, TOOL_V_MAX, V_MAX, forward_all, jacobian

SAMPLE_S = 0.001
# toppra keeps the limits at its grid points; between them and after rounding to samples it needs some room.
_ROOM = 0.96
# Acceleration steps from limit to limit, which a mean over 2 a / j = 4 ms turns into a ramp at the jerk limit.
_JERK_SAMPLES = 5
_ROUND_RAD = 0.20
_KNOT_RAD = 0.02
_REST_RAD = 1e-4
_ROUNDING = 1e-3
_TRIES = 20
_REMEDY = "change the pose in the part or cell file"


@dataclass(frozen=True)
class ToolLimits:
    """What the tool centre point may do besides the joints: speed, m/s, and acceleration, m/s²."""

    velocity_m_s: float = TOOL_V_MAX
    acceleration_m_s2: float = TOOL_A_MAX


def time_path(
    waypoints: NDArray[np.float64],
    *,
    goal: str,
    speed: float = 1.0,
    tool: ToolLimits | None = None,
    rounded: bool = True,
) -> JointTrajectory:
    """Time a path as fast as the Panda's limits allow, from rest to rest.

    Corners of the path are rounded; toppra (Pham and Pham, 2018) finds the fastest timing within velocity and
    acceleration limits; a moving mean then ramps the accelerations within the jerk limits.

    Parameters
    ----------
    waypoints : (N, 7) float64
        Joint positions, rad, joined by straight lines. The first and the last are kept exactly.
    goal : str
        Name of the pose it leads to.
    speed : float
        Share of the limits in (0, 1]: times stretch by ``1 / speed``.
    tool : ToolLimits, optional
        Lower limits of the tool centre point than the Panda's own.
    rounded : bool
        Without, the arm stops at every waypoint instead of rounding it.

    Returns
    -------
    JointTrajectory
        A sample each millisecond.

    Raises
    ------
    MotionRejected
        A waypoint lies outside the joint limits.
    """
    _refuse_outside(waypoints, goal)
    tool = tool or ToolLimits()
    if not rounded and len(waypoints) > 2:
        pieces = [time_path(np.stack(pair), goal=goal, speed=speed, tool=tool) for pair in pairwise(waypoints)]
        return joined(goal, pieces)
    length, places = _rounded(waypoints)
    if length < _REST_RAD:
        return JointTrajectory(goal, np.array([0.0, SAMPLE_S]), waypoints[[0, -1]], np.zeros((2, waypoints.shape[1])))
    pace = 1.0
    for _ in range(_TRIES):
        trajectory = _timed(length, places, goal, pace, tool)
        over = _tool_excess(trajectory, tool)
        if over <= 1 and violation(trajectory) is None:
            return stretched(trajectory, speed)
        pace *= min(0.99, over**-0.5)
    raise MotionRejected("arm", f"timing the way to {goal}", "no timing within the limits was found", _REMEDY)


def joined(goal: str, pieces: Sequence[JointTrajectory]) -> JointTrajectory:
    """Return one motion of several, each of which begins at rest where the one before it ends."""
    positions = np.concatenate([pieces[0].positions_rad, *[piece.positions_rad[1:] for piece in pieces[1:]]])
    velocities = np.concatenate([pieces[0].velocities_rad_s, *[piece.velocities_rad_s[1:] for piece in pieces[1:]]])
    return JointTrajectory(goal, _sample_times(len(positions)), positions, velocities)


def point_to_point(
    start: NDArray[np.float64], end: NDArray[np.float64], *, goal: str, speed: float = 1.0
) -> JointTrajectory:
    """Time a straight move in joint space from `start` (7,) to `end` (7,); see `time_path`."""
    return time_path(np.stack([start, end]), goal=goal, speed=speed)


def _sample_times(count: int) -> NDArray[np.float64]:
    return np.arange(count, dtype=np.float64) * SAMPLE_S


def stretched(trajectory: JointTrajectory, speed: float) -> JointTrajectory:
    """Return the same motion at a share of its speed in (0, 1], sampled each millisecond."""
    if speed == 1.0:
        return trajectory
    times = trajectory.times_s / speed
    curve = CubicHermiteSpline(times, trajectory.positions_rad, trajectory.velocities_rad_s * speed)
    sampled = _sample_times(int(np.ceil(times[-1] / SAMPLE_S - 1e-9)) + 1)
    inside = np.minimum(sampled, times[-1])
    velocities = curve.derivative()(inside)
    velocities[-1] = 0.0
    return JointTrajectory(trajectory.goal, sampled, curve(inside), velocities)


def smoothed(trajectory: JointTrajectory, seconds: float) -> JointTrajectory:
    """Return the same motion with its accelerations ramped by a mean over so many seconds, by which it takes longer.

    Places are off by no more than a seconds² / 24 where the acceleration is a.
    """
    count = max(1, round(seconds / SAMPLE_S))
    times = _sample_times(int(np.ceil(trajectory.times_s[-1] / SAMPLE_S - 1e-9)) + count)
    columns = zip(trajectory.positions_rad.T, trajectory.velocities_rad_s.T, strict=True)
    sampled = [
        (np.interp(times, trajectory.times_s, place), np.interp(times, trajectory.times_s, rate, right=0.0))
        for place, rate in columns
    ]
    positions, rates = (np.stack(values, axis=1) for values in zip(*sampled, strict=True))
    return JointTrajectory(trajectory.goal, times, _mean(positions, count), _mean(rates, count))


def violation(trajectory: JointTrajectory) -> str | None:
    """Return which of the Panda's limits a trajectory breaks, in words, or None.

    Checked at its samples: positions, and velocities, accelerations and jerks by difference.
    """
    values, times = trajectory.positions_rad, trajectory.times_s
    if not np.isfinite(values).all() or (np.diff(times) <= 0).any():
        return "it holds times or positions that are no increasing, finite numbers"
    step = np.diff(times)[:, np.newaxis]
    # At rest before and after: a trajectory that starts or ends abruptly breaks limits there.
    step = np.concatenate([step[:1].repeat(3, axis=0), step, step[-1:].repeat(3, axis=0)])
    values = np.concatenate([values[:1].repeat(3, axis=0), values, values[-1:].repeat(3, axis=0)])
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


def tool_peaks(trajectory: JointTrajectory) -> tuple[float, float]:
    """Return the largest speed, m/s, and acceleration, m/s², of the tool centre point, by difference."""
    places = forward_all(trajectory.positions_rad)[:, :3, 3]
    places = np.concatenate([places[:1].repeat(2, axis=0), places, places[-1:].repeat(2, axis=0)])
    velocities = np.diff(places, axis=0) / SAMPLE_S
    accelerations = np.diff(velocities, axis=0) / SAMPLE_S
    return float(np.linalg.norm(velocities, axis=1).max()), float(np.linalg.norm(accelerations, axis=1).max())


def _refuse_outside(waypoints: NDArray[np.float64], goal: str) -> None:
    outside = np.argwhere((waypoints < Q_MIN) | (waypoints > Q_MAX) | ~np.isfinite(waypoints))
    if outside.size:
        row, joint = (int(index) for index in outside[0])
        raise MotionRejected(
            "arm",
            f"planning the way to {goal}",
            f"joint {joint + 1} would have to stand at {waypoints[row, joint]:.3f} rad, "
            f"outside {Q_MIN[joint]} to {Q_MAX[joint]} rad",
            _REMEDY,
        )


def _rounded(waypoints: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the length of a path, rad, and evenly spaced places (K, 7) along it, its corners rounded.

    A mean over a stretch of the path, taken twice, turns corners into curves with a continuous curvature; beyond
    its ends the path goes on point-symmetrically, so the ends stay where they are.
    """
    lengths = np.linalg.norm(np.diff(waypoints, axis=0), axis=1)
    waypoints = waypoints[np.concatenate([[True], lengths > 1e-9])]
    along = np.concatenate([[0.0], np.cumsum(lengths[lengths > 1e-9])])
    length = float(along[-1])
    count = max(8, int(np.ceil(length / _KNOT_RAD))) + 1
    grid = np.linspace(0.0, length, count)
    places = np.stack([np.interp(grid, along, column) for column in waypoints.T], axis=1)
    half = min(round(_ROUND_RAD / 2 / length * (count - 1)) if length else 0, (count - 1) // 4)
    if half and len(waypoints) > 2:
        window = np.ones(half) / half
        kernel = np.convolve(window, window)
        reach = half - 1
        before = 2 * places[0] - places[reach:0:-1]
        after = 2 * places[-1] - places[-2 : -reach - 2 : -1]
        extended = np.concatenate([before, places, after])
        places = np.stack([np.convolve(column, kernel, mode="valid") for column in extended.T], axis=1)
        places[[0, -1]] = waypoints[[0, -1]]
    return length, places


def _timed(length: float, places: NDArray[np.float64], goal: str, pace: float, tool: ToolLimits) -> JointTrajectory:
    """Time a path of evenly spaced places (K, 7) at a share of the limits and ramp its accelerations."""
    # Loading it takes a second and brings matplotlib along; who has the round on disk needs neither.
    import toppra
    from toppra.algorithm import TOPPRA
    from toppra.constraint import JointAccelerationConstraint, JointVelocityConstraintVarying

    toppra.setup_logging("ERROR")
    path = toppra.SplineInterpolator(np.linspace(0.0, length, len(places)), places)
    room = _ROOM * pace

    def velocities(place: float) -> NDArray[np.float64]:
        """Limit the joints' velocities, and through them the tool's."""
        tangent = path(place, 1)
        tool_m = float(np.linalg.norm(jacobian(path(place))[:3] @ tangent))
        fastest = min(float((V_MAX / np.maximum(np.abs(tangent), 1e-9)).min()), tool.velocity_m_s / max(tool_m, 1e-9))
        limit = np.maximum(np.abs(tangent) * fastest, 1e-6) * room
        return np.stack([-limit, limit], axis=1)

    accelerations = A_MAX[:, np.newaxis] * np.array([-1.0, 1.0]) * room**2
    grid = np.linspace(0.0, length, max(30, len(places) + 1))
    limits = [JointVelocityConstraintVarying(velocities), JointAccelerationConstraint(accelerations)]
    timed = TOPPRA(limits, path, gridpoints=grid, parametrizer="ParametrizeConstAccel").compute_trajectory()
    if timed is None:
        raise MotionRejected("arm", f"timing the way to {goal}", "toppra finds no timing of the path", _REMEDY)
    count = int(np.ceil(timed.duration / SAMPLE_S)) + 1
    inside = np.minimum(np.arange(count) * SAMPLE_S, timed.duration)
    sampled = np.concatenate([timed(inside), *[timed(timed.duration)[np.newaxis]] * (_JERK_SAMPLES - 1)])
    rates = np.concatenate([timed(inside, 1), np.zeros((_JERK_SAMPLES - 1, places.shape[1]))])
    rates[count - 1] = 0.0
    positions = _mean(sampled, _JERK_SAMPLES)
    positions[[0, -1]] = places[[0, -1]]
    return JointTrajectory(goal, _sample_times(len(positions)), positions, _mean(rates, _JERK_SAMPLES))


def _mean(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Replace each row by the mean of itself and those just before it; before the first there is rest."""
    padded = np.concatenate([values[:1].repeat(count - 1, axis=0), values])
    window = np.ones(count) / count
    return np.stack([np.convolve(column, window, mode="valid") for column in padded.T], axis=1)


def _tool_excess(trajectory: JointTrajectory, tool: ToolLimits) -> float:
    velocity, acceleration = tool_peaks(trajectory)
    return max((velocity / tool.velocity_m_s) ** 2, acceleration / tool.acceleration_m_s2)
