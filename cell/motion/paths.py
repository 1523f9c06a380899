"""Paths in joint space between two configurations of the arm: straight where that is free, else planned."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from ompl import base, geometric, util

from cell.interfaces import N_JOINTS
from cell.motion.collision import Contact
from cell.motion.panda import A_MAX, Q_MAX, Q_MIN, V_MAX

Check = Callable[[NDArray[np.float64]], Contact | None]
"""Says what an arm at (7,) rad is too close to, or None."""

# At most 0.05 rad of a joint between two checks: 4 cm at the end of the stretched arm at the very most, mostly
# less than 1 cm, and the timed trajectory is checked again in steps of a few milliseconds.
_CHECK_RAD = 0.05
_RANGE_RAD = 0.8
_STEPS = 2000
_MARGIN_RAD = 0.01


def straight_contact(start: NDArray[np.float64], end: NDArray[np.float64], check: Check) -> Contact | None:
    """Return the first contact on the straight way from `start` to `end` (7,), or None."""
    count = int(np.ceil(np.abs(end - start).max() / _CHECK_RAD)) + 1
    shares = np.linspace(0.0, 1.0, max(2, count))
    # The middle first: what is in the way mostly stands there.
    for share in sorted(shares, key=lambda share: abs(share - 0.5)):
        contact = check(start + share * (end - start))
        if contact is not None:
            return contact
    return None


def move_time(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the seconds that straight moves take at least: rest to rest, within velocity and acceleration limits.

    Parameters
    ----------
    start, end : (..., 7) float64
        Joint positions, rad; they are broadcast against each other.
    """
    way = np.abs(end - start)
    ramp = V_MAX**2 / A_MAX
    each = np.where(way <= ramp, 2 * np.sqrt(way / A_MAX), way / V_MAX + V_MAX / A_MAX)
    slowest: NDArray[np.float64] = each.max(axis=-1)
    return slowest


def planned_path(
    start: NDArray[np.float64], end: NDArray[np.float64], check: Check, *, seed: int
) -> NDArray[np.float64] | None:
    """Return a free path around what is in the way, (N, 7) with the ends in it, or None where none was found.

    RRTConnect (Kuffner and LaValle, 2000) and path simplification, both of OMPL. The same arguments give the same
    path: the planner counts its steps instead of looking at the clock, and everything random follows from `seed`.
    """
    util.setLogLevel(util.LogLevel.LOG_NONE)
    # All that draws numbers is made after this line, so it does not matter what was planned before.
    util.RNG.setSeed(seed + 1)
    space = base.RealVectorStateSpace(N_JOINTS)
    bounds = base.RealVectorBounds(N_JOINTS)
    for joint in range(N_JOINTS):
        bounds.setLow(joint, float(Q_MIN[joint] + _MARGIN_RAD))
        bounds.setHigh(joint, float(Q_MAX[joint] - _MARGIN_RAD))
    space.setBounds(bounds)
    setup = geometric.SimpleSetup(space)
    setup.setStateValidityChecker(lambda state: check(_joints(state)) is None)
    information = setup.getSpaceInformation()
    information.setStateValidityCheckingResolution(_CHECK_RAD / space.getMaximumExtent())
    setup.setStartAndGoalStates(_state(space, start), _state(space, end))
    planner = geometric.RRTConnect(information)
    planner.setRange(_RANGE_RAD)
    setup.setPlanner(planner)
    steps = iter(range(_STEPS))
    setup.solve(base.PlannerTerminationCondition(lambda: next(steps, None) is None))
    if not setup.haveExactSolutionPath():
        return None
    path = setup.getSolutionPath()
    setup.getPathSimplifier().simplifyMax(path)
    waypoints = np.array([_joints(state) for state in path.getStates()])
    waypoints[0], waypoints[-1] = start, end
    return waypoints


def _joints(state: object) -> NDArray[np.float64]:
    return np.array([state[joint] for joint in range(N_JOINTS)])  # type: ignore[index]


def _state(space: base.RealVectorStateSpace, joints: NDArray[np.float64]) -> object:
    state = space.allocState()
    for joint, angle in enumerate(joints.tolist()):
        state[joint] = angle
    return state
