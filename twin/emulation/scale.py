"""The twin's scale on a serial line, weighed by the real driver."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import Field

from cell.config import check
from cell.drivers.dialect import Line
from cell.drivers.serial_scale import SerialScale, SerialScaleConfig
from cell.interfaces import ScaleOverload, ScaleUnstable, Weighing
from cell.setup import Setup
from twin.emulation.languages import LANGUAGES
from twin.emulation.serial_device import OnPan, SpeakingScale
from twin.scale import TwinScale, TwinScaleConfig

_OTHER_BAUD = {2400: 9600}
_NOISE = b"\x00\xff#?0.0\r\n"


class EmulatedScaleConfig(TwinScaleConfig):
    """The twin's scale, the language it speaks, and how the driver shall listen."""

    language: Literal["kern", "sartorius-sbi", "sartorius-sbi-22", "mt-sics", "a-and-d"] = "kern"
    driver: dict[str, Any] = Field(description="SerialScaleConfig, but for the port")


class EmulatedScale:
    """The unmodified driver on a pseudo-terminal whose far end is the twin's scale; see `cell.interfaces.Scale`.

    Before the driver asks, the world runs until the reading has settled or did not; the far end then answers with
    that reading, and does the taring itself.
    """

    Config = EmulatedScaleConfig

    def __init__(self, config: EmulatedScaleConfig, setup: Setup) -> None:
        self._config = config
        self._setup = setup
        self._twin = TwinScale(config, setup)
        self._far_end = SpeakingScale(LANGUAGES[config.language], continuous=config.driver.get("mode") == "continuous")
        self._provoked: str | None = None

    def __enter__(self) -> Self:
        where = f"{self._setup.order.cell.path}: scale.driver"
        with ExitStack() as stack:
            stack.enter_context(self._twin)
            stack.enter_context(self._far_end)
            config = check({"port": self._far_end.port} | self._config.driver, SerialScaleConfig, where)
            self._driver = stack.enter_context(SerialScale(config, self._setup))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def tare(self) -> None:
        """Take what lies on it as zero, by the driver."""
        self._settle()
        self._driver.tare()

    def weigh(self) -> Weighing:
        """Weigh with the driver."""
        self._settle()
        healthy = self._far_end.baud_rate
        try:
            self._misbehave(self._provoked)
            return self._driver.weigh()
        finally:
            self._provoked = None
            self._far_end.silent, self._far_end.noise, self._far_end.baud_rate = False, None, healthy

    @property
    def line(self) -> Line:
        """Settings of the line."""
        return self._driver.line

    def record(self, seconds: float) -> bytes:
        """Return what the driver hears in so many seconds."""
        return self._driver.record(seconds)

    def provoke(self, kind: str) -> bool:
        """Let the far end misbehave at the next weighing; False where this fault is not known here.

        Parameters
        ----------
        kind : str
            ``silent``, ``unstable``, ``overloaded``, ``garbage`` or ``wrong baud``.
        """
        if kind not in ("silent", "unstable", "overloaded", "garbage", "wrong baud"):
            return False
        self._provoked = kind
        return True

    def _misbehave(self, kind: str | None) -> None:
        far_end = self._far_end
        if kind == "silent":
            far_end.silent = True
        elif kind == "unstable":
            far_end.pan = OnPan(far_end.pan.gross_g, "unstable")
        elif kind == "overloaded":
            far_end.pan = OnPan(far_end.pan.gross_g, "overload")
        elif kind == "garbage":
            far_end.noise = _NOISE
        elif kind == "wrong baud":
            far_end.baud_rate = _OTHER_BAUD.get(far_end.baud_rate, 2400)

    def _settle(self) -> None:
        """Let the world run and put what the pan carries before the far end."""
        try:
            self._far_end.pan = OnPan(self._twin.weigh().mass_g)
        except ScaleUnstable:
            self._far_end.pan = OnPan(self._far_end.pan.gross_g, "unstable")
        except ScaleOverload:
            self._far_end.pan = OnPan(self._far_end.pan.gross_g, "overload")
