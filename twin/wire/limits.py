"""When the control unit stops a motion: limits of joints and torques, and the client's collision thresholds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cell.motion.panda import Q_MAX, Q_MIN, V_MAX
from twin.wire.plant import Plant
from twin.wire.structs import Fault

_TORQUE_NM = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])
# A client may change a torque by 1 Nm a millisecond; half as much again is left for what was lost on the way.
_TORQUE_STEP_NM = 1.5
# From this acceleration of any joint on, the thresholds for acceleration apply.
_ACCELERATES_RAD_S2 = 1.0


def _each(value: float, count: int = 7) -> NDArray[np.float64]:
    return np.full(count, value)


@dataclass(frozen=True)
class Thresholds:
    """The collision behaviour, in the order of the request: torques (7,) Nm and forces (6,) N and Nm.

    Above a lower threshold something is touched, above an upper one the robot stops. Until a client sets its own,
    they are those that panda-py sets.
    """

    lower_torque_acceleration: NDArray[np.float64] = field(default_factory=lambda: _each(20.0))
    upper_torque_acceleration: NDArray[np.float64] = field(default_factory=lambda: _each(20.0))
    lower_torque_nominal: NDArray[np.float64] = field(default_factory=lambda: _each(10.0))
    upper_torque_nominal: NDArray[np.float64] = field(default_factory=lambda: _each(10.0))
    lower_force_acceleration: NDArray[np.float64] = field(default_factory=lambda: _each(20.0, 6))
    upper_force_acceleration: NDArray[np.float64] = field(default_factory=lambda: _each(20.0, 6))
    lower_force_nominal: NDArray[np.float64] = field(default_factory=lambda: _each(10.0, 6))
    upper_force_nominal: NDArray[np.float64] = field(default_factory=lambda: _each(10.0, 6))

    def touched(self, plant: Plant) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which joints (7,) and which directions of the end effector (6,) touch something."""
        return self._over(plant, "lower")

    def hit(self, plant: Plant) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which joints (7,) and which directions of the end effector (6,) run into something."""
        return self._over(plant, "upper")

    def torque_fault(self, wanted: NDArray[np.float64], last: NDArray[np.float64]) -> Fault | None:
        """Return what is wrong with a torque command (7,) after the last."""
        if (np.abs(wanted) > _TORQUE_NM).any():
            return Fault.TORQUE_RANGE
        if (np.abs(wanted - last) > _TORQUE_STEP_NM).any():
            return Fault.TORQUE_DISCONTINUITY
        return None

    def _over(self, plant: Plant, bound: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        phase = "acceleration" if np.abs(plant.ddq).max() > _ACCELERATES_RAD_S2 else "nominal"
        torques = np.abs(plant.tau_ext) > getattr(self, f"{bound}_torque_{phase}")
        return torques, np.abs(plant.wrench) > getattr(self, f"{bound}_force_{phase}")


def broken_limit(plant: Plant, thresholds: Thresholds) -> Fault | None:
    """Return what ends a motion now, or None."""
    if ((plant.q < Q_MIN) | (plant.q > Q_MAX)).any():
        return Fault.JOINT_POSITION_LIMITS
    if (np.abs(plant.dq) > V_MAX).any():
        return Fault.JOINT_VELOCITY
    joints, directions = thresholds.hit(plant)
    if joints.any():
        return Fault.JOINT_REFLEX
    if directions.any():
        return Fault.CARTESIAN_REFLEX
    return None
