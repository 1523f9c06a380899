"""What arm and hand of a Panda have in common: Desk, connecting, and what the client library's errors mean."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import panda_py
from panda_py import libfranka

from cell.interfaces import ConfigError, DeviceError, DeviceTimeout, NotConnected, ProtocolError, ReflexStop

USER, PASSWORD = "TWINSPECT_DESK_USER", "TWINSPECT_DESK_PASSWORD"
_FR3 = (
    "it does not speak robot protocol 5: it is an FR3, or its firmware is older than 4.2.1 or newer than this build of "
    "panda-python knows"
)
_ResultT = TypeVar("_ResultT")


def prepare_with_desk(host: str) -> None:
    """Unlock the brakes and activate FCI through Desk, with the credentials that stand in the environment.

    Raises
    ------
    ConfigError
        They are not there.
    DeviceError
        Desk refused.
    """
    user, password = os.environ.get(USER), os.environ.get(PASSWORD)
    if not user or not password:
        raise ConfigError(f"arm.desk: set {USER} and {PASSWORD} in the environment, or unlock the robot in Desk")
    try:
        desk = panda_py.Desk(host, user, password)
        desk.unlock()
        desk.activate_fci()
    except Exception as error:  # Desk raises whatever its HTTP library does
        raise DeviceError(
            "arm", "unlocking", f"Desk at {host} refused: {error}", "open Desk and look who is in control"
        ) from error


def connected(host: str, device: str, make: Callable[[], _ResultT]) -> _ResultT:
    """Return what `make` connects. Raises `NotConnected` with what to do next."""
    try:
        return make()
    except libfranka_errors() as error:
        problem, remedy = str(error), "look at power, network and the address in the cell file"
        if isinstance(error, panda_py.IncompatibleVersionError) or "ncompatible" in problem:
            problem, remedy = _FR3, "install the build of panda-python that fits the robot"
        elif "realtime" in problem or "real-time" in problem or "scheduling" in problem:
            remedy = "boot a PREEMPT_RT kernel and allow this user real-time priorities, or set realtime: ignore"
        elif "refused" in problem:
            remedy = "activate FCI in Desk, or end the program that holds the connection"
        raise NotConnected(device, "connecting", f"{host}: {problem}", remedy) from error


def libfranka_errors() -> tuple[type[Exception], ...]:
    """Return what panda-py raises; all of libfranka's own exceptions arrive as RuntimeError."""
    return (RuntimeError, panda_py.IncompatibleVersionError)


def meaning(device: str, doing: str, error: Exception) -> DeviceError:
    """Return the cell's error for one of the client library's."""
    said = str(error).removeprefix("libfranka: ")
    if "communication_constraints_violation" in said:
        remedy = "look at the load of this computer and at the network, then acknowledge"
        return ReflexStop(device, doing, f"commands came too late ({said})", remedy)
    if "user stop" in said.lower() or "emergency" in said.lower():
        return ReflexStop(device, doing, f"stop was pressed ({said})", "look at the cell, release it, and acknowledge")
    if "reflex" in said or "preempted" in said:
        return ReflexStop(device, doing, f"it stopped itself ({said})", "look at the cell and acknowledge")
    if any(word in said for word in ("UDP", "TCP", "onnection", "socket")):
        return NotConnected(device, doing, f"it is gone ({said})", "look at its cable, power and network")
    return ProtocolError(device, doing, said, "look at Desk")


def within(seconds: float, device: str, doing: str, call: Callable[[], _ResultT]) -> _ResultT:
    """Return what `call` does, in a thread of its own: libfranka waits for some answers without any limit.

    Raises
    ------
    DeviceTimeout
        It did not come back; the thread is left to wait.
    """
    result: list[_ResultT] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            result.append(call())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise DeviceTimeout(device, doing, f"it did not answer in {seconds:.0f} s", "look at its network and at Desk")
    if failed:
        raise failed[0]
    return result[0]


def never_destroy(client: Any) -> None:
    """Keep a client whose robot is gone for ever: its destructor would read a state and end the process."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))


def realtime(enforced: bool) -> Any:
    """Return libfranka's word for it."""
    return libfranka.RealtimeConfig.kEnforce if enforced else libfranka.RealtimeConfig.kIgnore
