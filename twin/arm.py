"""The simulated Panda and its hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.interfaces import ArmState, Grasp, GraspLost, JointTrajectory, MotionRejected, ReflexStop
from cell.motion.panda import OPENING_MAX_M
from cell.motion.trajectory import violation
from cell.schema import FileModel
from cell.setup import Setup
from twin.device import InWorld
from twin.world import world_of

_START_TOLERANCE_RAD = 0.01
_FINGER_STEPS = 2000
_CLOSED_M = 1e-3
# Both fingers touch for so long before the grasp counts; pressing on would only make the solver creep.
_FIRM_STEPS = 5


class TwinArmConfig(FileModel):
    """What stops the arm."""

    collision_n: float = Field(40.0, gt=0, description="contact force at which the arm stops itself")


class TwinArm(InWorld):
    """The arm; see `cell.interfaces.Arm`."""

    Config = TwinArmConfig

    def __init__(self, config: TwinArmConfig, setup: Setup) -> None:
        self._config = config
        self._world = world_of(setup)
        self._fault: str | None = None

    def state(self) -> ArmState:
        """Return joint positions, velocities and the fault."""
        positions, velocities = self._world.joints()
        return ArmState(positions, velocities, self._fault)

    def follow(self, trajectory: JointTrajectory) -> None:
        """Move along a trajectory; see `cell.interfaces.Arm.follow`."""
        doing = f"moving to {trajectory.goal}"
        if self._fault:
            raise ReflexStop("arm", doing, f"it is stopped ({self._fault})", "look at the cell and acknowledge")
        broken = violation(trajectory)
        if broken:
            raise MotionRejected("arm", doing, broken, "nothing has moved; plan the motion anew")
        away = float(np.abs(self._world.joints()[0] - trajectory.positions_rad[0]).max())
        if away > _START_TOLERANCE_RAD:
            raise MotionRejected(
                "arm",
                doing,
                f"the arm stands {away:.3f} rad from the start",
                "plan the motion from where it stands",
            )
        times = np.arange(1, np.ceil(trajectory.duration_s / self._world.step_s) + 1) * self._world.step_s
        joints = range(trajectory.positions_rad.shape[1])
        positions = np.stack([np.interp(times, trajectory.times_s, trajectory.positions_rad[:, j]) for j in joints], 1)
        velocities = np.stack(
            [np.interp(times, trajectory.times_s, trajectory.velocities_rad_s[:, j]) for j in joints], 1
        )
        for sample, (position, velocity) in enumerate(zip(positions, velocities, strict=True)):
            self._world.drive_arm(position, velocity)
            self._world.step()
            hit = self._world.collision(self._config.collision_n)
            if hit:
                self._fault = f"it ran into {hit}"
                self._give_way(positions[:sample])
                raise ReflexStop("arm", doing, self._fault, "look at the cell and acknowledge")
        self._world.arrived()

    def _give_way(self, way: NDArray[np.float64]) -> None:
        """Yield along the way that the arm came, until nothing presses against it: it is no stiff press."""
        for position in way[::-1]:
            self._world.drive_arm(position, np.zeros_like(position))
            self._world.step()
            if not self._world.collision(0.0):
                break
        self.stop()

    def stop(self) -> None:
        """Hold the arm where it is."""
        positions, velocities = self._world.joints()
        self._world.drive_arm(positions, np.zeros_like(velocities))

    def recover(self, *, acknowledged_by: str) -> None:
        """Clear the fault after a person acknowledged it."""
        if not acknowledged_by:
            raise ReflexStop("arm", "recovering", "nobody acknowledged the fault", "name who did")
        self._fault = None


class TwinGripperConfig(FileModel):
    """How well a grasp must fit."""

    tolerance_m: float = Field(0.004, gt=0, le=0.04, description="of the opening when the part is held")


class TwinGripper(InWorld):
    """The hand; see `cell.interfaces.Gripper`. It grasps by contact, then holds by a constraint."""

    Config = TwinGripperConfig

    def __init__(self, config: TwinGripperConfig, setup: Setup) -> None:
        self._tolerance_m = config.tolerance_m
        self._world = world_of(setup)

    def grasp(self, width_m: float, force_n: float) -> Grasp:
        """Close the fingers until they hold something or meet."""
        if not 0 < width_m <= OPENING_MAX_M:
            raise GraspLost("gripper", "grasping", f"it cannot open {width_m} m", "correct the part file")
        self._world.drive_fingers(np.zeros(2), force_n=force_n)
        touched = 0
        for _ in range(_FINGER_STEPS):
            contacts = self._world.finger_contacts()
            self._world.step(contact=any(contacts))
            touched = touched + 1 if all(contacts) else 0
            if touched >= _FIRM_STEPS or self._world.fingers().sum() < _CLOSED_M:
                break
        opening = self._world.fingers()
        if touched >= _FIRM_STEPS and abs(opening.sum() - width_m) <= self._tolerance_m:
            self._world.grip()
            self._world.drive_fingers(opening, force_n=force_n)
        return self.state()

    def release(self) -> None:
        """Let go and open the fingers."""
        self._world.let_go()
        half = OPENING_MAX_M / 2
        self._world.drive_fingers(np.full(2, half), force_n=20.0)
        for _ in range(_FINGER_STEPS):
            self._world.step(contact=any(self._world.finger_contacts()))
            if self._world.fingers().min() > half - 1e-4:
                break

    def state(self) -> Grasp:
        """Return whether the part is held, and the opening."""
        return Grasp(self._world.gripped, float(self._world.fingers().sum()))
