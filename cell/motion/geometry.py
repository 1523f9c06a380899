"""An arm that is not quite the nominal one: joints of the one and of the other that bring the tool to the same place.

Motion is planned with the nominal arm. Where a calibration found by what the real one differs, `CorrectedArm` stands
between them: the cell goes on in nominal joints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cell.interfaces import Arm, ArmState, JointTrajectory
from cell.motion.panda import forward_all, jacobian
from cell.schema import ArmGeometry

_STEPS = 6
# Keeps the joints' change small where the arm is nearly singular.
_DAMPING = 1e-2

Forward = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From joint positions (..., 7) to frames (..., 4, 4) of the tool centre point."""


def differences(geometry: ArmGeometry) -> NDArray[np.float64]:
    """Return a geometry as `cell.motion.panda.forward_all` takes it, (7, 6)."""
    lengths = np.array([geometry.a_mm, geometry.d_mm]) / 1000
    angles = np.array([geometry.alpha_rad, geometry.theta_rad, geometry.encoder_sin_rad, geometry.encoder_cos_rad])
    return np.concatenate([lengths, angles]).T


def joints_at(tool: NDArray[np.float64], forward: Forward, near: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the joints (..., 7) next to `near` at which an arm's `forward` has the tool at `tool` (..., 4, 4).

    For arms that are nearly the nominal one and joints that are nearly right: Newton's method with the nominal arm's
    Jacobian and the least change of the joints.
    """
    q = near
    for _ in range(_STEPS):
        reached = forward(q)
        turn = tool[..., :3, :3] @ np.swapaxes(reached[..., :3, :3], -1, -2)
        rotation = Rotation.from_matrix(turn.reshape(-1, 3, 3)).as_rotvec().reshape(*turn.shape[:-2], 3)
        missing = np.concatenate([tool[..., :3, 3] - reached[..., :3, 3], rotation], axis=-1)
        j = jacobian(q)
        j_t = np.swapaxes(j, -1, -2)
        change = j_t @ np.linalg.solve(j @ j_t + _DAMPING**2 * np.eye(6), missing[..., np.newaxis])
        q = q + change[..., 0]
    return q


class CorrectedArm:
    """An arm in the joints of the nominal one; see `cell.interfaces.Arm`.

    Parameters
    ----------
    arm : Arm
        The real one, connected.
    geometry : ArmGeometry
        By what it differs.
    """

    def __init__(self, arm: Arm, geometry: ArmGeometry) -> None:
        self._arm = arm
        self._off = differences(geometry)

    def state(self) -> ArmState:
        """Return the nominal joints; see `cell.interfaces.Arm`."""
        state = self._arm.state()
        real = state.positions_rad
        return replace(state, positions_rad=joints_at(forward_all(real, off=self._off), forward_all, real))

    def follow(self, trajectory: JointTrajectory) -> float | None:
        """Move along a trajectory of nominal joints; see `cell.interfaces.Arm`."""
        nominal = trajectory.positions_rad
        real = joints_at(forward_all(nominal), lambda q: forward_all(q, off=self._off), nominal)
        rates = np.gradient(real - nominal, trajectory.times_s, axis=0)
        velocities = trajectory.velocities_rad_s + rates
        velocities[[0, -1]] = trajectory.velocities_rad_s[[0, -1]]
        return self._arm.follow(replace(trajectory, positions_rad=real, velocities_rad_s=velocities))

    def stop(self) -> None:
        """Stop."""
        self._arm.stop()

    def recover(self, *, acknowledged_by: str) -> None:
        """Clear a fault; see `cell.interfaces.Arm`."""
        self._arm.recover(acknowledged_by=acknowledged_by)
