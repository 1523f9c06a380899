"""A leg of the round: timed as fast as the arm and the grasp allow, and checked every few milliseconds again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import JointTrajectory, MotionRejected
from cell.motion.collision import CollisionModel, Contact, Load
from cell.motion.panda import TOOL_A_MAX, forward, hand_hulls_mm
from cell.motion.round import LET_GO_M, grasp_pose, place_pose
from cell.motion.trajectory import ToolLimits, joined, time_path
from cell.schema import CellFile, PartFile

_LIFT_ASIDE_M = 0.01
_AT_PLACE_M = LET_GO_M + 1e-3
_SAMPLES_CHECKED = 5
_GRAVITY_M_S2 = 9.81
_GRIP_SAFETY = 2.0
# The arm follows its command as if pulled by a spring, which swings so often: slowed down by a, it comes too far by a
# over the square of this (the twin's arm: 2.7 mm at 4.5 m/s²). So far into the gap below its finger tips it may come.
_SPRING_RAD_S = 40.0
_GAP_USED = 0.6
# Tips may stop below that plane, beside a nest; whether they touch anything is the collision model's question.
_LEAST_GAP_M = 0.001
_REMEDY = "nothing has moved; change the pose or the scene in the cell or part file"


class LegTimer:
    """Times legs of a cell and a part; see `time`."""

    def __init__(self, file: CellFile, part: PartFile, model: CollisionModel) -> None:
        self._file = file
        self._part = part
        self._model = model

    def time(
        self,
        start: str,
        end: str,
        pieces: Sequence[NDArray[np.float64]],
        load: Load,
        *,
        lands: bool = False,
    ) -> JointTrajectory:
        """Time a leg and check it again; the arm stops at the corners where rounding them would touch something.

        Parameters
        ----------
        start, end : str
            Names of the poses.
        pieces : sequence of (N, 7) float64
            Joint positions, rad, of its waypoints, one piece after the other; a piece may be empty.
        load : Load
            What is in the hand and what lies.
        lands : bool
            Whether the last piece leads a held part down onto the scale. It is then a way of its own, so gentle that
            the part does not come down to the pan before it is let go.

        Raises
        ------
        MotionRejected
            Something would be touched even so, or no timing is within the limits.
        """
        *before, landing = pieces if lands else [*pieces, np.empty((0, 7))]
        waypoints = np.concatenate([piece for piece in before if len(piece)])
        tool, gently = self.tool(load), ToolLimits(acceleration_m_s2=_braking(LET_GO_M))
        for rounded in (True, False):
            trajectory = time_path(waypoints, goal=end, tool=tool, rounded=rounded)
            if lands:
                down = np.concatenate([waypoints[-1:], landing])
                trajectory = joined(end, [trajectory, time_path(down, goal=end, tool=gently)])
            contact = self._recheck(trajectory, load)
            if contact is None:
                break
        if contact is not None:
            raise MotionRejected("arm", f"planning the way from {start} to {end}", str(contact), _REMEDY)
        return trajectory

    def _recheck(self, trajectory: JointTrajectory, load: Load) -> Contact | None:
        places = trajectory.positions_rad
        samples = np.unique(np.append(np.arange(0, len(places), _SAMPLES_CHECKED), len(places) - 1))
        ends = [forward(places[0]).position_m, forward(places[-1]).position_m]
        for q in places[samples]:
            contact = self._model.contact(q, load)
            if contact is None:
                continue
            # Straight above a place, and only there, hand and part may come near to what carries the part.
            tool = forward(q).position_m
            for end in ends:
                if np.abs(tool[:2] - end[:2]).max() < _LIFT_ASIDE_M and tool[2] < end[2] + self._file.scene.clearance_m:
                    contact = contact and self._model.contact(q, self._above(load, end))
            if contact is not None:
                return contact
        return None

    def _above(self, load: Load, end_m: NDArray[np.float64]) -> Load:
        """Return a load with the support of the place that the tool centre point is at."""
        scene = self._file.scene
        places = (scene.feeder, scene.scale, scene.bins.ok, scene.bins.reject, scene.bins.recheck)
        support: frozenset[str] = frozenset()
        for place in places:
            lying = place_pose(place)
            for grasp in self._part.grasps:
                if np.abs((lying @ grasp_pose(grasp)).position_m - end_m).max() < _AT_PLACE_M:
                    support |= self._model.support(lying)
        return replace(load, support=support)

    def tool(self, load: Load) -> ToolLimits:
        """Return the limits at which friction between the fingers still holds the part, with a safety of two.

        An empty hand, which comes to a part or leaves one, brakes so that its tips keep off what carries that.
        """
        if load.held is None:
            return ToolLimits(acceleration_m_s2=_braking(self._gap_m(load.opening_m)))
        force_n = min(grasp.force_n for grasp in self._part.grasps)
        friction_n = 2 * self._file.motion.pad_friction * force_n / _GRIP_SAFETY
        spare = friction_n / (self._part.mass.nominal_g / 1000) - _GRAVITY_M_S2
        if spare <= 0:
            raise MotionRejected(
                "gripper",
                "planning how fast a held part is moved",
                f"{force_n} N hold no {self._part.mass.nominal_g} g at a friction of {self._file.motion.pad_friction}",
                "raise force_n in the part file, within what the part bears",
            )
        return ToolLimits(acceleration_m_s2=min(TOOL_A_MAX, spare))

    def _gap_m(self, opening_m: float) -> float:
        """Return how far above the plane that the part stands on the finger tips stop at the lowest of its grasps."""
        gaps = []
        for grasp in self._part.grasps:
            opened = np.array([0.0, 500 * opening_m, 0.0])
            one = np.concatenate(hand_hulls_mm()["finger"]) + opened
            both = np.concatenate([one, one * (-1.0, -1.0, 1.0)])
            gaps.append(float(grasp_pose(grasp).apply(both / 1000)[:, 2].min()))
        return max(_LEAST_GAP_M, min(gaps))


def _braking(gap_m: float) -> float:
    """Return how hard, m/s², the arm may brake that comes to rest so far above something."""
    return min(TOOL_A_MAX, _GAP_USED * gap_m * _SPRING_RAD_S**2)
