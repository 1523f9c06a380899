"""The line's process: inspects parts while a person wants it to, and tells how it stands.

It knows no page. Whoever reads pages does it in another process, so that nothing here waits for a reader.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cell.inspection import inspect
from cell.interfaces import CellError, PartTicket, ReflexStop
from cell.processes import end_with_parent
from cell.records.address import Address
from cell.records.database import Database
from cell.records.queries import clear, newest
from cell.setup import Cell, Order
from cell.web.snapshot import ALLOWED, Command, Doing, Snapshot, State
from cell.web.watched import Stop, watched
from detection import DetectionError

_ASKED_AGAIN_S = 0.1


def run_shifts(order: Order, model: Path, records: str, commands: Connection, news: Connection) -> None:
    """Inspect on command until the process is ended.

    Parameters
    ----------
    order : Order
        Its numbers are dealt out over all starts; one copy of the cell, which is the one that is shown.
    model : Path
    records : str
        Address of the records.
    commands : Connection
        Receives pairs of a `Command` and the person's name.
    news : Connection
        Each `Snapshot` is sent to it; the newest alone where the other side is slow.
    """

    def leave(signum: int, frame: Any) -> None:
        # The `with` blocks of devices, scorer and records run on the way out.
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    signal.signal(signal.SIGTERM, leave)
    end_with_parent()
    line = _Line(order, model, records, _Post(news))
    threading.Thread(target=line.obey, args=(commands,), daemon=True).start()
    line.work()


class _Post:
    """Sends the newest snapshot from a thread of its own: who sets one never waits."""

    def __init__(self, news: Connection) -> None:
        self._news = news
        self._changed = threading.Condition()
        self._waiting: Snapshot | None = None
        threading.Thread(target=self._send, daemon=True).start()

    def put(self, snapshot: Snapshot) -> None:
        with self._changed:
            self._waiting = snapshot
            self._changed.notify()

    def _send(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None)
                snapshot, self._waiting = self._waiting, None
            try:
                self._news.send(snapshot)
            except OSError:
                return  # nobody is there to read; the process ends with its parent


class _Line:
    """Two threads: `work` moves the robot, `obey` hears commands."""

    def __init__(self, order: Order, model: Path, records: str, post: _Post) -> None:
        self._order = order
        self._model = model
        self._records = records
        self._post = post
        self._lock = threading.Lock()
        self._now = Snapshot()
        self._stop = Stop()
        self._started: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._acknowledged: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._resumed = threading.Event()
        self._cleared_by: str | None = None
        self._used = 0

    def _set(self, **changes: Any) -> None:
        with self._lock:
            self._now = replace(self._now, **changes)
            self._post.put(self._now)

    def _turn(self, came_from: State, to: State) -> bool:
        """Change the state, unless a command changed it meanwhile; whether it did."""
        with self._lock:
            if self._now.state != came_from:
                return False
            self._now = replace(self._now, state=to)
            self._post.put(self._now)
            return True

    def obey(self, commands: Connection) -> None:
        """Hear commands; one that makes no sense any more is left."""
        while True:
            try:
                command, who = commands.recv()
            except (EOFError, OSError):
                return
            self._obey(command, who)

    def _obey(self, command: Command, who: str) -> None:
        with self._lock:
            state = self._now.state
        if command not in ALLOWED[state]:
            return
        if command == "start" and self._turn("ready", "starting"):
            self._started.put(who)
        elif command == "acknowledge" and self._turn("held", "starting"):
            self._acknowledged.put(who)
        elif command == "pause":
            self._resumed.clear()
            self._turn("running", "pausing")
        elif command == "resume":
            if self._turn("pausing", "running") or self._turn("paused", "running"):
                self._resumed.set()
        elif command == "stop" and self._turn(state, "stopping"):
            self._resumed.set()
            threading.Thread(target=self._keep_asking, args=(self._stop,), daemon=True).start()

    def _keep_asking(self, stop: Stop) -> None:
        """Ask for a stop until it is noticed: between two motions there is nothing to stop yet."""
        while self._now.state == "stopping" and stop is self._stop:
            stop.ask()
            threading.Event().wait(_ASKED_AGAIN_S)

    def work(self) -> None:
        """Run a shift at each start; after one that failed, wait until a person acknowledged."""
        while True:
            self._started.get()
            self._stop = Stop()
            self._resumed.set()
            try:
                self._shift()
            except (CellError, DetectionError, OSError) as error:
                self._hold(error)
            self._set(state="ready", message="", part_id=None, doing="", at="", taken=(), mass_g=None)

    def _shift(self) -> None:
        numbers = self._order.numbers[self._used :]
        parts = inspect(
            replace(self._order, numbers=numbers), self._model, self._records, clear=self._clear, watch=self._watch
        )
        try:
            for part in parts:
                self._set(finished=self._now.finished + 1, alarms=self._now.alarms + part.alarms)
                if self._turn("pausing", "paused"):
                    self._set(part_id=None, doing="", at="", taken=(), mass_g=None)
                    self._resumed.wait()
                # A part that did not reach its bin comes before the error that says why.
                if self._now.state == "stopping" and part.cycle_s is not None:
                    return
        finally:
            parts.close()

    def _hold(self, error: Exception) -> None:
        """Wait for a person, and record who saw hand and scale empty where a part did not reach its bin."""
        self._set(doing="", at="")
        who = self._cleared_by = self._ask(str(error))
        try:
            with Database(Address.parse(self._records)) as database:
                with database.reading() as session:
                    last = next(iter(newest(session, count=1)), None)
                if last is not None and last.ending is not None and last.ending.fault and last.ending.bin is None:
                    clear(database, last.part.entry, who=who, why=str(error))
        except CellError as unrecorded:
            self._hold(unrecorded)

    def _ask(self, message: str) -> str:
        """Hold until a person acknowledged, and return who."""
        self._set(state="held", message=message)
        who = self._acknowledged.get()
        self._set(message="")
        return who

    def _clear(self, found: Sequence[str]) -> str:
        return self._ask("; ".join(found))

    def _watch(self, cell: Cell) -> Cell:
        fault = cell.arm.state().fault
        if fault:
            # Whoever acknowledged the stop that left this fault need not do it again.
            cell.arm.recover(acknowledged_by=self._cleared_by or self._ask(fault))
        self._cleared_by = None
        return watched(cell, stop=self._stop, tell=self._tell, came=self._came, weighed=self._weighed)

    def _tell(self, doing: Doing, at: str) -> None:
        if doing == "feeder":
            if self._stop.asked:
                raise ReflexStop("arm", "starting with a part", "it was stopped", "look at the cell and acknowledge")
            self._turn("starting", "running")
            self._set(doing=doing, at="", part_id=None, taken=(), mass_g=None)
        elif doing == "picture":
            self._set(doing=doing, taken=(*self._now.taken, self._now.at))
        else:
            self._set(doing=doing, at=at)

    def _came(self, ticket: PartTicket) -> None:
        self._used += 1
        self._set(part_id=ticket.part_id)

    def _weighed(self, mass_g: float) -> None:
        self._set(mass_g=mass_g)
