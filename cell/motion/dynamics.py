"""What it takes to accelerate the Panda: a model of its masses."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pybullet as p
import pybullet_data
from numpy.typing import NDArray

from cell.interfaces import N_JOINTS, JointTrajectory

# What moves with each joint besides the links: rotor and gear, seen from the joint, kg m². Given by Franka for the
# FR3, whose drives follow the Panda's (Drake, manipulation/models/franka_description/README.md).
ROTOR_KG_M2 = np.array([0.605721456, 0.605721456, 0.462474144, 0.462474144, 0.205544064, 0.205544064, 0.205544064])
_FINGERS = 2
# Torques are computed at every so many samples, and interpolated between.
_EVERY = 4


class ArmDynamics:
    """Masses of the arm's links and its hand, as PyBullet's model of the Panda has them, and of its drives.

    A context manager.
    """

    def __enter__(self) -> Self:
        self._client = p.connect(p.DIRECT)
        urdf = Path(pybullet_data.getDataPath()) / "franka_panda" / "panda.urdf"
        self._robot = p.loadURDF(str(urdf), useFixedBase=True, physicsClientId=self._client)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        p.disconnect(physicsClientId=self._client)

    def inertial_torques(self, trajectory: JointTrajectory) -> NDArray[np.float64]:
        """Return what accelerates the arm along a trajectory: M(q) q̈ + C(q, q̇) q̇, without gravity.

        Parameters
        ----------
        trajectory : JointTrajectory
            N samples.

        Returns
        -------
        (N, 7) float64
            Newton metres.
        """
        times, count = trajectory.times_s, len(trajectory.times_s)
        q, dq = trajectory.positions_rad, trajectory.velocities_rad_s
        ddq = np.gradient(dq, times, axis=0)
        rows = np.unique(np.append(np.arange(0, count, _EVERY), count - 1))
        torques = np.array([self._torques(q[row], dq[row], ddq[row]) for row in rows])
        return np.stack([np.interp(times, times[rows], column) for column in torques.T], axis=1)

    def _torques(
        self, q: NDArray[np.float64], dq: NDArray[np.float64], ddq: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        # No gravity is set in this world.
        fingers = [0.0] * _FINGERS
        moved = ([*values.tolist(), *fingers] for values in (q, dq, ddq))
        torques = p.calculateInverseDynamics(self._robot, *moved, physicsClientId=self._client)
        return np.array(torques[:N_JOINTS]) + ROTOR_KG_M2 * ddq
