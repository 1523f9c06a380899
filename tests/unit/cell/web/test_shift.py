"""The line's process, here in threads: states, commands, stops and who answers for them."""

import multiprocessing
import threading
import time
from collections.abc import Iterator

import pytest
from prerendered import make_records
from prerendered_line import HOLD, inspect_prerendered, prerendered_order

from cell.interfaces import CellError
from cell.records.address import Address
from cell.records.database import Database
from cell.records.queries import decisions_of, newest
from cell.web.shift import _Line, _Post
from cell.web.snapshot import Snapshot


class Desk:
    """Gives commands and waits for states."""

    def __init__(self, address: str) -> None:
        self.news, ours = multiprocessing.Pipe(duplex=False)
        theirs, self.commands = multiprocessing.Pipe(duplex=False)
        line = _Line(prerendered_order(), "model", address, _Post(ours))
        threading.Thread(target=line.obey, args=(theirs,), daemon=True).start()
        threading.Thread(target=line.work, daemon=True).start()

    def say(self, command: str, who: str = "") -> None:
        self.commands.send((command, who))

    def wait(self, **wanted) -> Snapshot:
        """Return the first snapshot from now on that has these values."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.news.poll(0.1):
                snapshot = self.news.recv()
                if all(getattr(snapshot, name) == value for name, value in wanted.items()):
                    return snapshot
        raise AssertionError(f"the line never came to {wanted}")


@pytest.fixture
def address(tmp_path) -> str:
    return make_records(tmp_path)


@pytest.fixture
def desk(address, monkeypatch) -> Iterator[Desk]:
    monkeypatch.setattr("cell.web.shift.inspect", inspect_prerendered)
    made = Desk(address)
    yield made
    made.say("stop")


def hold(tmp_path, number: int):
    file = tmp_path / HOLD.format(number)
    file.touch()
    return file


def last(address: str):
    with Database(Address.parse(address)) as database, database.reading() as session:
        found = newest(session, count=1)[0]
        return found, decisions_of(session, found.part.entry)


def test_parts_follow_each_other_until_a_pause_and_go_on_after_it(desk, address, tmp_path):
    file = hold(tmp_path, 1)
    desk.say("start")
    at_scale = desk.wait(state="running", part_id="p-00001", doing="weighing")
    assert at_scale.finished == 1 and len(at_scale.taken) == 2 and at_scale.mass_g is None
    desk.say("pause")
    desk.wait(state="pausing")
    file.unlink()
    paused = desk.wait(state="paused", part_id=None)
    assert paused.finished == 2 and last(address)[0].stands == "ok"
    desk.say("resume")
    assert desk.wait(part_id="p-00002").state == "running"


def test_a_stop_between_two_motions_ends_in_a_recheck_that_a_person_clears(desk, address, tmp_path):
    file = hold(tmp_path, 0)
    desk.say("start")
    desk.wait(state="running", doing="weighing")
    desk.say("stop")
    desk.wait(state="stopping")
    file.unlink()
    assert "it was stopped" in desk.wait(state="held").message
    found, decided = last(address)
    assert found.stands == "recheck" and found.ending.bin is None and not decided
    desk.say("start")  # makes no sense before somebody has looked
    desk.say("acknowledge", "Erika")
    desk.say("acknowledge", "somebody who pressed it twice")
    desk.wait(state="ready")
    assert [(row.subject, row.who) for row in last(address)[1]] == [("cleared", "Erika")]
    desk.say("start")
    assert desk.wait(state="running", doing="moving").part_id == "p-00001"


def test_a_stop_in_a_pause_needs_nobody_to_look(desk, tmp_path):
    file = hold(tmp_path, 0)
    desk.say("start")
    desk.wait(state="running", doing="weighing")
    desk.say("pause")
    file.unlink()
    desk.wait(state="paused")
    desk.say("stop")
    desk.wait(state="ready")


def test_what_cannot_be_started_is_said_and_can_be_tried_again(address, monkeypatch):
    def refuse(*args, **options):
        raise CellError("the model is of another cell")
        yield

    monkeypatch.setattr("cell.web.shift.inspect", refuse)
    desk = Desk(address)
    desk.say("start")
    assert desk.wait(state="held").message == "the model is of another cell"
    desk.say("acknowledge", "Erika")
    desk.wait(state="ready")


def test_a_reader_that_does_not_read_keeps_nobody_waiting():
    news, ours = multiprocessing.Pipe(duplex=False)
    post = _Post(ours)
    start = time.monotonic()
    for number in range(20_000):  # far more than the pipe holds
        post.put(Snapshot(message="x" * 200, finished=number))
    assert time.monotonic() - start < 30
    while news.recv().finished < 19_999:
        pass
