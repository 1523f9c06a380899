"""A world in a process of its own, whose arm and hand speak the robot's wire protocol."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.interfaces import ConfigError, NotConnected
from cell.setup import Setup
from twin.device import LoadCell
from twin.snapshot import PartBody, Snapshot
from twin.wire.mishaps import Mishaps
from twin.wire.server import Server, Serving
from twin.world import WorldConfig

_LOOK_S = 0.002
_ALIVE_CHECK_S = 0.5
_LEAVING_S = 5.0


class WiredWorldConfig(WorldConfig):
    """How the world is simulated and where its robot listens."""

    host: str | None = Field(None, description="loopback address of robot and hand; default: one of this process's own")
    pace: float = Field(1.0, gt=0, le=10, description="its time over wall time, as far as the computer keeps up")


class WiredWorld:
    """A world whose time goes on by itself; see `twin.device.SharedWorld`.

    Arm and hand are at `host`, for the robot's own client. Pictures are drawn from snapshots in the process that asks
    for them, so that the stream of states never waits for one.

    Raises
    ------
    ConfigError
        There is no C compiler for the robot's model library, or nobody can listen at the address.
    """

    Config = WiredWorldConfig

    def __init__(self, config: WiredWorldConfig, setup: Setup) -> None:
        self._config = config
        self._setup = setup
        self.pan_m = config.pan_m
        self.part: PartBody | None = None
        self.host = config.host or _own_address()

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._turn = threading.Lock()
        self._time = context.Value("d", 0.0, lock=False)
        self._pipe, far_end = context.Pipe()
        serving = Serving(self.host, self._config.pace)
        self._process = context.Process(
            target=_serve, args=(self._config, self._setup, serving, far_end, self._time), daemon=True
        )
        self._process.start()
        far_end.close()
        try:
            self._answer("starting")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.join(_LEAVING_S)
        self._process.kill()
        self._process.join()

    @property
    def time_s(self) -> float:
        """The robot's time, seconds."""
        return float(self._time.value)

    def wait(self, seconds: float) -> None:
        """Return when so much of the robot's time has passed."""
        until = self.time_s + seconds
        checked = time.monotonic()
        while (left := until - self.time_s) > 0:
            time.sleep(min(left / self._config.pace, _LOOK_S))
            if time.monotonic() - checked > _ALIVE_CHECK_S:
                self._require_alive("waiting")
                checked = time.monotonic()

    def add_computing(self, wall_s: float) -> None:
        """Do nothing: this world's time has gone on meanwhile."""

    def present(self, part: PartBody, offset_m: NDArray[np.float64], yaw_rad: float) -> None:
        """Take the last part away and lay a new one at the feeder."""
        self._ask("present", part, offset_m, yaw_rad)
        self.part = part

    def take_out(self) -> None:
        """Take the part away, wherever it is."""
        self._ask("take_out")
        self.part = None

    def snapshot(self) -> Snapshot:
        """Freeze what a picture depends on."""
        seen: Snapshot = self._ask("snapshot")
        return replace(seen, part=self.part)

    def mount(self, load_cell: LoadCell) -> None:
        """Put a scale under the pan."""
        self._ask("mount", load_cell)

    def reading_g(self) -> float:
        """Return what the scale shows, grams."""
        return float(self._ask("reading_g"))

    def provoke(self, mishap: str) -> None:
        """Let something happen to arm or hand; see `twin.wire.mishaps.Mishaps`."""
        self._ask("provoke", mishap)

    def _ask(self, what: str, *arguments: Any) -> Any:
        with self._turn:
            try:
                self._pipe.send((what, arguments))
            except OSError:
                self._require_alive(what)
                raise
            return self._answer(what)

    def _answer(self, doing: str) -> Any:
        try:
            while not self._pipe.poll(_ALIVE_CHECK_S):
                self._require_alive(doing)
            result, error = self._pipe.recv()
        except (EOFError, OSError):
            raise self._gone(doing) from None
        if error is not None:
            raise error
        return result

    def _require_alive(self, doing: str) -> None:
        if not self._process.is_alive():
            raise self._gone(doing)

    def _gone(self, doing: str) -> NotConnected:
        self._process.join(_LEAVING_S)
        code = self._process.exitcode
        return NotConnected("world", doing, f"its process ended (exit code {code})", "look at what it printed")


def _own_address() -> str:
    """Return a loopback address that no other process takes by itself."""
    high, low = divmod(os.getpid() % 2**22, 2**8)
    return f"127.{64 + high // 2**8}.{high % 2**8}.{low}"


def _serve(config: WiredWorldConfig, setup: Setup, serving: Serving, pipe: Connection, clock: Any) -> None:
    """Serve robot and hand until nobody asks any more."""
    # These reach the whole group, and the line still needs its robot to stop. The world ends when the pipe does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with ExitStack() as stack:
        try:
            server = stack.enter_context(Server(setup, serving, config))
        except ConfigError as error:
            pipe.send((None, error))
            return
        stack.enter_context(suppress(EOFError, BrokenPipeError))
        mishaps = Mishaps(server)
        world = server.world
        asked: dict[str, Callable[..., Any]] = {
            "present": world.present,
            "take_out": world.take_out,
            "snapshot": lambda: replace(world.snapshot(), part=None),
            "mount": world.mount,
            "reading_g": world.reading_g,
            "provoke": mishaps.provoke,
        }
        pipe.send((None, None))
        while True:
            server.step()
            mishaps.step()
            clock.value = world.time_s
            if pipe.poll():
                what, arguments = pipe.recv()
                try:
                    answer: tuple[Any, Exception | None] = asked[what](*arguments), None
                except Exception as error:
                    answer = None, error
                pipe.send(answer)
