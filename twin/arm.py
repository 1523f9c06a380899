"""The simulated Panda and its hand."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.interfaces import ArmState, ConfigError, Grasp, GraspLost, JointTrajectory, MotionRejected, ReflexStop
from cell.motion.dynamics import ROTOR_KG_M2
from cell.motion.panda import OPENING_MAX_M
from cell.motion.trajectory import violation
from cell.schema import FileModel
from cell.setup import Setup
from twin.arm_error import ArmError
from twin.device import InWorld
from twin.world import World

_START_TOLERANCE_RAD = 0.01
_FINGER_STEPS = 2000
_CLOSED_M = 1e-3
# Both fingers touch for so long before the grasp counts; pressing on would only make the solver creep.
_FIRM_STEPS = 5


# Joint friction of a Panda, Nm over rad/s: a smooth step at rest (Gaz et al., "Dynamic identification of the Franka
# Emika Panda robot with retrieval of feasible parameters using penalty-based optimization", RA-L 2019).
_FRICTION_NM = np.array([0.54615, 0.87224, 0.64068, 1.2794, 0.83904, 0.30301, 0.56489])
_FRICTION_STEEPNESS = np.array([5.1181, 9.0657, 10.136, 5.5903, 8.3469, 17.133, 10.336])
_FRICTION_SHIFT = np.array([0.039533, 0.025882, -0.04607, 0.036194, 0.026226, -0.021047, 0.0035526])
_SERVO_STEP_S = 0.001


class TwinArmConfig(FileModel):
    """What stops the arm, and how stiffly its joints are held."""

    unit: int | None = Field(None, ge=0, description="which of all arms: its geometry is off as `twin.arm_error` says")
    collision_n: float = Field(40.0, gt=0, description="contact force at which the arm stops itself")

    stiffness_nm_rad: tuple[float, float, float, float, float, float, float] = Field(
        (3000.0, 3000.0, 3000.0, 2500.0, 2500.0, 2000.0, 2000.0),
        description="of the joint impedance controller; the values that libfranka's own examples set",
    )
    damping_ratio: float = Field(1.0, gt=0, le=2, description="of each joint; Franka publishes none")


class JointServo:
    """The Panda's joint impedance control: joints are pulled after the command by a spring and a damper.

    Each joint moves its links and its rotor against its friction, so it lags while it accelerates and comes to
    rest after the command does: M q̈ = K (q_d - q) + D (q̇_d - q̇) - τ_f(q̇). Gravity and the coupling of the joints
    are taken to be compensated, as the robot's own model does.
    """

    def __init__(self, config: TwinArmConfig, world: World) -> None:
        self._stiffness = np.array(config.stiffness_nm_rad)
        self._damping_ratio = config.damping_ratio
        self._world = world

    def restart(self, joints: NDArray[np.float64]) -> None:
        """Stand still; see `twin.world.ArmServo`."""
        self._command = joints.copy()
        self._positions, self._velocities = joints.copy(), np.zeros_like(joints)

    def advance(
        self, joints: NDArray[np.float64], rates: NDArray[np.float64], step_s: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Follow the command for a step; see `twin.world.ArmServo`."""
        inertia = self._world.arm_inertia() + ROTOR_KG_M2
        damping = 2 * self._damping_ratio * np.sqrt(self._stiffness * inertia)
        count = max(1, round(step_s / _SERVO_STEP_S))
        dt = step_s / count
        resistance = inertia + dt * damping + dt**2 * self._stiffness
        for command in np.linspace(self._command, joints, count + 1)[1:]:
            push = self._stiffness * (command - self._positions) + damping * rates - _friction(self._velocities)
            # Implicit in spring and damper: stable at any step.
            self._velocities = (inertia * self._velocities + dt * push) / resistance
            self._positions = self._positions + dt * self._velocities
        self._command = joints.copy()
        return self._positions, self._velocities


def _physics_of(setup: Setup) -> World:
    """Return the world, in this process. Raises `ConfigError` where it is none."""
    if not isinstance(setup.world, World):
        raise ConfigError(f"{setup.order.cell.path}: world: must be twin.world:World, which arm and hand move in")
    return setup.world


def _friction(velocities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Friction torque (7,) Nm, zero at rest."""
    moving = 1 / (1 + np.exp(-_FRICTION_STEEPNESS * (velocities + _FRICTION_SHIFT)))
    resting = 1 / (1 + np.exp(-_FRICTION_STEEPNESS * _FRICTION_SHIFT))
    torque: NDArray[np.float64] = _FRICTION_NM * (moving - resting)
    return torque


class TwinArm(InWorld):
    """The arm; see `cell.interfaces.Arm`."""

    Config = TwinArmConfig

    def __init__(self, config: TwinArmConfig, setup: Setup) -> None:
        self._config = config
        self._world = _physics_of(setup)
        self._fault: str | None = None
        self._following = False
        self._asked_to_stop = False
        self._error = None if config.unit is None else ArmError(config.unit)

    def __enter__(self) -> Self:
        self._world.servo = JointServo(self._config, self._world)
        self._world.servo.restart(self._world.joints()[0])
        return self

    def state(self) -> ArmState:
        """Return joint positions, velocities and the fault."""
        positions, velocities = self._world.joints()
        if self._error is not None:
            positions = self._error.reported(positions)
        return ArmState(positions, velocities, self._fault)

    def follow(self, trajectory: JointTrajectory) -> float | None:
        """Move along a trajectory; see `cell.interfaces.Arm.follow`."""
        doing = f"moving to {trajectory.goal}"
        if self._fault:
            raise ReflexStop("arm", doing, f"it is stopped ({self._fault})", "look at the cell and acknowledge")
        broken = violation(trajectory)
        if broken:
            raise MotionRejected("arm", doing, broken, "nothing has moved; plan the motion anew")
        away = float(np.abs(self.state().positions_rad - trajectory.positions_rad[0]).max())
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
        if self._error is not None:
            positions = self._error.true(positions)
        self._asked_to_stop, self._following = False, True
        try:
            for sample, (position, velocity) in enumerate(zip(positions, velocities, strict=True)):
                self._world.drive_arm(position, velocity)
                self._world.step()
                hit = self._world.collision(self._config.collision_n)
                if hit:
                    self._fault = f"it ran into {hit}"
                    self._give_way(positions[:sample])
                elif self._asked_to_stop:
                    self._fault = "it was stopped"
                    self._hold()
                if self._fault:
                    raise ReflexStop("arm", doing, self._fault, "look at the cell and acknowledge")
        finally:
            self._following = False
        self._world.arrived()
        return None

    def _give_way(self, way: NDArray[np.float64]) -> None:
        """Yield along the way that the arm came, until nothing presses against it: it is no stiff press."""
        for position in way[::-1]:
            self._world.drive_arm(position, np.zeros_like(position))
            self._world.step()
            if not self._world.collision(0.0):
                break
        self._hold()

    def stop(self) -> None:
        """Hold the arm where it is; see `cell.interfaces.Arm.stop`."""
        if self._following:
            # The thread that moves it sees this at its next step: the physics is not for two at once.
            self._asked_to_stop = True
        else:
            self._hold()

    def _hold(self) -> None:
        positions, velocities = self._world.joints()
        self._world.drive_arm(positions, np.zeros_like(velocities))

    def recover(self, *, acknowledged_by: str) -> None:
        """Clear the fault after a person acknowledged it, who also takes the part out of the cell."""
        if not acknowledged_by:
            raise ReflexStop("arm", "recovering", "nobody acknowledged the fault", "name who did")
        self._world.take_out()
        self._fault = None


class TwinGripperConfig(FileModel):
    """How well a grasp must fit."""

    tolerance_m: float = Field(0.004, gt=0, le=0.04, description="of the opening when the part is held")


class TwinGripper(InWorld):
    """The hand; see `cell.interfaces.Gripper`. It grasps by contact, and holds what friction holds."""

    Config = TwinGripperConfig

    def __init__(self, config: TwinGripperConfig, setup: Setup) -> None:
        self._tolerance_m = config.tolerance_m
        self._world = _physics_of(setup)

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
            self._world.grip(force_n)
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
