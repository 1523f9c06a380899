"""What readers of the operator's page cost the line: wall time of a part and of scoring, with none and with twenty."""

import asyncio
import multiprocessing
import os
import re
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

pytest.importorskip("nicegui", reason="the operator's page needs twinspect[web]")

import httpx
import socketio

from cell.collecting import collect
from cell.config import load_cell, load_part, load_production
from cell.inspection import inspect
from cell.results import InspectedPart
from cell.setup import Order
from detection import DetectionConfig, ModelConfig, read_dataset, train

_ROUNDS = 5
_LOOKS_S = 10.0


def _order(production: str, count: int) -> Order:
    """Parts for one twin with pictures of 608 × 456."""
    cell = load_cell("twin")
    camera = cell.content.camera
    small = camera.model_validate({"class": camera.path, **camera.options, "width": 608, "height": 456})
    content = cell.content.model_copy(update={"camera": small, "copies": 1})
    return Order(replace(cell, content=content), load_part("ring"), load_production(production), range(count), 1)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Iterator[InspectedPart]]]:
    """Records, and a line that goes on with them, whose first part is done."""
    folder = tmp_path_factory.mktemp("line")
    collect(_order("good", 4), folder / "good", progress=lambda done: None)
    train(read_dataset(folder / "good"), folder / "model", config=DetectionConfig(), model=ModelConfig())
    records = f"sqlite:///{folder}/records.sqlite"
    parts = inspect(_order("mixed", 1000), folder / "model", records)
    next(parts)
    yield records, parts
    parts.close()


@contextmanager
def _read_by(count: int, records: str) -> Iterator[None]:
    """Serve the records as `twinspect serve` does, to so many readers."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    main = "from cell.commands import main; main()"
    command = [sys.executable, "-c", main, "serve", "--records", records, "--port", str(port), "--users", "/nowhere"]
    context = multiprocessing.get_context("spawn")
    reading = context.Event()
    readers = context.Process(target=_read, args=(f"http://127.0.0.1:{port}", count, reading), daemon=True)
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as server:
        try:
            readers.start()
            assert reading.wait(180), "the readers do not see the page"
            yield
            assert server.poll() is None and readers.is_alive()
        finally:
            readers.terminate()
            server.terminate()


def _read(url: str, count: int, reading: Any) -> None:
    """Ask the server for what so many browsers would; it is its work that counts, not what drawing costs elsewhere."""
    os.nice(19)
    asyncio.run(_read_all(url, count, reading))


async def _read_all(url: str, count: int, reading: Any) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        while True:
            try:
                await http.get("/static/style.css")
                break
            except httpx.TransportError:
                await asyncio.sleep(0.1)
        open_pages = [asyncio.Event() for _ in range(count)]
        async with asyncio.TaskGroup() as readers:
            for number, opened in enumerate(open_pages):
                readers.create_task(_read_on(http, url, number * _LOOKS_S / count, opened))
            for opened in open_pages:
                await opened.wait()
            reading.set()


async def _read_on(http: httpx.AsyncClient, url: str, start_s: float, opened: asyncio.Event) -> None:
    """Keep the Line page and its connection open, and look at the newest part with all its pictures now and then."""
    page = (await http.get("/")).text
    client = re.search(r"'client_id': '([^']+)'", page)
    assert client is not None
    query = {"client_id": client[1], "next_message_id": 0, "implicit_handshake": "true", "tab_id": client[1]}
    line = socketio.AsyncClient()
    await line.connect(
        f"{url}?{urlencode({**query, 'document_id': client[1]})}",
        socketio_path="/_nicegui_ws/socket.io",
        transports=["websocket"],
        headers={"Origin": url},
    )
    opened.set()
    await asyncio.sleep(start_s)
    while True:
        newest = re.search(r"/parts/\d+", (await http.get("/parts")).text)
        assert newest is not None
        part = (await http.get(newest[0])).text
        for picture in sorted(set(re.findall(r"/pictures/[0-9a-f]{64}\.jpg", part))):
            await http.get(picture)
        await asyncio.sleep(_LOOKS_S)
        assert line.connected


_without: list[float] = []


# Without readers again at the end: how much of a difference is the machine's own.
@pytest.mark.parametrize("readers", [0, 20, 0])
def test_a_part_beside_readers(benchmark, line: tuple[str, Iterator[InspectedPart]], readers: int) -> None:
    records, parts = line
    done: list[InspectedPart] = []

    def one_part() -> None:
        done.append(next(parts))

    if readers:
        with _read_by(readers, records):
            benchmark.pedantic(one_part, rounds=_ROUNDS, warmup_rounds=1)
    else:
        benchmark.pedantic(one_part, rounds=_ROUNDS, warmup_rounds=1)
    scoring = [step.end_s - step.start_s for part in done for step in part.steps if step.kind == "scoring"]
    seconds = benchmark.stats.stats.median
    benchmark.extra_info |= {
        "readers": readers,
        "score_ms": 1000 * statistics.median(scoring),
        "cell_time_s": statistics.median(part.cycle_s for part in done),
    }
    if not readers:
        _without.append(seconds)
    if _without:
        benchmark.extra_info["times_without_readers"] = seconds / _without[0]
