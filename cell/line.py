"""Running parts through one cell, or through several copies of it side by side."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from cell.interfaces import CellError
from cell.processes import end_with_parent
from cell.setup import Order

_ResultT = TypeVar("_ResultT")
_WAITING = 4
_ALIVE_CHECK_S = 1.0
_LEAVING_S = 10.0


def copies_for(order: Order) -> int:
    """Return how many copies of the cell an order is worth: never more than parts or processors."""
    return max(1, min(order.cell.content.copies, len(order.numbers), os.cpu_count() or 1))


def run_line(order: Order, work: Callable[[Order], Iterator[_ResultT]]) -> Iterator[_ResultT]:
    """Yield what `work` makes of each part, in the order of the part numbers.

    Parameters
    ----------
    order : Order
        Its numbers are dealt out to as many copies as the cell file allows.
    work : callable
        Opens the cell of an order and yields one result a number, in their order. It must be importable: with
        several copies it runs in processes of their own.

    Raises
    ------
    CellError
        Whatever `work` raised, after the results of the parts before it.
    """
    copies = copies_for(order)
    if copies == 1:
        yield from work(order)
        return
    context = multiprocessing.get_context("spawn")
    lanes = []
    for copy in range(copies):
        lane = context.Queue(maxsize=_WAITING)
        share = replace(order, numbers=order.numbers[copy::copies])
        lanes.append((context.Process(target=_run_copy, args=(share, work, lane)), lane))
    try:
        for process, _ in lanes:
            process.start()
        for place in range(len(order.numbers)):
            result, error = _take(*lanes[place % copies])
            if error is not None:
                raise error
            yield result
    finally:
        for process, _ in lanes:
            if process.pid is not None:
                process.terminate()
        for process, _ in lanes:
            if process.pid is not None:
                process.join(_LEAVING_S)
                process.kill()


def _run_copy(order: Order, work: Callable[[Order], Iterator[Any]], lane: Any) -> None:
    def leave(signum: int, frame: Any) -> None:
        # Nobody reads what still waits in the lane; the `with` blocks of devices and scorer run on the way out.
        lane.cancel_join_thread()
        raise SystemExit(128 + signum)

    # The parent answers Ctrl-C for all copies.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    end_with_parent()
    try:
        for result in work(order):
            lane.put((result, None))
    except Exception as error:
        error.add_note(traceback.format_exc())
        try:
            pickle.dumps(error)
        except Exception:
            error = CellError(f"{type(error).__name__}: {error}")
        lane.put((None, error))


def _take(process: BaseProcess, lane: Any) -> tuple[Any, Exception | None]:
    while True:
        try:
            result, error = lane.get(timeout=_ALIVE_CHECK_S)
            return result, error
        except queue.Empty:
            if not process.is_alive() and lane.empty():
                raise CellError(
                    f"A copy of the cell ended without a word (exit code {process.exitcode}): "
                    "look for lack of memory, or run with `copies: 1` in the cell file"
                ) from None
