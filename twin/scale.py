"""The simulated precision scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.interfaces import ScaleOverload, ScaleUnstable, Weighing
from cell.schema import FileModel
from cell.setup import Setup
from twin.device import InWorld
from twin.world import GRAVITY_M_S2, PartBody, world_of

# Sets the scale's noise apart from everything else that follows from a part's seed.
_NOISE = 0x5CA1E


class TwinScaleConfig(FileModel):
    """A laboratory scale of 100 g by 0.001 g."""

    capacity_g: float = Field(100.0, gt=0)
    step_g: float = Field(0.001, gt=0)
    noise_g: float = Field(0.0005, ge=0, description="standard deviation of a reading")
    window_s: float = Field(0.25, gt=0, le=10, description="a reading is the mean over this time")
    stable_g: float = Field(0.01, gt=0, description="spread within the window up to which it counts as stable")
    timeout_s: float = Field(5.0, gt=0, le=60)


class TwinScale(InWorld):
    """The scale; see `cell.interfaces.Scale`. What it reads is the contact force on its pan."""

    Config = TwinScaleConfig

    def __init__(self, config: TwinScaleConfig, setup: Setup) -> None:
        self._config = config
        self._world = world_of(setup)
        self._zero_g = 0.0
        self._part: PartBody | None = None
        self._weighings = 0

    def tare(self) -> None:
        """Take what lies on the pan as zero."""
        self._zero_g = float(self._settled("taring").mean())

    def weigh(self) -> Weighing:
        """Wait for a stable reading and return it."""
        grams = float(self._settled("weighing").mean()) - self._zero_g
        part = self._world.part
        if part is not self._part:
            self._part, self._weighings = part, 0
        self._weighings += 1
        rng = np.random.default_rng((*(part.seed if part else ()), _NOISE, self._weighings))
        grams += self._config.noise_g * float(rng.standard_normal())
        return Weighing(round(grams / self._config.step_g) * self._config.step_g, True, self._world.time_s)

    def _settled(self, doing: str) -> NDArray[np.float64]:
        """Return the grams in the first window whose spread is small enough."""
        waited = 0.0
        while waited < self._config.timeout_s:
            grams = self._window()
            waited += self._config.window_s
            if grams.max() > self._config.capacity_g:
                raise ScaleOverload(
                    "scale",
                    doing,
                    f"{grams.max():.0f} g lie on it, more than {self._config.capacity_g:.0f} g",
                    "take the load off",
                )
            if np.ptp(grams) <= self._config.stable_g:
                return grams
        raise ScaleUnstable(
            "scale",
            doing,
            f"the reading did not settle in {self._config.timeout_s:.0f} s",
            "look for draught or touch",
        )

    def _window(self) -> NDArray[np.float64]:
        forces = []
        for _ in range(max(2, round(self._config.window_s / self._world.step_s))):
            self._world.step()
            forces.append(self._world.pan_force_n())
        return np.array(forces) / GRAVITY_M_S2 * 1000
