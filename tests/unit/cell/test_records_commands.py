"""`twinspect records`, as a user types it."""

import sqlite3

import pytest
from prerendered import PART, make_records, run_line
from typer.testing import CliRunner

from cell.commands import app, console
from cell.interfaces import CellError


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    made = make_records(tmp_path_factory.mktemp("records"))
    run_line(made, range(6))
    return made


@pytest.fixture
def records(address, monkeypatch):
    monkeypatch.setattr(console.out, "width", 200)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["records", *arguments, "--records", address])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_list_shows_the_newest_last(records):
    out = records("list", "--last", "2")
    assert out.index("p-00004") < out.index("p-00005") and "p-00003" not in out
    assert "4 ok, 2 reject, 0 recheck on record" in out
    assert "p-00002" in (rejects := records("list", "--verdict", "reject")) and "p-00001" not in rejects
    assert "p-0" not in records("list", "--lot", "another")


def test_show_tells_everything_about_a_part(records):
    records("decide", "p-00002", "ok", "--who", "me", "--why", "weighed again")
    out = records("show", "p-00002")
    assert (
        f"is not {PART.mass.nominal_g}" in out
        and "decision: verdict: ok, by me: weighed again" in out
        and out.count("GP") == 4
        and "retries" in out
    )
    with pytest.raises(CellError, match="no part x on record"):
        records("show", "x")


def test_verify_says_what_was_changed(records, address):
    # Four pictures a part, and two masks that all of them share.
    assert "6 inspections, 26 pictures" in records("verify")
    with sqlite3.connect(address.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE inspections SET shot = shot + 1 WHERE entry = 2")
    try:
        with pytest.raises(CellError, match="1 records are not what was written"):
            records("verify")
    finally:
        with sqlite3.connect(address.removeprefix("sqlite:///")) as database:
            database.execute("UPDATE inspections SET shot = shot - 1 WHERE entry = 2")


def test_the_others(records, tmp_path):
    records("export", "--out", str(tmp_path / "all.csv"))
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 7
    records("export", "--part", "p-00001", "--out", str(tmp_path / "one.html"))
    assert "p-00001" in (tmp_path / "one.html").read_text()
    assert "0 of 0 verdicts are the same" in records("compare")
    assert "of 50 for the baseline" in records("drift")
    assert "control charts start anew" in records("change", "light", "--who", "me", "--why", "new lamp")
    with pytest.raises(CellError, match="no key retention"):
        records("prune", "--cell", "twin")


def test_records_that_are_not_there_are_refused(tmp_path):
    result = CliRunner().invoke(app, ["records", "list", "--records", f"sqlite:///{tmp_path}/none.sqlite"])
    assert isinstance(result.exception, CellError) and "There are no records" in str(result.exception)
    assert not (tmp_path / "none.sqlite").exists()
