"""Candidates end to end: from confirmed parts over the challenge to the release, and what is refused on the way."""

import shutil
import sqlite3
from dataclasses import replace

import pytest
from candidate_records import (
    RUN,
    ScoringHere,
    make_candidate_here,
    make_challenge,
    make_confirmed,
    record,
    train_small,
    truth,
)
from prerendered import make_records
from prerendered_line import prerendered_order
from typer.testing import CliRunner

from cell.candidates import _replayed as replayed
from cell.candidates import confirmed_parts, release_candidate
from cell.commands import app, console
from cell.commands.serve import _refuse_unreleased
from cell.inspection import inspect
from cell.interfaces import CellError, PartTicket
from cell.records.address import Address
from cell.records.candidates import KnownParts, candidate_at, newest_candidates, require_approval
from cell.records.database import Database
from cell.records.line import LineRecords
from cell.records.pictures import PictureStore
from cell.records.queries import audits, decide, of_part
from cell.records.recovery import find_interrupted
from cell.records.retention import prune
from cell.records.verification import verify
from cell.schema import Retention
from detection import InspectorInfo, ModelError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train_small(tmp_path_factory.mktemp("trained"))


def made(address, model, folder, who="Max"):
    return make_candidate_here(address, model, folder, who=who)


@pytest.fixture(scope="module")
def passed(model, tmp_path_factory):
    """Records with a candidate that Max had made and that passed."""
    folder = tmp_path_factory.mktemp("passed")
    address = make_confirmed(folder)
    assert made(address, model, folder / "candidate") == ()
    return folder


@pytest.fixture
def copied(passed, tmp_path):
    """A copy of them that a test may change: the folder, and the open database."""
    folder = tmp_path / "copy"
    shutil.copytree(passed, folder)
    file = folder / "records.sqlite"
    with sqlite3.connect(file) as database:
        database.execute("UPDATE candidates SET model = ?", (str(folder / "candidate"),))
    database.close()
    with Database(Address.parse(f"sqlite:///{file}")) as database:
        yield folder, database


def only(database):
    with database.reading() as session:
        (found,) = newest_candidates(session, count=9)
    return found


def may_inspect(database, folder):
    require_approval(database, (folder / "candidate" / "inspector.json").read_text())


def test_candidate_learns_from_what_was_confirmed_and_is_challenged(passed, model):
    with Database(Address.parse(f"sqlite:///{passed}/records.sqlite")) as database:
        found = only(database)
        with database.reading() as session:
            again = [(first.part.part_id, later.stands) for first, later in audits(session)]
        assert verify(database, progress=lambda done, total: None).problems == ()
    assert found.confirmed_by == {"p-00000": "Erika", "p-00001": "Erika"}
    assert (found.state, found.known, found.record.made_by) == ("passed", 3, "Max")
    # The known parts were played back, each with the hash of its inspection.
    assert again == [("p-00009", "ok"), ("p-00010", "ok"), ("p-00011", "reject")]
    info = InspectorInfo.load(passed / "candidate")
    assert [part.part_id for part in info.trained_with][-2:] == ["p-00000", "p-00001"]
    assert InspectorInfo.load(model).extends is None


def test_a_second_person_lets_it_inspect(copied):
    folder, database = copied
    with pytest.raises(CellError, match="a second person has to release it"):
        may_inspect(database, folder)
    release_candidate(database, only(database).record.entry, who="Erika", why="all known parts told apart")
    may_inspect(database, folder)
    found = only(database)
    assert (found.state, found.approval.who) == ("released", "Erika")
    with pytest.raises(CellError, match="Erika has released this candidate already"):
        release_candidate(database, found.record.entry, who="Anna", why="again")


@pytest.mark.parametrize("who", ["Max", " max ", "MAX"])
def test_who_had_it_made_does_not_release_it(copied, who):
    folder, database = copied
    with pytest.raises(CellError, match="another person has to release it"):
        release_candidate(database, only(database).record.entry, who=who, why="looks good")
    with pytest.raises(CellError, match="may not inspect"):
        may_inspect(database, folder)


@pytest.mark.parametrize("who, why", [("", "looks good"), ("Erika", "")])
def test_a_release_needs_a_name_and_a_reason(copied, who, why):
    _, database = copied
    with pytest.raises(CellError, match="needs the name"):
        release_candidate(database, only(database).record.entry, who=who, why=why)


@pytest.mark.parametrize(
    "file, said", [("inspector.json", "was changed after"), ("views/*/padim.safetensors", "is not what was saved")]
)
def test_a_changed_candidate_is_not_released(copied, file, said):
    folder, database = copied
    path = next((folder / "candidate").glob(file))
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises((CellError, ModelError), match=said):
        release_candidate(database, only(database).record.entry, who="Erika", why="looks good")


def test_a_candidate_that_is_changed_after_its_release_is_refused(copied):
    folder, database = copied
    release_candidate(database, only(database).record.entry, who="Erika", why="all known parts told apart")
    path = folder / "candidate" / "inspector.json"
    path.write_text(path.read_text().replace('"threshold": ', '"threshold": 1', 1))
    with pytest.raises(CellError, match=r"do not know, or its inspector\.json was changed"):
        may_inspect(database, folder)


def test_no_line_inspects_with_a_candidate_that_nobody_released(copied, monkeypatch):
    monkeypatch.setattr("cell.inspection.ScoringProcess", ScoringHere)
    folder, database = copied
    address = str(database.address.url)
    with database.reading() as session:
        entry = of_part(session, "p-00000")[0].part.entry
    # The part is played back: what needs no robot.
    order = replayed(address, KnownParts(0, (entry,)), prerendered_order().part)
    with pytest.raises(CellError, match=r"candidate \d+, which may not inspect"):
        next(inspect(order, folder / "candidate", address))
    with pytest.raises(CellError, match="may not inspect"):
        _refuse_unreleased(address, folder / "candidate")  # `serve`, before there is a page
    # Nor does it as a challenge at the line, where the robot would move.
    with pytest.raises(CellError, match="may not inspect"):
        next(inspect(order, folder / "candidate", address, lay_in=lambda number: None))
    release_candidate(database, only(database).record.entry, who="Erika", why="all known parts told apart")
    (part,) = inspect(order, folder / "candidate", address)
    assert part.verdict.bin == "ok"


def test_a_candidate_that_takes_a_known_part_for_another_is_not_released(model, tmp_path):
    address = make_confirmed(tmp_path)
    # A newer challenge, in which somebody declares the defective part good: no model can be right about it.
    make_challenge(address, range(12, 15), label=lambda number: "good" if number == 14 else truth(number))
    (wrong,) = made(address, model, tmp_path / "candidate")
    assert wrong.startswith("p-00014 is good and came out as reject")
    with Database(Address.parse(address)) as database:
        assert only(database).state == "failed"
        with pytest.raises(CellError, match=r"failed its challenge: p-00014"):
            release_candidate(database, only(database).record.entry, who="Erika", why="it is fine")
        with pytest.raises(CellError, match="it failed its challenge"):
            may_inspect(database, tmp_path)


def test_a_challenge_that_did_not_end_releases_nothing(model, tmp_path, monkeypatch):
    def broken(*args):
        raise CellError("no memory")
        yield

    address = make_confirmed(tmp_path)
    monkeypatch.setattr("cell.candidates.inspect_known_again", broken)
    with pytest.raises(CellError, match="no memory"):
        made(address, model, tmp_path / "candidate")
    with Database(Address.parse(address)) as database:
        assert only(database).state == "unchallenged"
        with pytest.raises(CellError, match="did not come to its end"):
            release_candidate(database, only(database).record.entry, who="Erika", why="looks good")


def test_what_a_candidate_needs(model, tmp_path):
    address = make_records(tmp_path)
    record(address, range(2))
    with pytest.raises(CellError, match="No part that a person confirmed as good"):
        made(address, model, tmp_path / "candidate")
    with Database(Address.parse(address)) as database:
        decide(database, "p-00000", "ok", who="Erika", why="no defect")
    with pytest.raises(CellError, match=r"No known parts of this cell.*check --challenge"):
        made(address, model, tmp_path / "candidate")
    make_challenge(address)
    with pytest.raises(CellError, match="needs the name of who had it made"):
        made(address, model, tmp_path / "candidate", who="")
    (tmp_path / "candidate").mkdir()
    with pytest.raises(CellError, match="is there already"):
        made(address, model, tmp_path / "candidate")
    with Database(Address.parse(address)) as database, database.reading() as session:
        assert newest_candidates(session, count=1) == []
        with pytest.raises(CellError, match="no candidate 1"):
            candidate_at(session, 1)


def test_a_model_without_training_state_is_refused_before_anything_is_on_record(tmp_path):
    address = make_confirmed(tmp_path)
    bare = train_small(tmp_path, keep_state=False)
    with pytest.raises(ModelError, match="keeps no training state"):
        made(address, bare, tmp_path / "candidate")
    assert not (tmp_path / "candidate").exists()


def test_which_parts_a_candidate_learns_from(model, tmp_path):
    address = make_confirmed(tmp_path)
    record(address, range(3, 9))
    record(address, range(15, 17), run=replace(RUN, made_for='{"another":"camera"}'))
    info = InspectorInfo.load(model)
    with Database(Address.parse(address)) as database:
        for number, verdict in ((3, "ok"), (4, "ok"), (4, "reject"), (5, "ok"), (9, "ok"), (15, "ok")):
            decide(database, f"p-{number:05d}", verdict, who="Erika", why="seen")

        def named(info):
            with database.reading() as session:
                found = confirmed_parts(session, PictureStore(database.address.pictures), info)
            return [one.part.part_id for one in found]

        # 4 was overruled later, 9 is a known part, 15 was seen by another camera; 5 a person knew better about.
        assert named(info) == ["p-00000", "p-00001", "p-00003", "p-00005"]
        made(address, model, tmp_path / "candidate")
        with pytest.raises(CellError, match="not learned from yet"):
            named(InspectorInfo.load(tmp_path / "candidate"))


def test_an_unreleased_candidate_is_not_extended(copied):
    folder, database = copied
    with pytest.raises(CellError, match="may not inspect"):
        made(str(database.address.url), folder / "candidate", folder / "next")


def test_pictures_of_known_parts_stay(tmp_path):
    address = make_confirmed(tmp_path)
    record(address, range(3, 5))
    with Database(Address.parse(address)) as database:
        prune(database, Retention(every_nth_ok=1000, days=0.0, max_gb=0.0))
        store = PictureStore(database.address.pictures)
        with database.reading() as session:
            kept = {
                number: all(store.intact(v.picture) for v in of_part(session, f"p-{number:05d}")[0].verdict.views)
                for number in (3, 4, 9, 10)
            }
    assert kept == {3: False, 4: False, 9: True, 10: True}


def test_records_show_a_changed_release(copied):
    folder, database = copied
    release_candidate(database, only(database).record.entry, who="Erika", why="all known parts told apart")
    with sqlite3.connect(folder / "records.sqlite") as changed:
        changed.execute("UPDATE approvals SET who = 'Anna'")
    changed.close()
    problems = verify(database, progress=lambda done, total: None).problems
    assert any("approvals was changed after it was written" in problem for problem in problems)


def test_a_playback_that_was_interrupted_asks_nobody_to_look_at_the_cell(tmp_path):
    address = make_confirmed(tmp_path)
    with LineRecords(address, RUN) as book:
        book.begin(PartTicket("p-00009", "lot-1", 1, 9, "good"), audits="0" * 64)
    with Database(Address.parse(address)) as database:
        assert find_interrupted(database) == []


def test_commands(copied, monkeypatch):
    def run(*arguments: str):
        return CliRunner().invoke(app, ["candidate", *arguments, "--records", str(database.address.url)])

    folder, database = copied
    monkeypatch.setattr(console.out, "width", 250)
    candidate = str(folder / "candidate")
    assert "passed" in run("list").output
    refused = run("release", candidate, "--who", "max", "--why", "looks good").exception
    assert "another person has to release it" in str(refused)
    assert "name it with --model" in run("release", candidate, "--who", "Erika", "--why", "looks good").output
    assert "released" in (said := run("list").output) and "Erika: looks good" in said
    again = ("make", "--model", candidate, "--part", "ring", "--out", candidate, "--who", "Max")
    assert "is there already" in str(run(*again).exception)
