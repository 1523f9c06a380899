"""The loop that serves robot and hand before one world, a millisecond at a time."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from cell.interfaces import ConfigError
from cell.setup import Setup
from twin.wire.gripper import Hand
from twin.wire.model import Model, library_file
from twin.wire.plant import STEP_S, Plant, ServedWorld
from twin.wire.robot import Robot
from twin.world import WorldConfig

# What is late by more is not caught up with.
_LATE_S = 0.02


@dataclass(frozen=True)
class Serving:
    """How the world is served.

    Attributes
    ----------
    host : str
        Address to listen on; a second robot takes another, as 127.0.0.2.
    pace : float
        The robot's time over wall time. A motion never runs faster than its client answers.
    deadline_s : float
        How long a state waits for the client's command before it counts as lost.
    """

    host: str = "127.0.0.1"
    pace: float = 1.0
    deadline_s: float = 0.02


class Server:
    """Serves a world; a context manager.

    Attributes
    ----------
    serving : Serving
    """

    def __init__(self, setup: Setup, serving: Serving, config: WorldConfig | None = None) -> None:
        self._setup = setup
        self.serving = serving
        self._config = (config or WorldConfig()).model_copy(update={"contact_step_s": STEP_S})

    def __enter__(self) -> Self:
        library = library_file()
        with ExitStack() as stack:
            self.world = stack.enter_context(ServedWorld(self._config, self._setup))
            self.plant = Plant(self.world, Model(library))
            host = self.serving.host
            try:
                self.robot = stack.enter_context(Robot(host, self.plant, library, deadline_s=self.serving.deadline_s))
                self.hand = stack.enter_context(Hand(host, self.world))
            except OSError as error:
                raise ConfigError(
                    f"{host}: ports 1337 and 1338 cannot be listened on ({error}); "
                    "end the other server, or take another address, as 127.0.0.2"
                ) from error
            self._stack = stack.pop_all()
        self._message_id = 0
        self._due = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def time_ms(self) -> int:
        """The robot's time."""
        return self._message_id

    def step(self) -> None:
        """Serve for one millisecond of the robot's time."""
        self.robot.poll()
        self.hand.poll()
        if self.robot.moving:
            self.robot.listen()
        self.plant.step()
        self.robot.watch()
        self.hand.watch()
        self._message_id += 1
        self.robot.publish(self._message_id)
        self.hand.publish(self._message_id)
        self._wait()

    def _wait(self) -> None:
        """Sleep until the next state is due."""
        self._due += STEP_S / self.serving.pace
        left = self._due - time.perf_counter()
        if left > 0:
            time.sleep(left)
        elif left < -_LATE_S:
            self._due = time.perf_counter()
