"""One part through the cell: pick, show, weigh, pick again at the other grasp point, show again, sort."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
from cell.motion.round import Handling, Round, Stop, camera_pose, plan_round
from cell.motion.trajectory import point_to_point
from cell.schema import GraspPoint
from cell.setup import Cell
from cell.silhouette import hand_mask

Bin = Literal["ok", "reject", "recheck"]

OnFrame = Callable[[str, Frame, NDArray[np.bool_] | None], None]
"""Gets the name of the view, the frame, and the mask (H, W) of the hand in it; None where the cell masks nothing."""

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
    Every pose is worked out in `prepare`, before anything moves. Frames are handed to the caller as they are
    taken; the caller says at the end into which bin the part goes.
    """

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._round: Round | None = None

    def prepare(self) -> None:
        """Plan the round and bring the arm home with an open, empty hand.

        Raises
        ------
        MotionRejected
            A pose cannot be reached; nothing has moved.
        """
        cell = self._cell
        self._round = plan_round(cell.file.scene, cell.part, np.array(cell.file.motion.home_rad))
        self._go(self._round.home)
        cell.gripper.release()
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
        pictures: list[str] = []
        faults: list[str] = []

        def show(stops: dict[str, Stop]) -> None:
            for name, stop in stops.items():
                if faults:
                    return
                self._go(stop)
                grasp = self._check_held(f"showing {name}")
                cell.clock.sleep(cell.file.motion.settle_s)
                joints = cell.arm.state().positions_rad
                try:
                    frame = cell.camera.capture()
                except _SENSING_FAULTS as error:
                    faults.append(str(error))
                    return
                on_frame(name, frame, self._mask(joints, grasp.width_m))
                pictures.append(name)

        self._pick(planned.pick, first)
        show(planned.views[0])
        self._put(planned.put)
        weighing = None
        try:
            weighing = cell.scale.weigh()
        except _SENSING_FAULTS as error:
            faults.append(str(error))
        self._pick(planned.repick, second)
        show(planned.views[1])
        passage = Passage(ticket, weighing, tuple(pictures), tuple(faults))
        target = choose_bin(passage)
        self._put(planned.bins[target])
        self._go(planned.home)
        return passage, target, cell.clock.now() - start

    def _pick(self, place: Handling, grasp: GraspPoint) -> None:
        self._go(place.above)
        self._go(place.at)
        held = self._cell.gripper.grasp(grasp.width_mm / 1000, grasp.force_n)
        if not held.held:
            raise GraspLost(
                "gripper",
                f"taking the part at {place.at.name} by {grasp.name}",
                f"the fingers stand {held.width_m * 1000:.1f} mm apart and hold nothing {grasp.width_mm} mm wide",
                "look where the part lies",
            )
        self._go(place.above)

    def _put(self, place: Handling) -> None:
        self._go(place.above)
        self._go(place.at)
        self._check_held(f"putting the part at {place.at.name}")
        self._cell.gripper.release()
        self._go(place.above)

    def _check_held(self, doing: str) -> Grasp:
        grasp = self._cell.gripper.state()
        if not grasp.held:
            raise GraspLost("gripper", doing, "the part is no longer in the hand", "look for it in the cell")
        return grasp

    def _mask(self, joints_rad: NDArray[np.float64], opening_m: float) -> NDArray[np.bool_] | None:
        file = self._cell.file
        if file.hand is None:
            return None
        return hand_mask(file.hand, joints_rad, opening_m, camera_pose(file.scene.camera), self._cell.camera.intrinsics)

    def _go(self, stop: Stop) -> None:
        here = self._cell.arm.state().positions_rad
        self._cell.arm.follow(point_to_point(here, stop.q, goal=stop.name, speed=self._cell.file.motion.speed))
