"""What may happen to a robot and its hand."""

from __future__ import annotations

import numpy as np

from twin.wire.server import Server

# How long after its start a motion is interrupted.
_INTO_MOTION = 150
# Somebody runs into the hand.
_PUSH_N = np.array([0.0, 150.0, 0.0])
_PUSH_MS = 60


class Mishaps:
    """Lets them happen, each once, when it was asked for.

    Parameters
    ----------
    server : Server
        Whose robot it happens to.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._waiting: str | None = None
        self._push_ms = 0

    def provoke(self, mishap: str) -> None:
        """Let something happen.

        Parameters
        ----------
        mishap : str
            In the next motion: ``reflex`` (somebody runs into the hand), ``connection lost`` (the cable is pulled),
            ``stop pressed``. At once: ``part lost`` (it slips out of the fingers), ``missed`` (it is not where the hand
            looks for it), ``stop released``.
        """
        if mishap == "part lost":
            self._server.hand.lose()
        elif mishap == "missed":
            self._server.world.take_out()
        elif mishap == "stop released":
            self._server.robot.release_stop()
        else:
            self._waiting = mishap

    def step(self) -> None:
        """Look whether the time has come."""
        robot = self._server.robot
        if self._push_ms > 0:
            self._push_ms -= 1
            self._server.world.push_hand(_PUSH_N)
        if self._waiting is None or not robot.moving or robot.states < _INTO_MOTION:
            return
        mishap, self._waiting = self._waiting, None
        if mishap == "reflex":
            self._push_ms = _PUSH_MS
        elif mishap == "connection lost":
            robot.drop_client()
        elif mishap == "stop pressed":
            robot.press_stop()
