"""Devices that fail when a scenario says so, and what comes of it.

A scenario file lists faults as data: which device, what happens, at which call. `Faults` stands in front of the
devices of any cell. Where a device can make the fault happen itself, as the emulated camera and scale can, it
does; elsewhere the named error is raised in its place.

``python -m scenarios.faults --out DIR [--cell C] [--seed N]`` provokes each fault of ``assets/faults/each.yaml`` on a
cell of its own and writes what came of it as ``faults.json``.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from cell.config import Loaded, load_cell, load_file, load_part, load_production
from cell.cycle import Bin, Cycle, Passage
from cell.interfaces import (
    DeviceError,
    DeviceTimeout,
    Frame,
    GrabFailed,
    Grasp,
    NotConnected,
    ProtocolError,
    ReflexStop,
    ScaleOverload,
    ScaleUnstable,
)
from cell.schema import CellFile, ClassEntry, FileModel
from cell.setup import Cell, Order, Setup, open_cell

_OPEN_M = 0.08

# Which call fails, and what is raised in its place.
_RAISED: dict[tuple[str, str], tuple[str, type[DeviceError], str, str, str]] = {
    ("camera", "lost"): ("capture", NotConnected, "grabbing", "it is gone", "look at its cable"),
    ("camera", "incomplete"): ("capture", GrabFailed, "grabbing", "the picture is incomplete", "look at the network"),
    ("camera", "no trigger"): ("capture", DeviceTimeout, "grabbing", "no picture came", "look at its trigger"),
    ("scale", "silent"): ("weigh", DeviceTimeout, "weighing", "it said nothing", "look at its cable"),
    ("scale", "unstable"): ("weigh", ScaleUnstable, "weighing", "it did not settle", "look for draught"),
    ("scale", "overloaded"): ("weigh", ScaleOverload, "weighing", "it is overloaded", "take the load off"),
    ("scale", "garbage"): ("weigh", ProtocolError, "weighing", "it said nonsense", "look at its settings"),
    ("scale", "wrong baud"): ("weigh", ProtocolError, "weighing", "it said nonsense", "look at its settings"),
    ("arm", "reflex"): ("follow", ReflexStop, "moving", "it stopped itself", "look at the cell and acknowledge"),
    ("arm", "connection lost"): ("follow", NotConnected, "moving", "it is gone", "look at its network"),
    ("arm", "stop pressed"): ("follow", ReflexStop, "moving", "stop was pressed", "look at the cell and acknowledge"),
}
_METHODS = {key: raised[0] for key, raised in _RAISED.items()} | {
    ("gripper", "missed"): "grasp",
    ("gripper", "part lost"): "state",
}


def _error(fault: Fault) -> DeviceError:
    _, error, doing, problem, remedy = _RAISED[fault.device, fault.kind]
    return error(fault.device, doing, problem, remedy)


class Fault(FileModel):
    """One fault."""

    device: Literal["camera", "scale", "gripper", "arm"]
    kind: str
    call: int = Field(1, ge=1, description="at which call of the method that the kind belongs to")
    times: int = Field(1, ge=1, description="how often within that call; only a driver that tries again can tell")

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if (self.device, self.kind) not in _METHODS:
            kinds = ", ".join(kind for device, kind in _METHODS if device == self.device)
            raise ValueError(f"{self.device} knows no fault {self.kind}, but {kinds}")
        return self


class Scenario(FileModel):
    """Faults that happen in one run."""

    faults: tuple[Fault, ...]


class FaultsConfig(FileModel):
    """Which scenario."""

    scenario: str | Scenario = Field(description="a name under assets/faults, a path, or the scenario itself")


class Faults:
    """Stands in front of the devices of a cell; see `cell.setup.Wrapper`."""

    Config = FaultsConfig

    def __init__(self, config: FaultsConfig, setup: Setup) -> None:
        named = config.scenario
        self._scenario = load_file("faults", named, Scenario).content if isinstance(named, str) else named

    def around(self, name: str, device: Any) -> Any:
        """Return a device that fails as the scenario says, or the device itself where it never does."""
        faults = [fault for fault in self._scenario.faults if fault.device == name]
        if not faults:
            return device
        return _FaultyArm(device, faults) if name == "arm" else _FaultyDevice(device, faults)


class _FaultyDevice:
    """Hands every call on, but for those that shall fail."""

    def __init__(self, device: Any, faults: Iterable[Fault]) -> None:
        self._device = device
        self._faults = tuple(faults)
        self._calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._device, name)
        if name not in {_METHODS[fault.device, fault.kind] for fault in self._faults}:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls[name] += 1
            return self._called(name, self._calls[name], lambda: found(*args, **kwargs))

        return call

    def _called(self, name: str, number: int, call: Callable[[], Any]) -> Any:
        provoke = getattr(self._device, "provoke", None)
        for fault in self._faults:
            if _METHODS[fault.device, fault.kind] != name:
                continue
            if provoke is not None:
                # It happens to the device itself, as often as it shall, and the driver makes of it what it can.
                if number == fault.call and all([provoke(fault.kind) for _ in range(fault.times)]):
                    return call()
            elif number == fault.call:
                return self._fail(fault, call)
        return call()

    def _fail(self, fault: Fault, call: Callable[[], Any]) -> Any:
        if fault.kind == "missed":
            # The fingers stay open.
            return Grasp(False, _OPEN_M)
        if fault.kind == "part lost":
            self._device.release()
            return call()
        raise _error(fault)


class _FaultyArm(_FaultyDevice):
    """After a fault it stays where it is until somebody acknowledged."""

    _stopped_by: DeviceError | None = None

    def recover(self, *, acknowledged_by: str) -> None:
        self._device.recover(acknowledged_by=acknowledged_by)
        self._stopped_by = None

    def state(self) -> Any:
        state = self._device.state()
        return state if self._stopped_by is None else replace(state, fault=self._stopped_by.problem)

    def _called(self, name: str, number: int, call: Callable[[], Any]) -> Any:
        if self._stopped_by is not None:
            raise self._stopped_by
        return super()._called(name, number, call)

    def _fail(self, fault: Fault, call: Callable[[], Any]) -> Any:
        self._device.stop()
        self._stopped_by = _error(fault)
        raise self._stopped_by


def with_faults(cell: Loaded[CellFile], *faults: Fault) -> Loaded[CellFile]:
    """Return the same cell, but for these faults; a model that fits the one fits the other."""
    entry = {"class": "scenarios.faults:Faults", "scenario": Scenario(faults=faults).model_dump()}
    content = cell.content.model_copy(update={"faults": ClassEntry.model_validate(entry), "copies": 1})
    return replace(cell, content=content)


@dataclass(frozen=True)
class Outcome:
    """What came of a fault.

    Attributes
    ----------
    errors : tuple of str
        What the part's inspection ended with or noted.
    stopped : bool
        Whether the line stopped until somebody acknowledged.
    bin : str or None
        Where the part was let go; None when it did not come to a bin.
    retries : int
        Pictures that were taken again.
    next_bin, next_errors
        The same of the part after it.
    """

    errors: tuple[str, ...]
    stopped: bool
    bin: Bin | None
    retries: int
    next_bin: Bin | None
    next_errors: tuple[str, ...]


def provoke(order: Order, fault: Fault) -> Outcome:
    """Let a fault happen to the first of two parts and say what came of it.

    No model is needed: a part goes to ``ok`` when nothing went wrong with its inspection.
    """
    frames: list[Frame] = []

    def choose(passage: Passage) -> Bin:
        whole = not passage.faults and passage.weighing is not None and passage.weighing.stable
        return "ok" if whole else "recheck"

    def inspect(cell: Cell, cycle: Cycle) -> tuple[tuple[str, ...], Bin]:
        passage, target, _ = cycle.run(
            cell.source.next(), on_frame=lambda view, frame, mask: frames.append(frame), choose_bin=choose
        )
        return passage.faults, target

    faulty = replace(order, cell=with_faults(order.cell, fault), numbers=range(2))
    with open_cell(faulty) as cell:
        cycle = Cycle(cell)
        cycle.prepare()
        stopped, target = False, None
        try:
            errors, target = inspect(cell, cycle)
        except DeviceError as error:
            errors, stopped = (str(error),), True
        retries = sum(frame.retries for frame in frames)
        if stopped:
            cell.arm.recover(acknowledged_by="the scenario")
            cycle.prepare(clear=lambda found: "the scenario")
        next_errors, next_bin = inspect(cell, cycle)
    return Outcome(errors, stopped, target, retries, next_bin, next_errors)


def main() -> None:
    """Provoke every fault on a cell and write what came of it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cell", default="twin")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    order = Order(load_cell(options.cell), load_part("ring"), load_production("good"), range(2), options.seed)
    rows = []
    for fault in load_file("faults", "each", Scenario).content.faults:
        outcome = provoke(order, fault)
        rows.append(fault.model_dump() | asdict(outcome))
        end = f"stopped, bin {outcome.bin}" if outcome.stopped else f"bin {outcome.bin}"
        print(f"{fault.device} {fault.kind}: {end}; next part {outcome.next_bin}; {'; '.join(outcome.errors)}")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "faults.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
