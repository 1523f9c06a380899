"""One part through the cell: pick, show, weigh, pick again at the other grasp point, show again, sort."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import (
    DeviceTimeout,
    Frame,
    GrabFailed,
    Grasp,
    GraspLost,
    MotionRejected,
    NotConnected,
    PartTicket,
    ProtocolError,
    ScaleOverload,
    ScaleUnstable,
    Weighing,
)
from cell.motion.round import FEEDER, HOME, SCALE, Round, beside_scale, camera_pose, on_scale, over_bin
from cell.motion.stillness import expected_blur_px
from cell.motion.stored import ConfirmedWays, planned_round, way_home
from cell.motion.trajectory import stretched
from cell.schema import GraspPoint
from cell.setup import Cell
from cell.silhouette import hand_mask
from cell.start import (
    Clear,
    Confirm,
    hand_is_empty,
    nothing_is_held,
    prove,
    refuse_uncleared,
    refuse_unconfirmed,
    scale_is_empty,
)
from cell.timeline import Step, Timeline

Bin = Literal["ok", "reject", "recheck"]

OnFrame = Callable[[str, Frame, NDArray[np.bool_] | None], None]
"""Gets the name of the view, the frame, and the mask (H, W) of the hand in it; None where the cell masks nothing."""

_LOOK_S = 0.004
_HOME_RAD = 1e-3
# Of the arm's limits, on a way that a real arm goes for the first time.
_FIRST_SPEED = 0.1
# Faults of a sensor: the arm still knows where the part is and brings it to the bin for another look.
_SENSING_FAULTS = (DeviceTimeout, GrabFailed, NotConnected, ProtocolError, ScaleOverload, ScaleUnstable)


@dataclass(frozen=True)
class Passage:
    """What was measured on a part, up to the moment at which its bin has to be known.

    Attributes
    ----------
    ticket : PartTicket
    weighing : Weighing or None
        None when the part was not weighed.
    pictures : tuple of str
        The names of the views of which a frame was handed over.
    faults : tuple of str
        What went wrong with the inspection; the part itself is in the hand all the same.
    """

    ticket: PartTicket
    weighing: Weighing | None
    pictures: tuple[str, ...]
    faults: tuple[str, ...]


class Cycle:
    """The inspection cycle on any cell.

    Parameters
    ----------
    cell : Cell
        Connected devices.

    Notes
    -----
    Every pose and every way is planned in `prepare`, before anything moves. Frames are handed to the caller as they
    are taken, in the order of the round; the caller says at the end into which bin the part goes.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._round: Round | None = None
        self._timeline = Timeline(cell.clock)
        self._at = HOME
        self._confirm: Confirm = refuse_unconfirmed
        self._gone: ConfirmedWays | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """What the time of the last cycle went into, as far as it came."""
        return self._timeline.steps

    def prepare(self, *, clear: Clear = refuse_uncleared, confirm: Confirm = refuse_unconfirmed) -> None:
        """Plan the round, bring the arm home, and prove that hand and scale are empty.

        Parameters
        ----------
        clear : callable
            Asked where they are not; then the hand opens and the proof is repeated.
        confirm : callable
            On a real cell: asked before each way, here and in `run`, that the arm goes for the first time. It goes it
            at a tenth of its speed.

        Raises
        ------
        NotEmpty
            Hand or scale are still not empty.
        MotionRejected
            A pose cannot be reached, or something is in the way; nothing has moved.
        """
        cell = self._cell
        planned = planned_round(cell.file, cell.part, cell.folder)
        # With something in the hand the way home is another than the one that is planned.
        prove(partial(nothing_is_held, cell.gripper), cell.gripper, clear)
        speed = cell.file.motion.speed
        legs = {names: stretched(leg, speed) for names, leg in planned.legs.items()}
        here = cell.arm.state().positions_rad
        if np.abs(here - planned.home.q).max() > _HOME_RAD:
            opening = cell.gripper.state().width_m
            for leg in way_home(cell.file, cell.part, cell.folder, here, opening):
                if cell.file.real:  # planned for this once
                    confirm(f"to {leg.goal}")
                cell.arm.follow(stretched(leg, min(speed, _FIRST_SPEED) if cell.file.real else speed))
        self._confirm = confirm
        self._gone = ConfirmedWays(cell.file, cell.part, cell.folder) if cell.file.real else None
        self._round = replace(planned, legs=legs)
        prove(partial(hand_is_empty, cell.gripper), cell.gripper, clear)
        prove(partial(scale_is_empty, cell.scale, cell.part.mass), cell.gripper, clear)
        cell.scale.tare()

    def run(
        self,
        ticket: PartTicket,
        *,
        on_frame: OnFrame,
        choose_bin: Callable[[Passage], Bin],
    ) -> tuple[Passage, Bin, float]:
        """Bring one part from the feeder to its bin.

        Parameters
        ----------
        ticket : PartTicket
            The part that lies at the feeder.
        on_frame : callable
            Gets each frame with the mask of the hand in it, as soon as it is taken.
        choose_bin : callable
            Gets what was measured and answers with the bin; called once, with the part in the hand.

        Returns
        -------
        passage : Passage
        bin : {"ok", "reject", "recheck"}
            Where the part was let go.
        cycle_s : float
            The cell's time from the start at the feeder until the arm is home again.

        Raises
        ------
        DeviceError
            A fault after which the arm must not go on by itself: the part stays where it is.
        """
        if self._round is None:
            raise MotionRejected("arm", "starting a cycle", "no round is planned", "prepare the cycle first")
        cell, planned = self._cell, self._round
        first, second = cell.part.grasps
        start = cell.clock.now()
        self._timeline = Timeline(cell.clock)
        self._at = HOME
        pictures: list[str] = []
        faults: list[str] = []

        def show(names: Iterable[str]) -> None:
            for name in names:
                self._go(name)
                grasp = self._check_held(f"showing {name}")
                if faults:
                    # No more pictures, but the arm knows its way only from pose to pose.
                    continue
                try:
                    self._settle(name)
                    joints = cell.arm.state().positions_rad
                    frame = self._capture(name)
                except _SENSING_FAULTS as error:
                    faults.append(str(error))
                    continue
                on_frame(name, frame, self._mask(joints, grasp.width_m))
                pictures.append(name)

        self._go(FEEDER)
        self._grasp(first)
        show(planned.views[0])
        self._go(SCALE)
        self._release()
        self._go(beside_scale(second))
        weighing = None
        try:
            with self._timeline.step("weighing", SCALE):
                weighing = cell.scale.weigh()
        except _SENSING_FAULTS as error:
            faults.append(str(error))
        self._go(on_scale(second))
        self._grasp(second)
        show(planned.views[1])
        passage = Passage(ticket, weighing, tuple(pictures), tuple(faults))
        with self._timeline.step("waiting", "verdict"):
            target = choose_bin(passage)
        self._go(over_bin(target))
        self._release()
        self._go(HOME)
        return passage, target, cell.clock.now() - start

    def _go(self, name: str) -> None:
        """Move along the planned leg to a pose."""
        assert self._round is not None
        way, leg = (self._at, name), self._round.legs[self._at, name]
        first = self._gone is not None and way not in self._gone
        if first:
            self._confirm(f"from {self._at} to {name}")
            leg = stretched(leg, min(1.0, _FIRST_SPEED / self._cell.file.motion.speed))
        start, in_time = self._timeline.now(), None
        try:
            in_time = self._cell.arm.follow(leg)
        finally:
            self._timeline.add("motion", name, start, self._timeline.now(), in_time=in_time)
        if first and self._gone is not None:
            self._gone.add(way)
        self._at = name

    def _grasp(self, grasp: GraspPoint) -> None:
        with self._timeline.step("gripper", f"take by {grasp.name}"):
            held = self._cell.gripper.grasp(grasp.width_mm / 1000, grasp.force_n)
        if not held.held:
            raise GraspLost(
                "gripper",
                f"taking the part at {self._at} by {grasp.name}",
                f"the fingers stand {held.width_m * 1000:.1f} mm apart and hold nothing {grasp.width_mm} mm wide",
                "look where the part lies",
            )

    def _release(self) -> None:
        self._check_held(f"putting the part at {self._at}")
        with self._timeline.step("gripper", f"let go at {self._at}"):
            self._cell.gripper.release()

    def _check_held(self, doing: str) -> Grasp:
        grasp = self._cell.gripper.state()
        if not grasp.held:
            raise GraspLost("gripper", doing, "the part is no longer in the hand", "look for it in the cell")
        return grasp

    def _settle(self, name: str) -> None:
        """Wait until the arm is still enough for a picture."""
        cell, bound = self._cell, self._cell.file.motion.still
        with self._timeline.step("settling", name):
            until = cell.clock.now() + bound.within_s
            while True:
                state = cell.arm.state()
                fastest = float(np.abs(state.velocities_rad_s).max())
                blur = expected_blur_px(
                    state, cell.file.scene.camera, cell.part, cell.camera.intrinsics, cell.camera.exposure_us
                )
                if fastest <= bound.velocity_rad_s and blur <= bound.blur_px:
                    return
                if cell.clock.now() >= until:
                    raise DeviceTimeout(
                        "arm",
                        f"coming to rest at {name}",
                        f"a joint still moves at {fastest:.3f} rad/s, a blur of {blur:.2f} pixels, "
                        f"after {bound.within_s} s",
                        "look for what shakes the arm, or widen the bounds in the cell file",
                    )
                cell.clock.sleep(_LOOK_S)

    def _capture(self, name: str) -> Frame:
        """Take a picture; what it takes longer than the exposure is the transfer."""
        start = self._timeline.now()
        frame = self._cell.camera.capture()
        end = self._timeline.now()
        exposed = min(end, start + frame.exposure_us * 1e-6)
        self._timeline.add("capture", name, start, exposed)
        if end > exposed:
            self._timeline.add("transfer", name, exposed, end)
        return frame

    def _mask(self, joints_rad: NDArray[np.float64], opening_m: float) -> NDArray[np.bool_] | None:
        file = self._cell.file
        if file.hand is None:
            return None
        return hand_mask(file.hand, joints_rad, opening_m, camera_pose(file.scene.camera), self._cell.camera.intrinsics)
