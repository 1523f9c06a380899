"""What changes from part to part and is no property of the part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from cell.interfaces import Pose
from twin.streams import stream

N_GRASPS = 2


def _no_slip() -> NDArray[np.float64]:
    return np.zeros((N_GRASPS, 3))


@dataclass(frozen=True)
class Conditions:
    """Under what one part is inspected. The defaults are the cell as it was planned.

    Attributes
    ----------
    light : float
        Brightness of the lamp while this part is inspected, relative.
    exposure_jitter : float
        Standard deviation of each picture's exposure, relative.
    focus_mm : float
        The plane of sharpness lies so much nearer to the camera (+) or farther away (-) than planned.
    background : float
        Brightness of what is behind the part, relative.
    reflection : float
        Share of light, 0 to 1, that the part's surface mirrors of the gripper where it faces it; 0: no reflections.
    arm_error_rad : float
        Standard deviation of the true from the reported angle of each joint, drawn anew at each stop.
    slip_mm, slip_rad : (2, 3) float64
        How far the part has slipped in the hand at each grasp point, in the frame of the tool centre point: a
        translation, and a rotation vector about that point.
    """

    light: float = 1.0
    exposure_jitter: float = 0.0
    focus_mm: float = 0.0
    background: float = 1.0
    reflection: float = 0.0
    arm_error_rad: float = 0.0
    slip_mm: NDArray[np.float64] = field(default_factory=_no_slip)
    slip_rad: NDArray[np.float64] = field(default_factory=_no_slip)

    def true_joints(self, reported_rad: NDArray[np.float64], seed: Sequence[int], stop: int) -> NDArray[np.float64]:
        """Return where the joints (7,) really are at a part's `stop`-th stop."""
        if self.arm_error_rad == 0:
            return reported_rad
        error = stream((*seed, stop), "arm").normal(size=len(reported_rad))
        return np.asarray(reported_rad + self.arm_error_rad * error)

    def slip(self, grasp: int) -> Pose:
        """Return how the part has moved in the tool centre point's frame since the fingers closed, for grasp 0 or 1."""
        return Pose(Rotation.from_rotvec(self.slip_rad[grasp]).as_matrix(), self.slip_mm[grasp] / 1000)
