"""Copies of a cell side by side: order, errors, and ends that nobody asked for."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cell.interfaces import CellError, GrabFailed
from cell.line import copies_for, run_line

BIG = b"x" * 4_000_000


def count(order):
    for number in order.numbers:
        yield number, os.getpid()


def fail_at_three(order):
    for number in order.numbers:
        if number == 3:
            raise GrabFailed("camera", "grabbing", "no picture", "look")
        yield number, BIG


def die_at_two(order):
    for number in order.numbers:
        if number == 2:
            os._exit(7)
        yield number


def fail_with_something_odd(order):
    class Odd(Exception):
        pass

    raise Odd("cannot cross a process border")
    yield


def test_results_come_in_the_order_of_the_parts(order_of):
    results = list(run_line(order_of("good", 7), count))
    assert [number for number, _ in results] == list(range(7))
    assert len({process for _, process in results}) == 2 and os.getpid() not in {p for _, p in results}


def test_one_copy_runs_here(order_of):
    order = order_of("good", 1)
    assert copies_for(order) == 1
    assert list(run_line(order, count)) == [(0, os.getpid())]


def test_error_of_a_copy_arrives_after_the_parts_before_it_and_leaves_no_process(order_of):
    results = []
    with pytest.raises(GrabFailed, match="no picture while grabbing"):
        for number, _ in run_line(order_of("good", 40), fail_at_three):
            results.append(number)
    assert results == [0, 1, 2]
    assert not multiprocessing.active_children()


def test_leaving_early_does_not_hang_on_large_results(order_of):
    results = run_line(order_of("good", 40), fail_at_three)
    next(results)
    results.close()
    assert not multiprocessing.active_children()


def test_death_of_a_copy_is_said(order_of):
    with pytest.raises(CellError, match=r"ended without a word \(exit code 7\)"):
        list(run_line(order_of("good", 6), die_at_two))


def test_odd_error_is_still_said(order_of):
    with pytest.raises(CellError, match="Odd: cannot cross"):
        list(run_line(order_of("good", 6), fail_with_something_odd))


def test_more_copies_than_parts_are_not_started(order_of):
    order = order_of("good", 1)
    many = replace(order.cell, content=order.cell.content.model_copy(update={"copies": 64}))
    assert copies_for(replace(order, cell=many)) == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_copies_end_with_the_command(tmp_path, how):
    command = (
        "from cell.commands import main; import sys; "
        f"sys.argv = ['twinspect', 'collect', '--cell', 'twin', '--part', 'ring', '--count', '60', "
        f"'--out', {str(tmp_path / 'out')!r}]; main()"
    )
    parent = subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").rglob("GP1-V1.png")) and time.monotonic() < deadline:
        time.sleep(0.2)
    children = _children(parent.pid)
    assert len(children) >= 2
    parent.send_signal(how)
    parent.wait(30)
    while any(_alive(child) for child in children) and time.monotonic() < deadline + 30:
        time.sleep(0.2)
    assert not [child for child in children if _alive(child)]
    if how == signal.SIGTERM:
        # No part was whole yet, or the whole ones make a dataset.
        assert not (tmp_path / "out").exists() or (tmp_path / "out" / "dataset.json").exists()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
