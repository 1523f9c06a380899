"""A cell that plays recorded parts back: the same frames, masks and masses through the same cycle.

So another model can judge what was inspected before. Arm and hand only follow; what the camera saw and the scale said
comes from the records.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session, selectinload

from cell.interfaces import (
    N_JOINTS,
    ArmState,
    ConfigError,
    DeviceTimeout,
    Frame,
    GrabFailed,
    Grasp,
    Intrinsics,
    JointTrajectory,
    MotionRejected,
    PartTicket,
    ReflexStop,
    ScaleUnstable,
    Weighing,
)
from cell.motion.stored import planned_round
from cell.motion.trajectory import violation
from cell.records.address import Address
from cell.records.database import Database
from cell.records.pictures import PictureStore
from cell.records.schema import (
    ContentRecord,
    Entry,
    InspectionRecord,
    PictureRecord,
    RunRecord,
    VerdictRecord,
    ViewRecord,
)
from cell.schema import FileModel, PartFile
from cell.setup import Setup

_START_TOLERANCE_RAD = 0.01


@dataclass(frozen=True)
class RecordedTicket(PartTicket):
    """A part that is played back; `audits` is the hash of its inspection."""

    audits: str


@dataclass(frozen=True)
class RecordedFrame(Frame):
    """A frame that is played back, with what was masked in it: (H, W) bool, or None."""

    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _RecordedPart:
    ticket: RecordedTicket
    views: dict[str, ViewRecord]
    weighing: Weighing | None


class RecordingConfig(FileModel):
    """Which parts are played back: of the records at an address those of a lot, or named ones, or all.

    `inspections` are entries: these very ones, all of which must be there.
    """

    records: str = "sqlite:///runs/records.sqlite"
    lot: str | None = None
    parts: tuple[str, ...] = Field((), description="names; the latest inspection of each")
    inspections: tuple[int, ...] = ()


class Recording:
    """The recorded parts, and the time and place of what plays them back; the cell's `world`."""

    Config = RecordingConfig

    def __init__(self, config: RecordingConfig, setup: Setup) -> None:
        self._config = config
        self._setup = setup
        self.time_s = 0.0
        self.joints_rad: NDArray[np.float64] = np.zeros(N_JOINTS)
        self.part: _RecordedPart | None = None

    def __enter__(self) -> Self:
        address = Address.parse(self._config.records)
        self._store = PictureStore(address.pictures)
        with Database(address) as database, database.reading() as session:
            found = _recorded(session, self._config)
            if not found:
                raise ConfigError(f"{address}: holds no part with all its pictures that world.lot and world.parts mean")
            sets = {run.made_for_hash for *_, run in found}
            missing = set(self._config.inspections).difference(part.entry for part, *_ in found)
            if missing:
                raise ConfigError(f"{address}: inspections {sorted(missing)} have not all their pictures any more")
            if len(sets) > 1:
                raise ConfigError(
                    f"{address}: the parts were taken with {len(sets)} different cameras, settings or part files; "
                    "name one lot or some parts under world in the cell file"
                )
            self.made_for: dict[str, Any] = json.loads(session.get_one(ContentRecord, sets.pop()).text)
            numbers = self._setup.order.numbers
            self._parts = iter([_part(*found[number][:3]) for number in numbers if number < len(found)])
        _refuse_another_part(self.made_for["part"], self._setup.part)
        self.joints_rad = np.array(self._setup.order.cell.content.motion.home_rad)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.part = None

    def present(self) -> RecordedTicket:
        """Take up the next part."""
        self.part = next(self._parts, None)
        if self.part is None:
            raise DeviceTimeout("recording", "presenting a part", "all recorded parts were played", "order fewer")
        return self.part.ticket

    def frame(self, view: ViewRecord) -> RecordedFrame:
        """Read a picture and its mask back."""
        mask = None if view.mask is None else self._store.read(view.mask) > 0
        image = self._store.read(view.picture)
        taken = view.taken_s, view.exposure_us, view.serial, view.frame, view.retries or 0
        return RecordedFrame(image, *taken, mask=mask)


def _recorded(
    session: Session, config: RecordingConfig
) -> list[tuple[InspectionRecord, VerdictRecord, str, RunRecord]]:
    """Return the inspections to play back, the oldest first: no audits, none with a picture that was removed."""
    gone = exists().where(
        ViewRecord.verdict == VerdictRecord.entry,
        or_(PictureRecord.hash == ViewRecord.picture, PictureRecord.hash == ViewRecord.mask),
        PictureRecord.removed.is_not(None),
    )
    query = (
        select(InspectionRecord, VerdictRecord, Entry.hash, RunRecord)
        .join(VerdictRecord, VerdictRecord.inspection == InspectionRecord.entry)
        .join(Entry, Entry.number == InspectionRecord.entry)
        .join(RunRecord, RunRecord.entry == InspectionRecord.run)
        .where(InspectionRecord.audits.is_(None), VerdictRecord.views.any(), ~gone)
        .order_by(InspectionRecord.entry)
        .options(selectinload(VerdictRecord.views))
    )
    if config.lot is not None:
        query = query.where(InspectionRecord.lot == config.lot)
    if config.parts:
        query = query.where(InspectionRecord.part_id.in_(config.parts))
    if config.inspections:
        query = query.where(InspectionRecord.entry.in_(config.inspections))
    latest = {row[0].part_id: row for row in session.execute(query)}
    rows = sorted(latest.values(), key=lambda row: row[0].entry)
    return [(part, verdict, digest, run) for part, verdict, digest, run in rows]


def _part(part: InspectionRecord, verdict: VerdictRecord, digest: str) -> _RecordedPart:
    ticket = RecordedTicket(part.part_id, part.lot, part.cavity, part.shot, part.declared, digest)
    weighing = None
    if verdict.mass_g is not None:
        weighing = Weighing(verdict.mass_g, bool(verdict.mass_stable), 0.0)
    return _RecordedPart(ticket, {view.view: view for view in verdict.views}, weighing)


def _refuse_another_part(recorded: dict[str, Any], part: PartFile) -> None:
    here = part.model_dump(mode="json", by_alias=True, exclude={"mass", "density_g_cm3"})
    differ = sorted(key for key in recorded.keys() | here.keys() if recorded.get(key) != here.get(key))
    if differ:
        raise ConfigError(f"The parts were recorded with another part file: {', '.join(differ)} differ; use that one")


class _Played:
    """A device of the recording."""

    def __init__(self, config: FileModel, setup: Setup) -> None:
        if not isinstance(setup.world, Recording):
            raise ConfigError(f"{setup.order.cell.path}: world must be cell.replay:Recording for its devices")
        self._recording = setup.world
        self._setup = setup

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class ReplayClock(_Played):
    """Time that passes as fast as it is computed; see `cell.interfaces.Clock`."""

    Config = FileModel

    def now(self) -> float:
        """Seconds since the start."""
        return self._recording.time_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._recording.time_s += seconds

    def computed(self, wall_s: float) -> None:
        """Lay computing time on the line."""
        self._recording.time_s += wall_s


class ReplayArm(_Played):
    """An arm that is where its trajectory ends; see `cell.interfaces.Arm`."""

    Config = FileModel

    def state(self) -> ArmState:
        """Return where it stands."""
        return ArmState(self._recording.joints_rad, np.zeros(N_JOINTS), None)

    def follow(self, trajectory: JointTrajectory) -> float | None:
        """Go to the end of a trajectory."""
        broken = violation(trajectory)
        away = float(np.abs(self._recording.joints_rad - trajectory.positions_rad[0]).max())
        if broken is None and away > _START_TOLERANCE_RAD:
            broken = f"the arm stands {away:.3f} rad from the start"
        if broken is not None:
            raise MotionRejected("arm", f"moving to {trajectory.goal}", broken, "plan the motion anew")
        self._recording.joints_rad = trajectory.positions_rad[-1]
        self._recording.time_s += trajectory.duration_s
        return None

    def stop(self) -> None:
        """Stay."""

    def recover(self, *, acknowledged_by: str) -> None:
        """Nothing is to be cleared, but nobody may say so without a name."""
        if not acknowledged_by:
            raise ReflexStop("arm", "recovering", "nobody acknowledged the fault", "name who did")


class ReplayGripper(_Played):
    """A hand that holds what is played back; see `cell.interfaces.Gripper`."""

    Config = FileModel
    _OPEN = Grasp(False, 0.08)

    def __enter__(self) -> Self:
        self._grasp = self._OPEN
        self._widths_m = {grasp.width_mm / 1000 for grasp in self._setup.part.grasps}
        return self

    def grasp(self, width_m: float, force_n: float) -> Grasp:
        """Close on the part, if there is one as wide."""
        there = self._recording.part is not None and width_m in self._widths_m
        self._grasp = Grasp(True, width_m) if there else Grasp(False, 0.0)
        return self._grasp

    def release(self) -> None:
        """Open."""
        self._grasp = self._OPEN

    def state(self) -> Grasp:
        """Return what is held."""
        return self._grasp


class ReplayCamera(_Played):
    """A camera that sees what was seen; see `cell.interfaces.Camera`.

    Attributes
    ----------
    made_for : dict
        What the pictures depended on when they were taken (`cell.fingerprint`).
    """

    Config = FileModel

    def __enter__(self) -> Self:
        order = self._setup.order
        # The cycle plans the same round, and takes the views in its order.
        planned = planned_round(order.cell.content, order.part.content, order.part.path.parent)
        self._names = [name for shown in planned.views for name in shown]
        self._shown: _RecordedPart | None = None
        self._taken = 0
        return self

    @property
    def made_for(self) -> dict[str, Any]:
        """See the class."""
        return self._recording.made_for

    @property
    def serial(self) -> str:
        """The serial number of the camera that took the pictures."""
        return str(self.made_for["camera_serial"])

    @property
    def intrinsics(self) -> Intrinsics:
        """Its calibration."""
        return Intrinsics(**self.made_for["intrinsics"])

    @property
    def exposure_us(self) -> float:
        """Its exposure time, microseconds."""
        return float(self.made_for["exposure_us"])

    def capture(self) -> RecordedFrame:
        """Return the part's picture of the next view."""
        part = self._recording.part
        if part is None:
            raise GrabFailed("camera", "taking a picture", "no part is played back", "present one first")
        if part is not self._shown:
            self._shown, self._taken = part, 0
        name = self._names[self._taken % len(self._names)]
        self._taken += 1
        if name not in part.views:
            raise GrabFailed("camera", f"taking view {name}", "none is recorded of it", "inspect the part itself")
        return self._recording.frame(part.views[name])


class ReplayScale(_Played):
    """A scale that says what it said; see `cell.interfaces.Scale`."""

    Config = FileModel

    def tare(self) -> None:
        """Nothing lies on it."""

    def weigh(self) -> Weighing:
        """Return the recorded mass."""
        part = self._recording.part
        if part is None:
            return Weighing(0.0, True, self._recording.time_s)
        if part.weighing is None:
            raise ScaleUnstable("scale", "weighing", "no mass is recorded", "weigh the part itself")
        return part.weighing


class ReplaySource(_Played):
    """Presents the recorded parts; see `cell.interfaces.PartSource`."""

    Config = FileModel

    def next(self) -> RecordedTicket:
        """Present the next one."""
        return self._recording.present()
