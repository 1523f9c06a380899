"""The process that makes candidates: one at a time, told as it goes, and never silent when it fails."""

import multiprocessing
import os
import threading
import time

import pytest

pytest.importorskip("nicegui", reason="the operator's page needs twinspect[web]")

from cell.interfaces import CellError
from cell.web import making
from cell.web.making import CandidateMaker, Making


def waits(records, model, folder, part, who, news) -> None:
    news.send(Making(True, f"{folder.name.startswith('ring-2')} for {who}", 1, 2))
    deadline = time.monotonic() + 30
    while not (model.parent / "go on").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    news.send("")


def refuses(*args) -> None:
    args[-1].send("no part was confirmed")


def dies(*_) -> None:
    os._exit(9)


@pytest.fixture
def maker(monkeypatch, tmp_path):
    """Return a function that gives a maker whose process does what a function says."""

    def make(work) -> CandidateMaker:
        monkeypatch.setattr(making, "_make", work)
        return CandidateMaker("sqlite:///records.sqlite", tmp_path / "ring", None)

    return make


def ended(maker: CandidateMaker) -> Making:
    deadline = time.monotonic() + 30
    while maker.now.running:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return maker.now


def test_it_tells_how_far_it_is_and_makes_one_at_a_time(maker, tmp_path):
    with maker(waits) as one:
        one.start("Max")
        deadline = time.monotonic() + 30
        while not one.now.doing and time.monotonic() < deadline:
            time.sleep(0.01)
        assert one.now == Making(True, "True for Max", 1, 2)
        with pytest.raises(CellError, match="being made already"):
            one.start("Erika")
        (tmp_path / "go on").touch()
        assert ended(one) == Making()


def test_a_problem_is_told_and_the_next_one_may_be_made(maker):
    with maker(refuses) as one:
        for _ in range(2):
            one.start("Max")
            assert ended(one) == Making(problem="no part was confirmed")


def test_a_process_that_dies_is_no_success(maker):
    with maker(dies) as one:
        one.start("Max")
        assert ended(one).problem == "The process that made the candidate has ended (exit code 9)"


def test_the_process_sends_what_was_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(making.signal, "signal", lambda *args: None)
    monkeypatch.setattr(making.os, "setpriority", lambda *args: None)
    news, theirs = multiprocessing.Pipe(duplex=False)
    records = f"sqlite:///{tmp_path}/records.sqlite"
    work = threading.Thread(target=making._make, args=(records, tmp_path, tmp_path / "new", None, "Max", theirs))
    work.start()
    assert "inspector.json" in news.recv()
    work.join()
