"""A cell whose pictures are made beforehand: the real cycle, records and judging, without physics and network."""

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np

from cell.config import load_cell, load_part
from cell.cycle import Cycle
from cell.inspection import inspect_part
from cell.interfaces import ArmState, Frame, Grasp, Intrinsics, PartTicket, Weighing
from cell.motion.stored import planned_round
from cell.records.address import Address
from cell.records.database import Database
from cell.records.line import LineRecords
from cell.records.run import Run
from cell.setup import Cell
from detection.decisions import part_statistic
from detection.description import Decision

RUN = Run("cell.yaml", "model", '{"kind":"prerendered"}', '{"part":1}', "{}", '{"model":1}', '{"camera":1}', "{}")
SHAPE = (48, 64)

PART = load_part("ring").content
PART = PART.model_copy(update={"views": PART.views[:2]})
FOLDER = load_part("ring").path.parent
FILE = load_cell("twin").content
ROUND = planned_round(FILE, PART, FOLDER)

Tick = Callable[[str], None]
"""Told what the line does next."""


def address_in(folder: Path) -> str:
    return f"sqlite:///{folder}/records.sqlite"


def make_records(folder: Path) -> str:
    """Make an empty database."""
    with Database(Address.parse(address_in(folder)), create=True):
        return address_in(folder)


class Prerendered:
    """All devices of the cell in one: part `n` shows pictures drawn from seed `n`, and every third is too light."""

    def __init__(self, numbers: Iterator[int], tick: Tick) -> None:
        self._numbers = numbers
        self._tick = tick
        self._joints = np.array(FILE.motion.home_rad)
        self._grasp = Grasp(False, 0.08)
        self._goal = "home"
        self._time = 0.0
        self.number = -1
        self.taken = 0
        self.serial = "prerendered-1"
        self.exposure_us = 8000.0
        self.intrinsics = Intrinsics(100.0, 100.0, SHAPE[1] / 2, SHAPE[0] / 2, SHAPE[1], SHAPE[0])

    def now(self) -> float:
        return self._time

    def sleep(self, seconds: float) -> None:
        self._time += seconds

    def computed(self, wall_s: float) -> None:
        pass

    def next(self) -> PartTicket:
        self.number, self.taken = next(self._numbers), 0
        self._tick("next")
        return ticket(self.number)

    def follow(self, trajectory: Any) -> None:
        self._tick(f"to {trajectory.goal}")
        self._joints, self._goal = trajectory.positions_rad[-1], trajectory.goal

    def grasp(self, width_m: float, force_n: float) -> Grasp:
        self._tick("grasp")
        self._grasp = Grasp(True, width_m) if self.number >= 0 else Grasp(False, 0.0)
        return self._grasp

    def release(self) -> None:
        self._tick(f"release at {self._goal}")
        self._grasp = Grasp(False, 0.08)

    def tare(self) -> None:
        pass

    def weigh(self) -> Weighing:
        self._tick("weigh")
        return Weighing(mass(self.number) if self.number >= 0 else 0.0, True, self._time)

    def capture(self) -> Frame:
        self._tick("capture")
        self.taken += 1
        self._time += 0.01
        return Frame(
            picture(self.number, self.taken),
            self._time,
            self.exposure_us,
            self.serial,
            self.number * 100 + self.taken,
        )


class Arm:
    def __init__(self, devices: Prerendered) -> None:
        self._devices = devices
        self.follow = devices.follow

    def state(self) -> ArmState:
        return ArmState(self._devices._joints, np.zeros(7), None)


class Gripper:
    def __init__(self, devices: Prerendered) -> None:
        self._devices = devices
        self.grasp, self.release = devices.grasp, devices.release

    def state(self) -> Grasp:
        return self._devices._grasp


def ticket(number: int) -> PartTicket:
    return PartTicket(f"p-{number:05d}", "lot-1", 1, number, None)


def picture(number: int, taken: int) -> np.ndarray:
    return np.random.default_rng((number, taken)).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def mass(number: int) -> float:
    return PART.mass.nominal_g - (5.0 if number % 3 == 2 else 0.0)


@dataclass
class _Score:
    score: float


class Scorer:
    """Stands in for the scoring process: the mean of a picture."""

    seconds: ClassVar[dict[str, float]] = {}

    def __init__(self) -> None:
        self._scores: dict[str, _Score] = {}

    def submit(self, view: str, image: np.ndarray, mask: Any) -> None:
        self._scores[view] = _Score(float(image.mean()) / 100)

    def collect(self) -> tuple[dict[str, _Score], tuple[str, ...]]:
        scores, self._scores = self._scores, {}
        return scores, ()


class Judge:
    """Stands in for the model's description: nothing reaches its threshold, so the mass decides."""

    views = PART.view_names
    threshold = 1000.0

    def decide(self, scores: dict[str, float]) -> Decision:
        return Decision(part_statistic(scores.values(), k=2), self.threshold, (), False)


def cell_of(numbers: Iterator[int], tick: Tick = lambda what: None) -> Cell:
    devices = Prerendered(numbers, tick)
    return Cell(
        file=FILE,
        part=PART,
        folder=FOLDER,
        clock=devices,
        arm=Arm(devices),
        gripper=Gripper(devices),
        camera=devices,
        scale=devices,
        source=devices,
    )


def run_line(address: str, numbers: range, tick: Tick = lambda what: None) -> list[Any]:
    """Inspect parts in this process."""
    with LineRecords(address, RUN) as book:
        cell = cell_of(iter(numbers), tick)
        cycle = Cycle(cell)
        # The poses are the same for every line here: they are not worked out anew.
        with patch("cell.cycle.planned_round", lambda *args: ROUND):
            cycle.prepare()
        return [part for _ in numbers for part in inspect_part(cell, cycle, Judge(), Scorer(), book)]


def run_until_killed(address: str, numbers: range, ticks: int | None, log: Path) -> int:
    """Inspect parts in a process that is killed at its `ticks`-th step, if any; return the number of steps it did.

    Steps are the devices' calls, and each write, synchronisation, renaming and commit of the records. What was done
    is appended to `log`.
    """
    line = start_line(address, numbers, log, ticks)
    line.join()
    assert line.exitcode == 0 or (ticks is not None and line.exitcode == -signal.SIGKILL)
    return len(log.read_text().splitlines())


def start_line(address: str, numbers: range, log: Path, ticks: int | None = None) -> BaseProcess:
    """Start to inspect parts in a process of its own, which appends each step to `log` and dies at its `ticks`-th."""
    # Forked from a process without threads: a fork of the tests' own may wait for ever for a lock that a thread held.
    # That process finds this module only by its environment, and without it each line would import everything anew.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "pytest"])
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    log.touch()
    with patch.dict(os.environ, {"PYTHONPATH": paths, **one_thread}):
        line = context.Process(target=_run_ticking, args=(address, numbers, log, ticks), daemon=True)
        line.start()
    return line


def _run_ticking(address: str, numbers: range, log: Path, ticks: int | None) -> None:
    assert len(list(Path("/proc/self/task").iterdir())) == 1
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    write, turn, done = os.write, threading.Lock(), itertools.count()

    def tick(what: str) -> None:
        with turn:  # the archive's threads tick, too
            if next(done) == ticks:
                os.kill(os.getpid(), signal.SIGKILL)
            write(out, f"{what}\n".encode())

    _tick_on_files(tick)
    _tick_on_commits(tick)
    run_line(address, numbers, tick)
    os._exit(0)  # no step is counted after the last part's


def _tick_on_files(tick: Tick) -> None:
    for name in ("write", "fsync", "replace"):
        original = getattr(os, name)

        def wrapped(*args: Any, name: str = name, original: Any = original, **options: Any) -> Any:
            tick(f"before {name}")
            result = original(*args, **options)
            tick(f"after {name}")
            return result

        setattr(os, name, wrapped)


def _tick_on_commits(tick: Tick) -> None:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    event.listen(Engine, "commit", lambda connection: tick("before commit"))
