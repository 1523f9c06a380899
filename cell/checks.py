"""Small and safe actions that show whether each device of a cell works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cell.interfaces import CellError, DeviceError
from cell.motion.trajectory import point_to_point
from cell.schema import MassLimits
from cell.setup import Devices, Order

_SLOW = 0.1
_TURN_RAD = 0.02
_TURN_TOLERANCE_RAD = 0.002
# Closed fingers of an empty hand; the thinnest part to be told from nothing.
_EMPTY_HAND_M = 0.002
_EMPTY_SCALE_SHARE = 0.1
_GRASP_FORCE_N = 10.0


@dataclass(frozen=True)
class Step:
    """One action: what was done with which device, whether it went well, and what was seen or went wrong."""

    device: str
    action: str
    ok: bool
    seconds: float
    said: str


def check_cell(order: Order) -> Iterator[Step]:
    """Connect each device of a cell and try it; a device that fails does not keep the others from being tried.

    Parameters
    ----------
    order : Order
        One part is presented at the feeder and left there.
    """
    with Devices(order) as devices:
        connected: dict[str, Any] = {}
        wanted = [name for name in _ACTIONS if name != "world" or order.cell.content.world is not None]
        for name in wanted:
            connect = _attempt(name, "connect", partial(_connect, devices, name, connected))
            yield connect
            if not connect.ok:
                continue
            for action, run in _ACTIONS[name]:
                step = _attempt(name, action, partial(run, connected[name], order))
                yield step
                if not step.ok:
                    break


def _connect(devices: Devices, name: str, connected: dict[str, Any]) -> None:
    connected[name] = devices.connect(name)


def hand_is_empty(gripper: Any) -> str:
    """Close the fingers on nothing, open them again, and return how wide they stood.

    Raises
    ------
    DeviceError
        There is something between the fingers; they stay as they are.
    """
    grasp = gripper.state()
    if not grasp.held:
        grasp = gripper.grasp(_EMPTY_HAND_M, _GRASP_FORCE_N)
    if grasp.held or grasp.width_m > _EMPTY_HAND_M:
        raise DeviceError(
            "gripper",
            "proving that the hand is empty",
            f"something {grasp.width_m * 1000:.1f} mm wide is between the fingers",
            "take it out by hand",
        )
    gripper.release()
    return f"closed to {grasp.width_m * 1000:.1f} mm"


def scale_is_empty(scale: Any, limits: MassLimits) -> str:
    """Return what the scale shows before anybody tared it.

    Raises
    ------
    DeviceError
        Something as heavy as a good share of a part lies on it.
    """
    mass_g = scale.weigh().mass_g
    if abs(mass_g) > _EMPTY_SCALE_SHARE * limits.nominal_g:
        raise DeviceError(
            "scale",
            "proving that the scale is empty",
            f"{mass_g:.3f} g are on it before it was tared",
            "look what lies on it, and take it off",
        )
    return f"{mass_g:.3f} g before taring"


def _attempt(device: str, action: str, run: Callable[[], Any]) -> Step:
    start = time.perf_counter()
    try:
        said = run()
    except CellError as error:
        return Step(device, action, False, time.perf_counter() - start, str(error))
    return Step(device, action, True, time.perf_counter() - start, said or "")


def _tick(clock: Any, order: Order) -> str:
    before = clock.now()
    clock.sleep(0.1)
    return f"{clock.now() - before:.3f} s for 0.1 s"


def _arm_state(arm: Any, order: Order) -> str:
    state = arm.state()
    if state.fault:
        raise DeviceError("arm", "reading its state", state.fault, "look at the cell and acknowledge")
    return "joints " + ", ".join(f"{angle:.3f}" for angle in state.positions_rad) + " rad"


def _turn_wrist(arm: Any, order: Order) -> str:
    """Turn the last joint a little and back, slowly: nothing else moves."""
    start = arm.state().positions_rad
    limited = -np.sign(start[-1]) or 1.0
    there = start + np.array([0, 0, 0, 0, 0, 0, limited * _TURN_RAD])
    arm.follow(point_to_point(start, there, goal="a little turned", speed=_SLOW))
    reached = arm.state().positions_rad
    arm.follow(point_to_point(reached, start, goal="back", speed=_SLOW))
    off = float(np.abs(reached - there).max())
    if off > _TURN_TOLERANCE_RAD:
        raise DeviceError("arm", "turning its wrist", f"it ended {off:.4f} rad off", "look at its load and settings")
    return f"reached within {off:.4f} rad"


def _take_picture(camera: Any, order: Order) -> str:
    frame = camera.capture()
    height, width = frame.image.shape[:2]
    retried = f", {frame.retries} taken again" if frame.retries else ""
    return f"{width}×{height} from {frame.serial}, mean {frame.image.mean():.0f} of 255{retried}"


def _tare(scale: Any, order: Order) -> str:
    scale.tare()
    return f"{scale.weigh().mass_g:.3f} g after taring"


def _present(source: Any, order: Order) -> str:
    return f"part {source.next().part_id} is at the feeder"


# By device, in the order in which they are tried: the camera comes last, when a part is there to be seen.
_ACTIONS: dict[str, tuple[tuple[str, Callable[[Any, Order], str]], ...]] = {
    "world": (),
    "clock": (("let 0.1 s pass", _tick),),
    "arm": (("read its state", _arm_state), ("turn the wrist by 0.02 rad and back", _turn_wrist)),
    "gripper": (("prove that the hand is empty", lambda gripper, order: hand_is_empty(gripper)),),
    "scale": (
        ("prove that it is empty", lambda scale, order: scale_is_empty(scale, order.part.content.mass)),
        ("tare", _tare),
    ),
    "source": (("present a part", _present),),
    "camera": (("take a picture", _take_picture),),
}
