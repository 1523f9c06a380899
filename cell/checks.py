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
from cell.setup import Devices, Order
from cell.start import hand_is_empty, scale_is_empty

_SLOW = 0.1
_TURN_RAD = 0.02
_TURN_TOLERANCE_RAD = 0.002


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
