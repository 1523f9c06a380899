"""What a cell is made of: device Protocols, the values they exchange, and the errors they raise.

Every device is a context manager: entering connects it, leaving disconnects it; nothing happens before.
Lengths are metres, angles radians, unless a name says otherwise. No ground truth passes through here.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

N_JOINTS = 7


class CellError(Exception):
    """Anything the cell refuses or fails at; the message is one sentence for the person at the cell."""


class ConfigError(CellError):
    """A file of the cell is missing, unreadable or says something that cannot be."""


class ModelMismatchError(CellError):
    """A model was made for another cell, part or configuration than the one at hand."""


class DeviceError(CellError):
    """A device failed.

    Parameters
    ----------
    device : str
        Which device, e.g. ``"camera"``.
    doing : str
        What it was doing, e.g. ``"grabbing frame 12"``.
    problem : str
        What happened.
    remedy : str
        What the person at the cell should do next.
    """

    def __init__(self, device: str, doing: str, problem: str, remedy: str) -> None:
        super().__init__(f"{device}: {problem} while {doing}; {remedy}")
        self.device = device
        self.doing = doing
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, str, str]]:
        """Rebuild the error from its parts: it crosses process borders."""
        return type(self), (self.device, self.doing, self.problem, self.remedy)


class NotConnected(DeviceError):
    """The device was used before it was connected, or its connection is gone."""


class DeviceTimeout(DeviceError):
    """The device did not answer in time."""


class MotionRejected(DeviceError):
    """A motion was refused before anything moved: out of reach, or over a limit."""


class ReflexStop(DeviceError):
    """The arm stopped itself; it moves again only after a person acknowledged."""


class GraspLost(DeviceError):
    """The fingers closed on nothing, or the part left them."""


class NotEmpty(DeviceError):
    """Something is in the hand or on the scale before the first part; the line waits for a person."""


class GrabFailed(DeviceError):
    """The camera delivered no picture, or an incomplete one."""


class ScaleUnstable(DeviceError):
    """The mass did not settle in the time allowed."""


class ScaleOverload(DeviceError):
    """More lies on the scale than it can weigh."""


class ProtocolError(DeviceError):
    """The device answered something that its protocol does not know."""


@dataclass(frozen=True)
class Pose:
    """A rigid transform.

    Attributes
    ----------
    rotation : (3, 3) float64
        Rotation matrix.
    position_m : (3,) float64
        Origin, metres.
    """

    rotation: NDArray[np.float64]
    position_m: NDArray[np.float64]

    def __matmul__(self, other: Pose) -> Pose:
        return Pose(self.rotation @ other.rotation, self.rotation @ other.position_m + self.position_m)

    def inverse(self) -> Pose:
        """Return the transform that undoes this one."""
        return Pose(self.rotation.T, -self.rotation.T @ self.position_m)

    def apply(self, points_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Transform points (..., 3)."""
        moved: NDArray[np.float64] = points_m @ self.rotation.T + self.position_m
        return moved


@dataclass(frozen=True)
class JointTrajectory:
    """Joint positions over time, starting at rest and ending at rest.

    Attributes
    ----------
    goal : str
        The pose it leads to, named in errors.
    times_s : (N,) float64
        Increasing, from 0.
    positions_rad, velocities_rad_s : (N, 7) float64
        Positions and their derivative at those times.
    """

    goal: str
    times_s: NDArray[np.float64]
    positions_rad: NDArray[np.float64]
    velocities_rad_s: NDArray[np.float64]

    @property
    def duration_s(self) -> float:
        """Seconds from start to end."""
        return float(self.times_s[-1])


@dataclass(frozen=True)
class ArmState:
    """What the arm reports of itself: (7,) positions in rad, (7,) velocities in rad/s, and its fault if any."""

    positions_rad: NDArray[np.float64]
    velocities_rad_s: NDArray[np.float64]
    fault: str | None


@dataclass(frozen=True)
class Grasp:
    """The outcome of closing the fingers: whether something is held, and the opening then."""

    held: bool
    width_m: float


@dataclass(frozen=True)
class Intrinsics:
    """Calibration of a camera: a pinhole, in pixels of its full picture, behind a lens that bends directions.

    `cx` and `cy` count from the outer corner of the first pixel, whose centre is at 0.5: a calibration with OpenCV,
    which counts from that centre, gives them 0.5 less. `k1`, `k2` (radial) and `p1`, `p2` (tangential) are OpenCV's
    distortion coefficients of the same names; see `cell.projection`.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0


@dataclass(frozen=True)
class Frame:
    """One picture as the camera delivered it.

    Attributes
    ----------
    image : (H, W, 3) or (H, W) uint8
        RGB or grey.
    timestamp_s : float
        The cell clock's time at exposure.
    exposure_us : float
        Exposure time, microseconds.
    serial : str
        The camera's serial number.
    number : int
        Counts the frames of this camera; with `serial` it names the picture.
    retries : int
        How many pictures before this one arrived incomplete and were taken again.
    """

    image: NDArray[np.uint8]
    timestamp_s: float
    exposure_us: float
    serial: str
    number: int
    retries: int = 0


@dataclass(frozen=True)
class Weighing:
    """One reading of the scale; a mass is only worth something when it is stable."""

    mass_g: float
    stable: bool
    timestamp_s: float


@dataclass(frozen=True)
class PartTicket:
    """A part that the source has presented.

    `label` is what a person declared about the part (``"good"``, ``"defective"`` or None), never a simulator's
    knowledge.
    """

    part_id: str
    lot: str
    cavity: int
    shot: int
    label: str | None


class Device(Protocol):
    """The lifecycle that all devices share."""

    def __enter__(self) -> Self:
        """Connect."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect, whatever state the device is in."""
        ...


class Clock(Device, Protocol):
    """The cell's time: wall time on a line, simulated time in a twin."""

    def now(self) -> float:
        """Seconds since an arbitrary start."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` of the cell's time pass."""
        ...

    def computed(self, wall_s: float) -> None:
        """Lay `wall_s` seconds that the cell waited for a computer on the time line.

        A wall clock has counted them already and does nothing.
        """
        ...


class Arm(Device, Protocol):
    """A seven-joint arm."""

    def state(self) -> ArmState:
        """Return the present state."""
        ...

    def follow(self, trajectory: JointTrajectory) -> float | None:
        """Move along a trajectory and return at its end.

        Returns
        -------
        float or None
            Share, 0 to 1, of the states of the control loop that were answered in time; None where this computer
            closes no loop.

        Raises
        ------
        MotionRejected
            It does not start where the arm stands, or breaks a limit; nothing has moved.
        ReflexStop
            The arm hit something and stopped.
        """
        ...

    def stop(self) -> None:
        """Stop as fast as the arm can.

        May be called from another thread while `follow` runs: that raises `ReflexStop`, and the arm moves again only
        after a person acknowledged.
        """
        ...

    def recover(self, *, acknowledged_by: str) -> None:
        """Clear a fault after the named person acknowledged it."""
        ...


class Gripper(Device, Protocol):
    """A two-finger hand."""

    def grasp(self, width_m: float, force_n: float) -> Grasp:
        """Close on something about `width_m` wide; `Grasp.held` says whether it is there."""
        ...

    def release(self) -> None:
        """Open the fingers."""
        ...

    def state(self) -> Grasp:
        """Return what is held now: a part can be lost after the grasp."""
        ...


class Camera(Device, Protocol):
    """A fixed camera; it is triggered by `capture`."""

    @property
    def serial(self) -> str:
        """The serial number."""
        ...

    @property
    def intrinsics(self) -> Intrinsics:
        """The calibration that belongs to the pictures as delivered."""
        ...

    @property
    def exposure_us(self) -> float:
        """Exposure time, microseconds."""
        ...

    def capture(self) -> Frame:
        """Take one picture. Raises `GrabFailed` when none arrives whole."""
        ...


class Scale(Device, Protocol):
    """A precision scale."""

    def tare(self) -> None:
        """Take what lies on it as zero. Raises `ScaleUnstable`."""
        ...

    def weigh(self) -> Weighing:
        """Wait until the reading is stable and return it. Raises `ScaleUnstable` or `ScaleOverload`."""
        ...


class PartSource(Device, Protocol):
    """Where parts come from: a feeder on a line, a generator in a twin."""

    def next(self) -> PartTicket:
        """Present the next part at the feeder and say which it is."""
        ...
