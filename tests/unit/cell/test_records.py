"""Records: the chain, pictures, retention, migrations, and what the line does when it cannot write."""

import csv
import json
import os
import re
import sqlite3
import threading
from dataclasses import replace

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from prerendered import RUN, Prerendered, address_in, cell_of, make_records, run_line
from sqlalchemy import create_engine, select

import cell.records.database
from cell.interfaces import CellError, ConfigError
from cell.records.address import Address
from cell.records.database import Database
from cell.records.export import write_certificate, write_csv
from cell.records.line import LineRecords
from cell.records.pictures import PictureStore, encode
from cell.records.queries import decide, newest
from cell.records.recovery import find_interrupted
from cell.records.retention import prune, sweep
from cell.records.schema import REVISION, InspectionRecord, PictureRecord, Table
from cell.records.verification import verify
from cell.schema import Retention
from detection.pictures import decode_picture


def verified(address):
    with Database(Address.parse(address)) as database:
        return verify(database, progress=lambda done, total: None)


def test_migrations_make_what_the_program_uses(tmp_path):
    make_records(tmp_path)
    with create_engine(address_in(tmp_path)).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
        assert MigrationContext.configure(connection).get_current_revision() == REVISION


def test_records_from_before_the_retries_stay_whole(tmp_path, monkeypatch):
    captured = Prerendered.capture
    with monkeypatch.context() as then:
        then.setattr(Prerendered, "capture", lambda self: replace(captured(self), retries=None))
        address = make_records(tmp_path)
        run_line(address, range(2))
    with sqlite3.connect(tmp_path / "records.sqlite") as database:
        database.execute("ALTER TABLE views DROP COLUMN retries")
        database.execute("ALTER TABLE endings DROP COLUMN marks")
        database.execute("ALTER TABLE endings DROP COLUMN in_time")
        for table in ("approvals", "candidates", "releases"):
            database.execute(f"DROP TABLE {table}")
        database.execute("UPDATE alembic_version SET version_num = '0001'")
    assert verified(address).problems == ()
    run_line(address, range(2, 4))
    assert verified(address).problems == ()
    with sqlite3.connect(tmp_path / "records.sqlite") as database:
        counted = database.execute("SELECT retries, count(*) FROM views GROUP BY retries ORDER BY retries").fetchall()
    assert counted == [(None, 8), (0, 8)]


def test_commands_in_time_of_every_motion_are_in_the_chain(tmp_path, monkeypatch):
    follow, rates = Prerendered.follow, iter(np.linspace(0.99, 1.0, 1000).tolist())
    monkeypatch.setattr(Prerendered, "follow", lambda self, leg: (follow(self, leg), next(rates))[1])
    address = make_records(tmp_path)
    parts = run_line(address, range(1))
    said = [[step.name, step.in_time] for step in parts[0].steps if step.kind == "motion"]
    assert len(said) > 8
    with sqlite3.connect(tmp_path / "records.sqlite") as database:
        stored = json.loads(database.execute("SELECT in_time FROM endings").fetchone()[0])
    assert stored == said and verified(address).problems == ()
    with sqlite3.connect(tmp_path / "records.sqlite") as database:
        database.execute("UPDATE endings SET in_time = ?", (json.dumps([[name, 1.0] for name, _ in said]),))
    assert len(verified(address).problems) == 1


def test_who_cleared_the_cell_is_on_record(tmp_path):
    address = make_records(tmp_path)
    with LineRecords(address, RUN) as book:
        book.cleared(["something is in the hand"], "me")
    with sqlite3.connect(tmp_path / "records.sqlite") as database:
        said = database.execute("SELECT inspection, subject, decided, who, why FROM decisions").fetchall()
    assert said == [(None, "cleared", "hand and scale are empty", "me", "something is in the hand")]
    assert verified(address).problems == ()


def test_foreign_and_newer_databases_are_refused(tmp_path):
    with sqlite3.connect(tmp_path / "records.sqlite") as other:
        other.execute("CREATE TABLE parts (id INTEGER)")
    with pytest.raises(CellError, match="tables that this version"):
        make_records(tmp_path)
    newer = tmp_path / "newer"
    newer.mkdir()
    make_records(newer)
    with sqlite3.connect(newer / "records.sqlite") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CellError, match="newer version"):
        make_records(newer)


def test_addresses():
    assert Address.parse("sqlite:///x/r.sqlite").pictures.parts[-2:] == ("x", "r.sqlite.pictures")
    server = Address.parse("postgresql+psycopg://me:secret@host/cell?pictures=/data")
    assert str(server.pictures) == "/data" and "secret" not in str(server) and "pictures" not in str(server)
    for wrong, what in (("sqlite://", "need a file"), ("postgresql://host/cell", "does not say where the pictures go")):
        with pytest.raises(ConfigError, match=what):
            Address.parse(wrong)


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)))
    | arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))
)
def test_encoding_loses_nothing(image):
    back = decode_picture(bytes(encode(image)), name="it")
    np.testing.assert_array_equal(back, image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2))


def test_pictures_are_found_by_their_hash_and_damage_shows(tmp_path):
    store = PictureStore(tmp_path / "pictures")
    store.create()
    for image in (np.arange(60, dtype=np.uint8).reshape(4, 5, 3), np.arange(20, dtype=np.uint8).reshape(4, 5)):
        stored = store.put(image)
        np.testing.assert_array_equal(store.read(stored.hash), image)
        assert store.path(stored.hash).stat().st_size == stored.bytes and store.put(image) == stored
    content = bytearray(store.path(stored.hash).read_bytes())
    content[-20] ^= 1
    store.path(stored.hash).write_bytes(content)
    assert not store.intact(stored.hash)
    with pytest.raises(CellError, match="missing or damaged"):
        store.read(stored.hash)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("UPDATE verdicts SET verdict = 'ok' WHERE verdict = 'reject'", "verdicts was changed"),
        ("UPDATE views SET score = score + 1e-9 WHERE place = 1", "verdicts was changed"),
        ("UPDATE views SET retries = 7 WHERE place = 1", "verdicts was changed"),
        ("UPDATE endings SET cycle_s = 1", "endings was changed"),
        ("UPDATE entries SET at = '2000-01-01T00:00:00.000000+00:00' WHERE number = 3", "was changed after"),
        ("DELETE FROM endings WHERE entry = (SELECT max(entry) FROM endings)", "its row in endings is missing"),
        ("UPDATE contents SET text = text || ' '", "content .* was changed"),
        ("UPDATE pictures SET removed = NULL, hash = replace(hash, 'a', 'b')", "is missing"),
        ("INSERT INTO faults VALUES (1, NULL, 'invented', 9999)", "faults 9999: has no entry"),
        ("DELETE FROM entries WHERE number = 4", "entry 4 is missing"),
        ("UPDATE endings SET bin = 'ok' WHERE verdict = 'reject'", "found reject, but let go over the bin ok"),
    ],
)
def test_any_change_shows(tmp_path, change, shown):
    address = make_records(tmp_path)
    run_line(address, range(3))
    assert verified(address).problems == ()
    with sqlite3.connect(tmp_path / "records.sqlite") as database:
        database.execute("PRAGMA foreign_keys=OFF")
        assert database.execute(change).rowcount
    problems = verified(address).problems
    assert any(re.search(shown, problem) for problem in problems), problems


def test_a_lost_or_damaged_picture_shows(tmp_path):
    address = make_records(tmp_path)
    run_line(address, range(1))
    first, second, *_ = sorted(Address.parse(address).pictures.glob("??/*.png"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    problems = verified(address).problems
    assert len(problems) == 2 and "is missing" in " ".join(problems) and "damaged" in " ".join(problems)


def test_lines_that_write_at_once_make_one_chain(tmp_path):
    address = make_records(tmp_path)
    lines = [threading.Thread(target=run_line, args=(address, range(start, start + 4))) for start in (0, 100, 200)]
    for line in lines:
        line.start()
    for line in lines:
        line.join()
    result = verified(address)
    assert result.problems == () and result.inspections == 12


def released(steps):
    return [step for step in steps if step.startswith("release at bin")]


def test_a_full_disk_stops_the_line_before_the_bin(tmp_path, monkeypatch):
    address, steps = make_records(tmp_path), []

    def full(descriptor, data):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("cell.records.files.os.write", full)
    with pytest.raises(CellError, match=r"view GP1-V[0-9] cannot be stored .*No space left.*the line stops"):
        run_line(address, range(1), steps.append)
    monkeypatch.undo()
    assert released(steps) == []
    with Database(Address.parse(address)) as database:
        (left,) = find_interrupted(database)
    assert left.part_id == "p-00000" and left.verdict is None


def stop_at_weighing(steps, action):
    def tick(what):
        steps.append(what)
        if what == "weigh":
            action()

    return tick


def test_a_full_database_stops_the_line_before_the_bin(tmp_path):
    address, steps = make_records(tmp_path), []
    original = cell.records.database._durable

    def small(connection, record):
        original(connection, record)
        if "weigh" in steps:
            connection.execute("PRAGMA max_page_count = 1")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cell.records.database._durable", small)
        patch.setattr("cell.records.database.create_engine", _unpooled)
        with pytest.raises(CellError, match=r"cannot be used: .*full"):
            run_line(address, range(100), steps.append)
    # What found room was let go; the part after that was not.
    with sqlite3.connect(tmp_path / "records.sqlite") as database:
        assert database.execute("SELECT count(*) FROM verdicts").fetchone() == (len(released(steps)),)


def _unpooled(url, **options):
    from sqlalchemy.pool import NullPool

    return create_engine(url, poolclass=NullPool, **options)


def test_a_locked_database_stops_the_line_before_the_bin(tmp_path):
    address, steps = make_records(tmp_path), []
    other = sqlite3.connect(tmp_path / "records.sqlite", isolation_level=None)
    with pytest.raises(CellError, match="database is locked"):
        run_line(f"{address}?timeout=0.1", range(1), stop_at_weighing(steps, lambda: other.execute("BEGIN IMMEDIATE")))
    other.close()
    assert "weigh" in steps and released(steps) == []


def test_a_removed_database_stops_the_line_before_the_bin(tmp_path):
    address, steps = make_records(tmp_path), []
    with pytest.raises(CellError, match="was removed or replaced"):
        run_line(address, range(1), stop_at_weighing(steps, (tmp_path / "records.sqlite").unlink))
    assert "weigh" in steps and released(steps) == []


def test_a_folder_that_cannot_be_written_is_refused_before_anything_moves():
    with pytest.raises(CellError, match="cannot be used"), LineRecords("sqlite:////proc/twinspect/r.sqlite", RUN):
        pass


def test_a_running_line_is_no_interrupted_one(tmp_path):
    address = make_records(tmp_path)
    with LineRecords(address, RUN) as book, Database(Address.parse(address)) as database:
        book.begin(cell_of(iter([0])).source.next())
        assert find_interrupted(database) == []
        with database.reading() as session:
            assert session.scalars(select(InspectionRecord.part_id)).all() == ["p-00000"]
    with Database(Address.parse(address)) as database:
        assert [left.part_id for left in find_interrupted(database)] == ["p-00000"]


RULE = Retention(every_nth_ok=2, days=0.0, max_gb=0.0)


def kept(address):
    store = PictureStore(Address.parse(address).pictures)
    with Database(Address.parse(address)) as database, database.reading() as session:
        found = newest(session, count=100)
        return {i.part.part_id for i in found if i.verdict and all(store.intact(v.picture) for v in i.verdict.views)}


def test_retention_takes_the_oldest_and_never_what_the_rule_protects(tmp_path):
    address = make_records(tmp_path)
    run_line(address, range(12))  # 2, 5, 8 and 11 are rejects; the ok ones count 0 1 3 4 6 7 9 10
    with Database(Address.parse(address)) as database:
        decide(database, "p-00003", "reject", who="me", why="scratch by hand")
        assert prune(database, replace_rule(days=1.0)).pictures == 0
        assert prune(database, replace_rule(max_gb=1.0)).pictures == 0
        with database.reading() as session:
            total = sum(session.scalars(select(PictureRecord.bytes)))
        part = total / 12
        first = prune(database, replace_rule(max_gb=(total - part / 2) / 1e9))
        assert kept(address) == {f"p-{n:05d}" for n in range(12)} - {"p-00000"}
        rest = prune(database, RULE)
        assert rest.bytes_left == total - first.bytes - rest.bytes > 0
    assert kept(address) == {f"p-{n:05d}" for n in range(12)} - {"p-00000", "p-00006", "p-00009"}
    result = verified(address)
    assert result.problems == () and result.unnamed == 0


def replace_rule(**changes):
    return RULE.model_copy(update=changes)


def test_files_of_an_interrupted_line_go_after_a_day(tmp_path):
    address = make_records(tmp_path)
    run_line(address, range(1))
    pictures = Address.parse(address).pictures
    old, young, half = (
        pictures / "ab" / f"{'ab' * 32}.png",
        pictures / "cd" / f"{'cd' * 32}.png",
        pictures / "incoming" / "x.part",
    )
    for path in (old, young, half):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    for path in (old, half, *pictures.glob("??/*.png")):
        if path != young:
            os.utime(path, (0, 0))
    with Database(Address.parse(address)) as database:
        assert sweep(database) == 2
    assert young.exists() and not old.exists() and not half.exists() and kept(address) == {"p-00000"}


def test_exports(tmp_path):
    address = make_records(tmp_path)
    parts = run_line(address, range(3))
    store = PictureStore(Address.parse(address).pictures)
    with Database(Address.parse(address)) as database:
        decide(database, "p-00002", "ok", who="A <b> Person", why="weighed again")
        with database.reading() as session:
            assert write_csv(tmp_path / "all.csv", session, progress=lambda done, total: None) == 3
            write_certificate(tmp_path / "part.html", session, store, "p-00002")
            with pytest.raises(CellError, match="no part nobody"):
                write_certificate(tmp_path / "none.html", session, store, "nobody")
    rows = list(csv.DictReader((tmp_path / "all.csv").open()))
    for row, part in zip(rows, parts, strict=True):
        assert (row["part_id"], row["verdict"], row["bin"]) == (part.ticket.part_id, part.verdict.bin, part.verdict.bin)
        assert float(row["mass_g"]) == part.weighing.mass_g
        assert {name: float(row[f"score_{name}"]) for name in part.scores} == part.scores
    page = (tmp_path / "part.html").read_text()
    assert page.count("data:image/jpeg") == 4 and "A &lt;b&gt; Person" in page and "is not" in page
    assert rows[2]["sha256"] in page and "http" not in page
