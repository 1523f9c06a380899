"""What an arm that nobody calibrated has wrong: no two are alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell.motion.geometry import joints_at
from cell.motion.panda import forward_all

# Links as made to ISO 2768-1 fine (0.2 mm over 120 to 400 mm) and ISO 2768-2 H (0.3 mm square over 300 mm).
_LENGTH_M = 2e-4
_SQUARE_RAD = 1e-3
# Zeros of the joints, standard deviation: together with the links the tool is off by 2 to 3 mm, of the size that is
# reported of Pandas that were not calibrated.
_ZERO_RAD = 1.5e-3
# Once a turn, by an encoder that runs out of true: 20 arc seconds, what makers of shaft encoders state (Heidenhain
# ECN 1313).
_ENCODER_RAD = 1e-4


class ArmError:
    """The joints that an arm reports, and those of the nominal arm with its tool where the arm's tool really is.

    Parameters
    ----------
    unit : int
        Which arm: everything follows from it.
    """

    def __init__(self, unit: int) -> None:
        rng = np.random.default_rng(unit)
        lengths = rng.uniform(-_LENGTH_M, _LENGTH_M, (7, 2))
        turns = np.stack([rng.uniform(-_SQUARE_RAD, _SQUARE_RAD, 7), rng.normal(0, _ZERO_RAD, 7)], axis=1)
        phase = rng.uniform(0, 2 * np.pi, 7)
        encoders = _ENCODER_RAD * np.stack([np.cos(phase), np.sin(phase)], axis=1)
        self._off = np.concatenate([lengths, turns, encoders], axis=1)

    def true(self, reported: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where the nominal arm's joints (..., 7) would have to be."""
        return joints_at(self._forward(reported), forward_all, reported)

    def reported(self, true: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what the arm reports then."""
        return joints_at(forward_all(true), self._forward, true)

    def _forward(self, reported: NDArray[np.float64]) -> NDArray[np.float64]:
        return forward_all(reported, off=self._off)
