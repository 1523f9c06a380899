"""What readers of the operator's page cost the line: wall time of a part and of scoring, with none and with twenty."""

import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cell.collecting import collect
from cell.config import load_cell, load_part, load_production
from cell.inspection import inspect
from cell.results import InspectedPart
from cell.setup import Order
from detection import DetectionConfig, ModelConfig, read_dataset, train

_CHROMIUM = Path("/usr/bin/chromium")
_ROUNDS = 5
_LOOKS_S = 10.0

pytestmark = pytest.mark.skipif(not _CHROMIUM.exists(), reason=f"readers need {_CHROMIUM}")


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
    """Serve the records as `twinspect serve` does, to so many browsers."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    main = "from cell.commands import main; main()"
    command = [sys.executable, "-c", main, "serve", "--records", records, "--port", str(port), "--users", "/nowhere"]
    context = multiprocessing.get_context("spawn")
    reading, end = context.Event(), context.Event()
    readers = context.Process(target=_read, args=(f"http://127.0.0.1:{port}", count, reading, end))
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as server:
        try:
            readers.start()
            assert reading.wait(180), "the browsers do not see the page"
            yield
            assert server.poll() is None and readers.is_alive()
        finally:
            end.set()
            readers.join(60)
            server.terminate()


def _read(url: str, count: int, reading: Any, end: Any) -> None:
    """Keep the Line page open in so many browsers, and look at the newest part in each of them every ten seconds."""
    os.nice(19)  # they stand for other machines: here they may only take what the line and the server leave
    from playwright import sync_api as playwright

    while True:
        try:
            urllib.request.urlopen(url).close()
            break
        except OSError:
            time.sleep(0.1)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        pages = []
        for _ in range(count):
            context = browser.new_context()
            pages.append((context.new_page(), context.new_page()))
            for page in pages[-1]:
                page.set_default_timeout(120_000)
                page.goto(url)
        reading.set()
        while not end.is_set():
            for page, other in pages:
                newest = page.locator(".rows a").first.get_attribute("href")
                other.goto(f"{url}{newest}")
                if end.wait(_LOOKS_S / count):
                    break
        browser.close()


_seconds: dict[int, float] = {}


@pytest.mark.parametrize("readers", [0, 20])
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
    _seconds[readers] = benchmark.stats.stats.median
    benchmark.extra_info |= {
        "readers": readers,
        "score_ms": 1000 * statistics.median(scoring),
        "cell_time_s": statistics.median(part.cycle_s for part in done),
    }
    if 0 in _seconds:
        benchmark.extra_info["times_without_readers"] = _seconds[readers] / _seconds[0]
