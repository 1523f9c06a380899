"""The simulated precision scale."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.interfaces import ScaleOverload, ScaleUnstable, Weighing
from cell.schema import FileModel
from cell.setup import Setup
from twin.device import InWorld, world_of
from twin.snapshot import PartBody
from twin.world import GRAVITY_M_S2, World

# Sets the scale's randomness apart from everything else that follows from a part's seed.
_STREAM = 0x5CA1E
# Shaking is white noise, stated for steps of this length: what shorter ones add up to is the same.
_SHAKEN_S = 1 / 240


class TwinScaleConfig(FileModel):
    """A laboratory scale of 100 g by 0.001 g.

    Noise and settling are a data sheet's repeatability and stabilisation time (KERN PCB 100-3: 0.001 g and 3 s).
    """

    capacity_g: float = Field(100.0, gt=0)
    step_g: float = Field(0.001, gt=0)
    noise_g: float = Field(0.0007, ge=0, description="standard deviation of a reading at rest")
    settling_s: float = Field(3.0, gt=0, le=30, description="after which the full load is shown to one step")
    drift_g: float = Field(0.002, ge=0, description="standard deviation of the zero, since it was tared")
    vibration_g_s2: float = Field(
        0.012,
        ge=0,
        description="grams of noise for each rad/s² of the arm: 8 kg at 0.4 m on a table of 200 kg shake feet that let "
        "a tenth through, and so the 73 g of pan and part",
    )
    readings_hz: float = Field(10.0, gt=0, le=100)
    stable_readings: int = Field(10, ge=2, le=100, description="so many must agree")
    stable_g: float = Field(0.004, gt=0, description="spread of these up to which the mass is stable")
    timeout_s: float = Field(8.0, gt=0, le=60)


class LoadCell:
    """What the scale's electronics feel; see `twin.device.LoadCell`.

    It follows the force on the pan with the lag of its filter at all times, so a part that was only just put down has
    not settled, one that rocks does not, and the arm shakes it as it moves.
    """

    def __init__(self, config: TwinScaleConfig) -> None:
        self._config = config
        self._lag_s = config.settling_s / math.log(config.capacity_g / config.step_g)
        self._velocities: NDArray[np.float64] | None = None
        self._begin(None, None)

    def follow(self, world: World, step_s: float) -> None:
        """Follow the force on the pan for one step of the world."""
        velocities = world.joints()[1]
        if world.part is not self._part:
            self._begin(world.part, velocities)
        force_g = world.pan_force_n() / GRAVITY_M_S2 * 1000
        if self._velocities is not None:
            acceleration = float(np.linalg.norm(velocities - self._velocities)) / step_s
            shaken_g = self._config.vibration_g_s2 * math.sqrt(_SHAKEN_S / step_s)
            force_g += shaken_g * acceleration * float(self._rng.standard_normal())
        self._velocities = velocities
        self._load_g += (force_g - self._load_g) * -math.expm1(-step_s / self._lag_s)

    def reading_g(self) -> float:
        """Return what is shown now, before any taring."""
        return self._load_g + self._drift_g + self._config.noise_g * float(self._rng.standard_normal())

    def _begin(self, part: PartBody | None, velocities: NDArray[np.float64] | None) -> None:
        """Start anew with a part: what is random follows from its seed, and the pan is empty."""
        self._part = part
        self._rng = np.random.default_rng((*(part.seed if part else ()), _STREAM))
        self._drift_g = self._config.drift_g * float(self._rng.standard_normal()) if part else 0.0
        self._load_g = 0.0
        self._velocities = velocities if part else None


class TwinScale(InWorld):
    """The scale; see `cell.interfaces.Scale`. What it reads is the contact force on its pan."""

    Config = TwinScaleConfig

    def __init__(self, config: TwinScaleConfig, setup: Setup) -> None:
        self._config = config
        self._world = world_of(setup)
        self._zero_g = 0.0

    def __enter__(self) -> Self:
        self._world.mount(LoadCell(self._config))
        return self

    def tare(self) -> None:
        """Take what lies on the pan as zero."""
        self._zero_g = self._settled("taring")

    def weigh(self) -> Weighing:
        """Wait for a stable reading and return it."""
        grams = self._settled("weighing") - self._zero_g
        return Weighing(round(grams / self._config.step_g) * self._config.step_g, True, self._world.time_s)

    def _settled(self, doing: str) -> float:
        """Return the mean of the first readings that agree, in grams."""
        config, readings = self._config, list[float]()
        for _ in range(math.ceil(config.timeout_s * config.readings_hz)):
            self._world.wait(1 / config.readings_hz)
            reading = self._world.reading_g()
            if reading > config.capacity_g:
                raise ScaleOverload(
                    "scale",
                    doing,
                    f"{reading:.0f} g lie on it, more than {config.capacity_g:.0f} g",
                    "take the load off",
                )
            readings.append(reading)
            last = readings[-config.stable_readings :]
            if len(last) == config.stable_readings and np.ptp(last) <= config.stable_g:
                return float(np.mean(last))
        raise ScaleUnstable(
            "scale",
            doing,
            f"the reading did not settle in {config.timeout_s:.0f} s",
            "look for draught or touch, and whether the part rocks",
        )
