"""A line that is killed, loses power or runs out of room: nothing is lost, nothing half is taken for whole."""

import random
import shutil
import time

import pytest
from power_loss import Disk, copy_database
from prerendered import address_in, make_records, run_line, run_until_killed, start_line
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from cell.records.address import Address
from cell.records.database import Database
from cell.records.recovery import close_interrupted, find_interrupted
from cell.records.schema import EndingRecord, InspectionRecord, VerdictRecord
from cell.records.verification import verify


def recover(address):
    """Start again as the line does, and return what was found and what the records then say of each part."""
    with Database(Address.parse(address)) as database:
        found = find_interrupted(database)
        close_interrupted(database, found, cleared_by="a test")
        result = verify(database, progress=lambda done, total: None)
        with database.reading() as session:
            rows = session.execute(
                select(InspectionRecord.part_id, VerdictRecord.verdict, EndingRecord.verdict, EndingRecord.bin)
                .outerjoin(VerdictRecord, VerdictRecord.inspection == InspectionRecord.entry)
                .outerjoin(EndingRecord, EndingRecord.inspection == InspectionRecord.entry)
                .order_by(InspectionRecord.entry)
            ).all()
    return found, result, rows


def test_killed_at_every_step_of_a_cycle(tmp_path):
    empty, whole = tmp_path / "empty", tmp_path / "whole"
    empty.mkdir()
    make_records(empty)
    shutil.copytree(empty, whole)
    steps = run_until_killed(address_in(whole), range(1), None, tmp_path / "log")
    assert steps > 60
    for step in range(steps):
        folder, log = tmp_path / f"at-{step}", tmp_path / f"log-{step}"
        shutil.copytree(empty, folder)
        address = address_in(folder)
        # Pictures are stored by threads: a step may be counted and not yet be in the log.
        assert step - 2 <= run_until_killed(address, range(1), step, log) <= step
        done = log.read_text().splitlines()
        found, result, rows = recover(address)
        assert result.problems == () and result.under_way == ()
        assert len(rows) <= 1
        if rows:
            ((_, judged, ended, at),) = rows
            assert judged is not None and ended is not None
            # The part is either known to lie in its bin, or to be inspected again.
            assert (ended, at) == (judged, judged) or (ended, at) == ("recheck", None)
            assert bool(found) == (at is None)
        else:
            assert not any(what.startswith("to feeder") for what in done)
        for what in done:
            if what.startswith("release at bin "):
                assert rows[0][1] == what.removeprefix("release at bin ")
        shutil.rmtree(folder)


def test_power_lost_at_every_step_of_a_cycle(tmp_path, monkeypatch):
    """What was not synchronised is dropped; SQLite's own writes are taken to last once a commit has returned."""
    address = Address.parse(make_records(tmp_path))
    run_line(str(address.url), range(1))
    disk = Disk(address.pictures, monkeypatch)
    losses = []

    def lose_power(*args):
        for names in (False, True):
            left = tmp_path / f"left-{len(losses)}"
            losses.append(left)
            (left / address.pictures.name).mkdir(parents=True)
            disk.after_loss(left / address.pictures.name, names=names)
            copy_database(address.file, left)

    event.listen(Session, "after_commit", lose_power)
    disk.after_call = lose_power
    try:
        run_line(str(address.url), range(1, 2))
    finally:
        event.remove(Session, "after_commit", lose_power)
    monkeypatch.undo()
    assert len(losses) > 50
    ended, seen = [], set()
    for left in losses:
        files = [path for path in sorted(left.rglob("*")) if path.is_file()]
        state = tuple((path.relative_to(left), path.read_bytes()) for path in files)
        if state in seen:
            continue
        seen.add(state)
        _, result, rows = recover(address_in(left))
        assert result.problems == () and result.under_way == ()
        ended.append(rows[-1])
    assert [row for row in ended if row[0] == "p-00001"][-1] == ("p-00001", "ok", "ok", "ok")


def test_a_commit_waits_for_the_disk(tmp_path):
    with Database(Address.parse(make_records(tmp_path))) as database, database.writing() as session:
        assert session.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL
        assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"


def released(log):
    """The bins over which the hand opened, in their order."""
    return [what.split()[-1] for what in log.read_text().splitlines() if what.startswith("release at bin ")]


@pytest.mark.slow
def test_a_thousand_parts_with_kills_at_random(tmp_path):
    address, rng, count = make_records(tmp_path), random.Random(0), 1000
    kills, begun, bins = 0, 0, 0
    while begun < count:
        log = tmp_path / f"log-{kills}"
        line = start_line(address, range(begun, count), log)
        while not log.read_text() and line.is_alive():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        line.kill()
        line.join()
        kills += 1
        before = begun
        with Database(Address.parse(address)) as database:
            close_interrupted(database, find_interrupted(database), cleared_by="a test")
            with database.reading() as session:
                rows = session.execute(
                    select(InspectionRecord.part_id, EndingRecord.verdict, EndingRecord.bin, VerdictRecord.verdict)
                    .join(EndingRecord, EndingRecord.inspection == InspectionRecord.entry)
                    .join(VerdictRecord, VerdictRecord.inspection == InspectionRecord.entry)
                    .order_by(InspectionRecord.entry)
                ).all()
        begun = len(rows)
        assert [row[0] for row in rows] == [f"p-{number:05d}" for number in range(begun)]
        mine = rows[before:]
        # Every part that the hand let go was on record with that verdict; all but the last known to be in its bin.
        let_go = released(log)
        bins += len(let_go)
        assert let_go == [judged for *_, judged in mine[: len(let_go)]]
        assert all(ended == at == judged for _, ended, at, judged in mine[:-1])
    with Database(Address.parse(address)) as database:
        result = verify(database, progress=lambda done, total: None)
    print(f"{count} parts, {kills} kills, {result.pictures} pictures, {bins} let go, {result.unnamed} unnamed files")
    assert kills > 50 and result.problems == () and result.under_way == () and result.inspections == count
