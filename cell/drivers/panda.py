"""The Franka Emika Panda and its hand, through panda-python 1.1.1 (robot protocol 5)."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, NoReturn, Self

import numpy as np
import panda_py
from numpy.typing import NDArray
from panda_py import controllers, libfranka
from pydantic import Field

from cell.drivers.fci import (
    connected,
    libfranka_errors,
    meaning,
    never_destroy,
    prepare_with_desk,
    realtime,
    within,
)
from cell.interfaces import (
    ArmState,
    DeviceError,
    DeviceTimeout,
    Grasp,
    GraspLost,
    JointTrajectory,
    MotionRejected,
    NotConnected,
    ReflexStop,
)
from cell.motion.dynamics import ArmDynamics
from cell.motion.panda import OPENING_MAX_M, forward
from cell.motion.trajectory import smoothed, violation
from cell.schema import FileModel
from cell.setup import Setup

_START_TOLERANCE_RAD = 0.01
_PERIOD_S = 0.001
# No set-point is farther along the trajectory than so much from the last: one that comes late slows the arm down.
_STEP_MAX_S = 0.004
# Share of each set-point that panda-py's filter takes over every millisecond; it smooths uneven ones.
_FILTER = 0.2
# A robot that sends no state for so long is gone: libfranka gives up after one second itself.
_SILENT_S = 2.0
_ANSWER_S = 15.0
# The set-point is moved on by this share of the error a second, and by no more than so much in all: panda-py pushes
# back with some 20 Nm within 0.1 rad of a joint's limit.
_INTEGRAL_HZ = 4.0
_INTEGRAL_MAX_RAD = 0.03
_STILL_RAD_S = 0.002
# How far set-points may lie from the path that was checked for collisions; at 0.8 m that is 8 mm.
_STRETCH_MAX_RAD = 0.01
# Within this a motion that the robot ended says why.
_WORD_S = 0.05
_CLOSED_M = 0.0005

_Joints = tuple[float, float, float, float, float, float, float]
_Wrench = tuple[float, float, float, float, float, float]

_log = logging.getLogger(__name__)


class CollisionBehavior(FileModel):
    """External torques, Nm, and forces, N and Nm, at which the arm stops itself; contact is reported at half."""

    torque_nm: _Joints = (20.0, 20.0, 18.0, 18.0, 16.0, 14.0, 12.0)
    force_n: _Wrench = (30.0, 30.0, 30.0, 25.0, 25.0, 25.0)


class PandaArmConfig(FileModel):
    """Where the robot is, and how it is driven.

    panda-py lets a torque change by about 400 Nm/s. A stiffer arm asks for more once it is some 10 mrad off, as after a
    set-point that came late, and then swings up until it breaks a limit.
    """

    host: str = Field(description="address of the control unit, not of the arm")
    desk: Literal["leave", "unlock"] = Field("leave", description="unlock: open the brakes and activate FCI on connect")
    realtime: Literal["enforce", "ignore"] = Field("enforce", description="ignore: also run on an ordinary kernel")
    collision: CollisionBehavior = CollisionBehavior()
    stiffness_nm_rad: _Joints = (800.0, 800.0, 800.0, 800.0, 500.0, 400.0, 250.0)
    damping_nms_rad: _Joints = (72.0, 74.0, 55.0, 55.0, 21.0, 17.0, 12.0)
    smoothing_s: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="over which accelerations are ramped",
    )
    tolerance_mm: float = Field(0.3, gt=0, le=10, description="of the tool centre point at the end of a motion")
    tolerance_deg: float = Field(0.1, gt=0, le=5)
    settle_s: float = Field(5.0, gt=0, le=10, description="until it must be there")


class PandaArm:
    """The arm; see `cell.interfaces.Arm`.

    Notes
    -----
    `follow` streams the trajectory to panda-py's ``JointPosition``, a joint impedance controller whose loop runs in C++
    at 1 kHz. Set-points with their velocities come from Python about every millisecond, each for the robot's own time
    (that of the newest state), so a late one is late and never wrong, and the motion keeps its pace when the robot's
    clock is not the wall's. Friction would leave such a controller short of its goal: from the end of the trajectory on
    the set-point moves on by the integral of the error until the pose is reached. Then the controller ends and the
    robot holds itself.
    """

    Config = PandaArmConfig

    def __init__(self, config: PandaArmConfig, setup: Setup) -> None:
        self._config = config
        self._panda: Any = None
        self._fault: str | None = None
        self._moving = False

    def __enter__(self) -> Self:
        if self._config.desk == "unlock":
            prepare_with_desk(self._config.host)
        self._connected("connecting")
        self._dynamics = ArmDynamics().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dynamics.__exit__(kind, error, trace)
        if self._panda is not None:
            # Whether its robot is still there: if not, the client must not be destroyed.
            with suppress(DeviceError):
                self._read("leaving")
        self._panda = None

    def state(self) -> ArmState:
        """Return a state that is newer than this call."""
        state = self._read("reading its state")
        return ArmState(np.array(state.q), np.array(state.dq), self._fault_of(state))

    def follow(self, trajectory: JointTrajectory) -> float | None:
        """Move along a trajectory; see `cell.interfaces.Arm.follow`.

        Raises
        ------
        DeviceTimeout
            The end was not reached within tolerance.
        NotConnected
            The robot is gone.
        """
        doing = f"moving to {trajectory.goal}"
        state = self._read(doing)
        fault = self._fault_of(state)
        if fault:
            # panda-py would clear it before it moves, and nobody would have looked.
            raise ReflexStop("arm", doing, f"it is stopped ({fault})", "look at the cell and acknowledge")
        broken = violation(trajectory)
        if broken:
            raise MotionRejected("arm", doing, broken, "nothing has moved; plan the motion anew")
        away = float(np.abs(np.array(state.q) - trajectory.positions_rad[0]).max())
        if away > _START_TOLERANCE_RAD:
            problem = f"the arm stands {away:.3f} rad from the start"
            raise MotionRejected("arm", doing, problem, "plan the motion from where it stands")
        planned = smoothed(trajectory, self._config.smoothing_s)
        stretch = self._dynamics.inertial_torques(planned) / np.array(self._config.stiffness_nm_rad)
        most = float(np.abs(stretch).max())
        if most > _STRETCH_MAX_RAD:
            problem = f"it is so fast that the arm's spring would be stretched by {most:.3f} rad, and it left its path"
            raise MotionRejected("arm", doing, problem, "nothing has moved; lower motion.speed in the cell file")
        self._moving = True
        try:
            return self._stream(replace(planned, positions_rad=planned.positions_rad + stretch), doing)
        except libfranka_errors() as error:
            self._fail(doing, error)
        finally:
            self._moving = False

    def stop(self) -> None:
        """Stop as fast as the arm can; a motion that runs ends, and none begins until somebody acknowledged."""
        if not self._moving:
            return
        try:
            within(_ANSWER_S, "arm", "stopping", lambda: self._panda.get_robot().stop())
        except libfranka_errors() as error:
            self._fail("stopping", error)
        finally:
            # Also where no motion had begun that the robot could stop: it is not begun, or ended, by `_states`.
            self._fault = self._fault or "it was told to stop"

    def recover(self, *, acknowledged_by: str) -> None:
        """Clear a fault after the named person acknowledged it."""
        if not acknowledged_by:
            raise ReflexStop("arm", "recovering", "nobody acknowledged the fault", "name who did")
        _log.info("%s acknowledged: %s", acknowledged_by, self._fault or "no fault")
        self._connected("recovering")
        try:
            within(_ANSWER_S, "arm", "recovering", lambda: self._panda.get_robot().automatic_error_recovery())
        except libfranka_errors() as error:
            self._fail("recovering", error)
        self._fault = None

    def _stream(self, trajectory: JointTrajectory, doing: str) -> float:
        """Send a trajectory and return the mean of what the robot said about commands in time.

        No local name keeps the client: an error of whatever kind would carry it along, and destroyed after its robot
        has gone it ends the process.
        """
        config = self._config
        controller = controllers.JointPosition(
            np.array(config.stiffness_nm_rad), np.array(config.damping_nms_rad), filter_coeff=_FILTER
        )
        # Until the loop runs, the state that panda-py knows is the one of long ago.
        before = _seconds(self._panda.get_state())
        self._panda.start_controller(controller)
        try:
            rates: list[float] = []
            states = self._states(rates, doing, after=before)
            self._send(controller, states, trajectory)
            self._settle(controller, states, trajectory, doing)
        finally:
            within(_ANSWER_S, "arm", doing, lambda: self._panda.stop_controller())
        self._panda.raise_error()
        return float(np.mean(rates))

    def _send(self, controller: Any, states: Iterator[tuple[Any, float]], trajectory: JointTrajectory) -> None:
        """Send set-points until the robot's time is at the end of the trajectory."""
        times, positions, velocities = trajectory.times_s, trajectory.positions_rad, trajectory.velocities_rad_s
        elapsed, last = 0.0, None
        for _, now in states:
            since = _PERIOD_S if last is None else now - last
            last = now
            if elapsed >= trajectory.duration_s:
                return
            step = min(since, _STEP_MAX_S)
            elapsed = min(elapsed + step, trajectory.duration_s)
            row = min(int(np.searchsorted(times, elapsed, side="right")), len(times) - 1)
            share = (elapsed - times[row - 1]) / (times[row] - times[row - 1])
            controller.set_control(
                positions[row - 1] + share * (positions[row] - positions[row - 1]),
                step / since * (velocities[row - 1] + share * (velocities[row] - velocities[row - 1])),
            )

    def _settle(
        self, controller: Any, states: Iterator[tuple[Any, float]], trajectory: JointTrajectory, doing: str
    ) -> None:
        """Move the set-point on until the end is reached."""
        goal = trajectory.positions_rad[-1]
        shift, last, until = np.zeros_like(goal), None, None
        off_mm = off_deg = np.inf
        for state, now in states:
            if last is None or until is None:
                last, until = now, now + self._config.settle_s
            q, dq = np.array(state.q), np.array(state.dq)
            off_mm, off_deg = _away(q, goal)
            near = off_mm <= self._config.tolerance_mm / 2 and off_deg <= self._config.tolerance_deg / 2
            if near and np.abs(dq).max() < _STILL_RAD_S:
                return
            if now > until:
                break
            shift = np.clip(shift + _INTEGRAL_HZ * (now - last) * (goal - q), -_INTEGRAL_MAX_RAD, _INTEGRAL_MAX_RAD)
            last = now
            controller.set_control(goal + shift, np.zeros_like(goal))
        if off_mm <= self._config.tolerance_mm and off_deg <= self._config.tolerance_deg:
            return
        raise DeviceTimeout(
            "arm",
            doing,
            f"it stands {off_mm:.2f} mm and {off_deg:.2f}° off after {self._config.settle_s} s",
            "look what holds it, at its load, and at the stiffness in the cell file",
        )

    def _states(self, rates: list[float], doing: str, *, after: float) -> Iterator[tuple[Any, float]]:
        """Yield the controller's newest state and the robot's time, s, and keep its rate of success."""
        last, seen = after, time.monotonic()
        while True:
            self._panda.raise_error()
            if self._fault is not None:
                # The robot's own word for it, if it has one, comes within this time.
                time.sleep(_WORD_S)
                self._panda.raise_error()
                raise ReflexStop("arm", doing, self._fault, "look at the cell and acknowledge")
            state = self._panda.get_state()
            now = _seconds(state)
            if now > last:
                last, seen = now, time.monotonic()
                rates.append(state.control_command_success_rate)
                yield state, now
            elif time.monotonic() - seen > _SILENT_S:
                raise RuntimeError("UDP receive: no state comes")
            time.sleep(_PERIOD_S)

    def _read(self, doing: str) -> Any:
        self._connected(doing)
        try:
            return within(_ANSWER_S, "arm", doing, lambda: self._panda.get_robot().read_once())
        except libfranka_errors() as error:
            self._fail(doing, error)

    def _fault_of(self, state: Any) -> str | None:
        """Return why the arm may not move, or None."""
        if self._fault is None and state.robot_mode in (
            libfranka.RobotMode.kReflex,
            libfranka.RobotMode.kUserStopped,
        ):
            self._fault = f"{state.robot_mode.name.removeprefix('k')} {state.last_motion_errors}"
        return self._fault

    def _fail(self, doing: str, error: Exception) -> NoReturn:
        """Raise what an error of the client library means, and remember it."""
        # Whoever keeps the error would keep the client: destroyed after its robot has gone it ends the process.
        traceback.clear_frames(error.__traceback__)
        found: DeviceError = meaning("arm", doing, error)
        if isinstance(found, ReflexStop):
            self._fault = self._fault or found.problem
        elif isinstance(found, NotConnected) and self._panda is not None:
            if self._moving:
                self._fault = self._fault or found.problem
            never_destroy(self._panda)
            self._panda = None
        raise found from error

    def _connected(self, doing: str) -> Any:
        if self._panda is None:
            config = self._config
            mode = realtime(config.realtime == "enforce")
            self._panda = connected(
                config.host,
                "arm",
                lambda: within(_ANSWER_S, "arm", doing, lambda: panda_py.Panda(config.host, "panda", mode)),
            )
            upper = [*config.collision.torque_nm], [*config.collision.force_n]
            lower = [[value / 2 for value in values] for values in upper]
            try:
                self._panda.get_robot().set_collision_behavior(lower[0], upper[0], lower[1], upper[1])
            except libfranka_errors() as error:
                self._fail(doing, error)
        return self._panda


def _seconds(state: Any) -> float:
    """Return the robot's time of a state."""
    return float(state.time.to_sec())


def _away(q: NDArray[np.float64], goal: NDArray[np.float64]) -> tuple[float, float]:
    """Return how far, mm and degrees, the tool centre point stands from where it would be at `goal`."""
    here, there = forward(q), forward(goal)
    cosine = (float(np.trace(here.rotation.T @ there.rotation)) - 1) / 2
    turned = float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
    return float(np.linalg.norm(here.position_m - there.position_m)) * 1000, turned


class PandaGripperConfig(FileModel):
    """Where the hand is, and how well a grasp must fit."""

    host: str = Field(description="address of the control unit")
    tolerance_m: float = Field(
        0.004, gt=0, le=0.04, description="of the opening when the part is held; libfranka's epsilon, on both sides"
    )
    speed_m_s: float = Field(0.05, gt=0, le=0.1)


class PandaGripper:
    """The Franka hand; see `cell.interfaces.Gripper`. It must have been homed once since it was switched on."""

    Config = PandaGripperConfig

    def __init__(self, config: PandaGripperConfig, setup: Setup) -> None:
        self._config = config
        self._hand: Any = None

    def __enter__(self) -> Self:
        self._connected()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hand = None

    def grasp(self, width_m: float, force_n: float) -> Grasp:
        """Close on something; it is held when the fingers stopped about there and the hand says so."""
        if not 0 < width_m <= OPENING_MAX_M:
            raise GraspLost("gripper", "grasping", f"it cannot open {width_m} m", "correct the part file")
        epsilon, speed = self._config.tolerance_m, self._config.speed_m_s
        done = self._run("grasping", lambda hand: hand.grasp(width_m, speed, force_n, epsilon, epsilon))
        state = self.state()
        # For a thin part zero is within libfranka's tolerance: it says "grasped" of fingers that touch each other.
        return Grasp(bool(done) and state.held and state.width_m > _CLOSED_M, state.width_m)

    def release(self) -> None:
        """Open the fingers."""
        self._run("opening", lambda hand: hand.move(OPENING_MAX_M, self._config.speed_m_s))

    def state(self) -> Grasp:
        """Return whether the part is still held, and the opening."""
        state = self._run("reading its state", lambda hand: hand.read_once())
        return Grasp(bool(state.is_grasped), float(state.width))

    def _run(self, doing: str, call: Any) -> Any:
        hand = self._connected()
        try:
            return within(_ANSWER_S, "gripper", doing, lambda: call(hand))
        except libfranka_errors() as error:
            found = meaning("gripper", doing, error)
            if isinstance(found, NotConnected):
                never_destroy(hand)
                self._hand = None
            raise found from error

    def _connected(self) -> Any:
        if self._hand is None:
            host = self._config.host
            self._hand = connected(
                host, "gripper", lambda: within(_ANSWER_S, "gripper", "connecting", lambda: libfranka.Gripper(host))
            )
        return self._hand
