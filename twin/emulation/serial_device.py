"""The far end of a serial line: a scale that answers on a pseudo-terminal."""

from __future__ import annotations

import os
import select
import tempfile
import termios
import threading
import tty
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from twin.emulation.languages import Condition, Language

# How often a scale that is not asked sends its reading.
_PERIOD_S = 0.02
_RATES = {
    getattr(termios, f"B{rate}"): rate for rate in (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
}


@dataclass(frozen=True)
class OnPan:
    """What the scale would show without any tare."""

    gross_g: float = 0.0
    condition: Condition = "stable"


def heard_at(data: bytes, *, sent_baud: int, heard_baud: int) -> bytes:
    """Return what a receiver makes of bytes that were sent at another rate.

    A byte travels as a start bit (0), eight bits from the lowest on, and a stop bit (1). The receiver waits for a
    falling edge and samples the middle of each bit by its own clock.
    """
    levels = [bit for byte in data for bit in (0, *((byte >> place) & 1 for place in range(8)), 1)]

    def level(time_s: float) -> int:
        place = int(time_s * sent_baud)
        return levels[place] if place < len(levels) else 1

    heard, place = bytearray(), 0
    while place < len(levels):
        if levels[place] == 1 or (place and levels[place - 1] == 0):
            place += 1
            continue
        start_s = place / sent_baud
        samples = [level(start_s + (bit + 1.5) / heard_baud) for bit in range(9)]
        heard.append(sum(bit << position for position, bit in enumerate(samples[:8])))
        place = max(place + 1, int((start_s + 9.5 / heard_baud) * sent_baud + 1e-9))
    return bytes(heard)


class SpeakingScale:
    """A scale's electronics on a pseudo-terminal; a context manager.

    Parameters
    ----------
    language : Language
    continuous : bool
        Whether it sends its readings unasked.

    Notes
    -----
    `pan` is what lies on it, for others to set. `baud_rate` is the rate it is set to: what reaches a port that is
    set otherwise is garbled as on a wire. `silent` makes it answer nothing, `noise` replaces what it says, and
    `deaf_to_tare` leaves its zero where it is.
    """

    def __init__(self, language: Language, *, continuous: bool = False) -> None:
        self._language = language
        self._continuous = continuous
        self._zero_g = 0.0
        self.pan = OnPan()
        self.baud_rate = language.line_baud
        self.silent = False
        self.deaf_to_tare = False
        self.noise: bytes | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="scale-")
        self.port = str(Path(self._folder.name) / "port")
        self.plug_in()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()
        self._folder.cleanup()

    def plug_in(self) -> None:
        """Connect; the port keeps its name, as under /dev/serial/by-id."""
        self._line, self._port = os.openpty()
        tty.setraw(self._port)
        os.set_blocking(self._line, False)
        Path(self.port).symlink_to(os.ttyname(self._port))
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """Vanish, as a USB adapter does whose cable is pulled."""
        if self._leaving.is_set():
            return
        self._leaving.set()
        self._thread.join()
        Path(self.port).unlink()
        os.close(self._port)
        os.close(self._line)

    def send(self, words: bytes) -> None:
        """Put these bytes on the line, unasked; what a full receiver cannot take is lost, as on a wire."""
        with suppress(BlockingIOError):
            os.write(self._line, words)

    def _serve(self) -> None:
        heard = b""
        while not self._leaving.is_set():
            if select.select([self._line], [], [], _PERIOD_S)[0]:
                heard = self._obey(heard + self._garbled(os.read(self._line, 256), from_port=True))
            elif self._continuous:
                self._say(self._record())

    def _obey(self, heard: bytes) -> bytes:
        """Answer the commands in `heard` and return what is left of it."""
        language = self._language
        while heard:
            for command in (*language.requests, language.tare):
                if heard.startswith(command):
                    heard = heard.removeprefix(command)
                    if command == language.tare:
                        self._zero_g = self._zero_g if self.deaf_to_tare else self.pan.gross_g
                        self._say(language.tared)
                    else:
                        self._say(self._record())
                    break
                if command.startswith(heard):
                    return heard
            else:
                heard = heard[1:]
        return heard

    def _record(self) -> bytes:
        return self._language.say(self.pan.gross_g - self._zero_g, self.pan.condition)

    def _say(self, words: bytes) -> None:
        if not self.silent and words:
            self.send(self._garbled(words if self.noise is None else self.noise, from_port=False))

    def _garbled(self, data: bytes, *, from_port: bool) -> bytes:
        port_baud = _RATES[termios.tcgetattr(self._port)[5]]
        if port_baud == self.baud_rate:
            return data
        sent, heard = (port_baud, self.baud_rate) if from_port else (self.baud_rate, port_baud)
        return heard_at(data, sent_baud=sent, heard_baud=heard)
