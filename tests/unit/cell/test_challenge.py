"""Known parts through the line, and what its release hangs on."""

from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace

import prerendered
import pytest
from prerendered import RUN, make_records, run_line, ticket

import cell.challenge
from cell.challenge import challenge, challenge_parts
from cell.commands.challenge import run_challenge
from cell.config import load_cell, load_part, load_production
from cell.interfaces import CellError, ConfigError
from cell.records.address import Address
from cell.records.database import Database
from cell.records.drift import DriftWatch
from cell.records.release import record_release, require_release
from cell.records.verification import verify
from cell.setup import Order
from cell.verdict import Verdict


def order_of(production: str) -> Order:
    return Order(load_cell("twin"), load_part("ring"), load_production(production), range(6))


@pytest.fixture
def line_says(monkeypatch, tmp_path):
    """Return a function that makes the line give these verdicts, and put its parts on record."""

    def say(*bins: str) -> str:
        address = make_records(tmp_path)

        def inspect(order, model, records, *, clear, confirm, lay_in):
            for number, verdict in zip(order.numbers, bins, strict=True):
                lay_in(number)
                (part,) = run_line(records, range(number, number + 1))
                yield replace(part, ticket=ticket(number), verdict=Verdict(verdict, ()))

        monkeypatch.setattr(cell.challenge, "inspect", inspect)
        return address

    return say


def released(address: str, run=RUN, hours: float = 24) -> None:
    with Database(Address.parse(address)) as database:
        require_release(database, run, hours)


RIGHT = ("ok", "ok", "reject", "ok", "reject", "reject")


def test_right_verdicts_release_the_line(line_says):
    address, laid_in = line_says(*RIGHT), []
    known = list(challenge(order_of("challenge"), None, address, lay_in=laid_in.append))
    assert [k.wrong for k in known] == [None] * 6 and laid_in == list(range(6))
    released(address)
    with Database(Address.parse(address)) as database:
        assert verify(database, progress=lambda done, total: None).problems == ()


@pytest.mark.parametrize("place, said", [(0, "reject"), (0, "recheck"), (2, "ok"), (2, "recheck")])
def test_one_wrong_verdict_does_not(place, said, line_says):
    address = line_says(*(said if index == place else bin for index, bin in enumerate(RIGHT)))
    known = list(challenge(order_of("challenge"), None, address, lay_in=lambda number: None))
    assert [k.wrong is not None for k in known] == [index == place for index in range(6)]
    with pytest.raises(CellError, match=rf"not released: .*p-0000{place} is .* came out as {said}.*--challenge"):
        released(address)


def test_challenge_that_was_left_changes_nothing(line_says):
    address = line_says(*RIGHT)
    parts = challenge(order_of("challenge"), None, address, lay_in=lambda number: None)
    next(parts)
    parts.close()
    with pytest.raises(CellError, match="no challenge was run"):
        released(address)


def test_release_holds_for_what_was_challenged_and_not_for_ever(line_says, monkeypatch):
    address = line_says(*RIGHT)
    list(challenge(order_of("challenge"), None, address, lay_in=lambda number: None))
    released(address)
    for name in ("cell_file", "part_file", "inspector", "made_for"):
        with pytest.raises(CellError, match="no challenge was run with this"):
            released(address, replace(RUN, **{name: '{"another":1}'}))
    later = SimpleNamespace(
        now=lambda zone: datetime.now(zone) + timedelta(hours=25), fromisoformat=datetime.fromisoformat
    )
    monkeypatch.setattr("cell.records.release.datetime", later)
    with pytest.raises(CellError, match="more than 24 h ago"):
        released(address)
    released(address, hours=26)


def test_the_last_challenge_counts(tmp_path):
    address = make_records(tmp_path)
    run_line(address, range(1))
    with Database(Address.parse(address)) as database:
        record_release(database, "p-00000", ["a verdict was wrong"])
        with pytest.raises(CellError, match="a verdict was wrong"):
            require_release(database, RUN, 24)
        record_release(database, "p-00000", [])
        require_release(database, RUN, 24)


def test_known_parts_begin_no_new_control_charts(tmp_path, monkeypatch):
    address = make_records(tmp_path)
    run_line(address, range(2))
    monkeypatch.setattr(prerendered, "RUN", RUN.as_challenge())
    run_line(address, range(2, 4))
    with Database(Address.parse(address)) as database:
        lines = DriftWatch(database).lines
    assert len(lines[RUN.cell].charts["mass"].values) == 2


@pytest.mark.parametrize("production", ["good", "mixed"])
def test_parts_that_nobody_knows_are_no_challenge(production):
    with pytest.raises(ConfigError, match="a label in every batch"):
        challenge_parts(order_of(production))


def test_report_and_exit(line_says, tmp_path):
    address = line_says("ok", "ok", "ok", "ok", "reject", "reject")
    with pytest.raises(CellError, match="p-00002 is defective and came out as ok, not reject"):
        run_challenge("twin", "ring", tmp_path / "model", "challenge", address, 0, tmp_path / "report", None)
    page = (tmp_path / "report" / "report.md").read_text()
    assert "**The line is not released.**" in page and "| p-00002 | defective | ok | **wrong** |" in page
    assert '"released": false' in (tmp_path / "report" / "report.json").read_text()
