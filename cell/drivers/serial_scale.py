"""Scales on a serial line."""

from __future__ import annotations

import termios
import time
from types import TracebackType
from typing import Literal, Self

import serial
from pydantic import Field, model_validator

from cell.drivers.dialect import Line, NamedDialect
from cell.interfaces import DeviceTimeout, NotConnected, ProtocolError, ScaleOverload, ScaleUnstable, Weighing
from cell.schema import FileModel
from cell.setup import Setup

# No record is as long; what is, has no terminator and is no record.
_LONGEST = 64
# At 300 baud a record takes 0.75 s.
_ANSWER_S = 1.0
_PAUSE_S = 0.05


class SerialScaleConfig(FileModel):
    """Where a scale is connected, and how it speaks."""

    port: str = Field(description="e.g. /dev/serial/by-id/usb-..., which stays the same when it is plugged in again")
    dialect: NamedDialect = Field(description="a name under assets/dialects, a path, or the dialect itself")
    line: Line | None = Field(None, description="where the scale is set otherwise than its dialect says")
    mode: Literal["request", "continuous"] = Field("request", description="asked for each record, or sending them all")
    timeout_s: float = Field(5.0, gt=0, le=60, description="until the reading must be stable")
    zero_g: float = Field(0.01, gt=0, description="how far from 0 the tared scale may stand")

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.mode == "request" and self.dialect.request is None:
            raise ValueError(f"mode: {self.dialect.title} knows no request; set the scale to send continuously")
        return self


class SerialScale:
    """A scale on a serial line; see `cell.interfaces.Scale`.

    Notes
    -----
    Records that came before a call are never used. A port that vanished is opened again by the next call.
    """

    Config = SerialScaleConfig

    def __init__(self, config: SerialScaleConfig, setup: Setup) -> None:
        self._config = config
        self._now = setup.now
        self._port: serial.Serial | None = None
        self._zero_g = 0.0

    def __enter__(self) -> Self:
        self._connected("connecting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def tare(self) -> None:
        """Take what lies on it as zero, by the scale's own command or, where it has none, by subtraction."""
        command, doing = self._config.dialect.tare, "taring"
        deadline = time.monotonic() + self._config.timeout_s
        if command is None:
            self._zero_g = self._stable_g(doing)
            return
        try:
            self._connected(doing).write(command.encode("ascii"))
        except (OSError, termios.error) as error:
            raise self._vanished(doing, error) from error
        # The command is answered in many ways, or not at all; that it worked is seen on the reading.
        while abs(mass_g := self._stable_g(doing)) > self._config.zero_g:
            if time.monotonic() > deadline:
                raise ScaleUnstable("scale", doing, f"it still stands at {mass_g} g", "look for draught or touch")
            time.sleep(_PAUSE_S)

    def weigh(self) -> Weighing:
        """Wait for a stable reading and return it.

        Raises
        ------
        ScaleUnstable, ScaleOverload
        DeviceTimeout
            It said nothing.
        ProtocolError
            It said something else than its dialect knows, or reported an error.
        NotConnected
            The port is gone.
        """
        mass_g = self._stable_g("weighing")
        return Weighing(round(mass_g - self._zero_g, 6), True, self._now())

    def record(self, seconds: float) -> bytes:
        """Return all that the scale sends in so many seconds, unread."""
        port, deadline = self._connected("recording"), time.monotonic() + seconds
        heard = bytearray()
        try:
            while (left := deadline - time.monotonic()) > 0:
                port.timeout = min(left, _ANSWER_S)
                heard += port.read(max(1, port.in_waiting))
        except (OSError, termios.error) as error:
            raise self._vanished("recording", error) from error
        return bytes(heard)

    def _stable_g(self, doing: str) -> float:
        port = self._connected(doing)
        try:
            return self._listen(port, doing)
        except (OSError, termios.error) as error:
            raise self._vanished(doing, error) from error

    def _listen(self, port: serial.Serial, doing: str) -> float:
        """Return the mass of the first stable record."""
        dialect, asking = self._config.dialect, self._config.mode == "request"
        end = dialect.terminator.encode("ascii")
        deadline = time.monotonic() + self._config.timeout_s
        port.timeout = _ANSWER_S
        port.reset_input_buffer()
        if not asking:
            # This record began before the buffer was emptied.
            port.read_until(end, _LONGEST)
        unstable, garbage, must_ask = False, b"", asking
        while time.monotonic() < deadline:
            if must_ask:
                port.write((dialect.request or "").encode("ascii"))
            record = port.read_until(end, _LONGEST)
            reading = dialect.read(record)
            must_ask = asking and (reading is None or reading.state != "ignored")
            if reading is None:
                garbage = record or garbage
            elif reading.mass_g is not None:
                return reading.mass_g
            elif reading.state == "overload":
                raise ScaleOverload("scale", doing, f"it is overloaded ({reading.said})", "take the load off")
            elif reading.state == "error":
                raise ProtocolError("scale", doing, f"it reports an error: {reading.said}", "look at its display")
            elif reading.state == "unstable":
                unstable = True
                if asking:
                    time.sleep(_PAUSE_S)
        waited = f"{self._config.timeout_s:.0f} s"
        if unstable:
            raise ScaleUnstable("scale", doing, f"the reading did not settle in {waited}", "look for draught or touch")
        if garbage:
            raise ProtocolError(
                "scale",
                doing,
                f"it said {garbage!r}, which is no {dialect.title}",
                f"compare its menu with the cell file: dialect, and {self.line.baud_rate} baud",
            )
        raise DeviceTimeout(
            "scale",
            doing,
            f"it said nothing in {waited}",
            "look at power, cable, baud rate and interface mode",
        )

    @property
    def line(self) -> Line:
        """Settings of the line."""
        return self._config.line or self._config.dialect.line

    def _connected(self, doing: str) -> serial.Serial:
        if self._port is None:
            line = self.line
            try:
                self._port = serial.Serial(
                    self._config.port,
                    line.baud_rate,
                    bytesize=line.data_bits,
                    parity=line.parity[0].upper(),
                    stopbits=line.stop_bits,
                    write_timeout=_ANSWER_S,
                    exclusive=True,
                )
            except (OSError, ValueError, termios.error) as error:
                raise NotConnected(
                    "scale",
                    doing,
                    f"{self._config.port} cannot be opened: {error}",
                    "look at its cable, at the port in the cell file, and whether another program uses it",
                ) from error
        return self._port

    def _vanished(self, doing: str, error: Exception) -> NotConnected:
        self._close()
        return NotConnected("scale", doing, f"{self._config.port} is gone ({error})", "look at its cable and power")

    def _close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.close()
