"""The operator's page in headless Chromium: a shift, an overrule, a stop, a lost connection, many readers."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

pytest.importorskip("nicegui", reason="the operator's page needs twinspect[web]")
pytest.importorskip("playwright", reason="these tests need Playwright")

from playwright import sync_api as playwright
from prerendered import make_records
from prerendered_line import HOLD, record_parts

from cell.collecting import collect
from cell.records.address import Address
from cell.records.database import Database
from cell.records.queries import count_verdicts, decisions_of, newest, of_part
from cell.records.verification import verify
from cell.web.users import UsersFile
from detection import DetectionConfig, ModelConfig, read_dataset, train

CHROMIUM = Path("/usr/bin/chromium")
SUPPORT = Path(__file__).parents[1] / "support"
PASSWORD = "correct horse"

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"these tests need {CHROMIUM}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def serving(*command: str, port: int) -> Iterator[subprocess.Popen]:
    """Run a server until it is no longer needed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment["PYTHONPATH"] = f"{SUPPORT}:{Path.cwd()}"
    process = subprocess.Popen([sys.executable, *command], env=environment)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/static/style.css").close()
                break
            except urllib.error.HTTPError:
                break  # it asks for a login
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def line_server(records: str, users: Path, port: int):
    return serving(str(SUPPORT / "prerendered_line.py"), records, str(users), str(port), port=port)


def records_server(records: str, users: Path, port: int):
    main = "from cell.commands import main; main()"
    return serving("-c", main, "serve", "--records", records, "--users", str(users), "--port", str(port), port=port)


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """Return a function that opens the page in a browser of its own; what its console complains of fails the test."""
    complaints, contexts = [], []

    def open_page(port: int, path: str = "/", **options):
        context = chromium.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if "Security" in message.text else None)
        page.goto(f"http://127.0.0.1:{port}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def state(page):
    return page.locator(".state .now")


def say(page, name: str, **options):
    page.get_by_role("button", name=name, exact=True).click(**options)


def test_a_shift_of_thirty_parts_an_overrule_and_a_stop(tmp_path, visit):
    records, port = make_records(tmp_path), free_port()
    with line_server(records, tmp_path / "none.json", port):
        page = visit(port)
        playwright.expect(state(page)).to_have_text("Ready")
        first, last = (tmp_path / HOLD.format(number) for number in (0, 30))
        first.touch()
        last.touch()
        say(page, "Start")
        playwright.expect(state(page)).to_have_text("Running", timeout=30_000)
        playwright.expect(page.locator(".state .part")).to_contain_text(re.compile("p-00000.*weighing", re.DOTALL))
        playwright.expect(page.locator(".state .pictures")).to_contain_text("2 of 4 pictures")
        say(page, "Pause")
        playwright.expect(state(page)).to_have_text("Pausing after this part …")
        first.unlink()
        playwright.expect(state(page)).to_have_text("Paused")
        playwright.expect(page.locator(".figure.ok b")).to_have_text("1")
        say(page, "Resume")
        waiting = re.compile("p-00030.*weighing", re.DOTALL)
        playwright.expect(page.locator(".state .part")).to_contain_text(waiting, timeout=90_000)
        playwright.expect(page.locator(".figure.ok b")).to_have_text("20")
        playwright.expect(page.locator(".figure.reject b")).to_have_text("10")  # every third part
        assert "not an emergency stop" in page.locator(".command.stop").inner_text()
        say(page, "Stop")
        playwright.expect(state(page)).to_have_text("Stopping …")
        last.unlink()
        playwright.expect(state(page)).to_have_text("Stopped: look at the cell")
        playwright.expect(page.locator(".state .message")).to_contain_text("it was stopped")
        say(page, "Hand and scale are empty")
        playwright.expect(page.get_by_text("Give your name")).to_be_visible()
        page.get_by_label("Your name").fill("Erika")
        say(page, "Hand and scale are empty")
        playwright.expect(state(page)).to_have_text("Ready")

        page.get_by_role("link", name="Review", exact=True).click()
        page.locator(".card", has_text="p-00029").click()
        playwright.expect(page.locator(".verdict .now")).to_have_text("reject")
        playwright.expect(page.locator(".tile.over")).to_have_count(4)
        assert page.locator(".tile.over polygon").count() >= 4
        say(page, "dust or fibre")
        page.get_by_label("Note").fill("<script>document.title = 'taken over'</script>")
        page.get_by_label("Your name").fill("Erika")
        say(page, "Overrule: it is ok")
        playwright.expect(page.locator(".n-wait")).to_be_visible()
        page.goto(f"http://127.0.0.1:{port}/parts?part=p-00029")
        playwright.expect(page.locator(".rows tbody tr")).to_contain_text(re.compile("reject → ok"))
        page.get_by_role("link", name="p-00029").click()
        playwright.expect(page.locator(".decision")).to_contain_text("Erika decided: ok")
        playwright.expect(page.locator(".decision q")).to_contain_text("dust: <script>")
        assert page.title() == "twinspect: Parts"

    with Database(Address.parse(records)) as database:
        with database.reading() as session:
            counts = count_verdicts(session)
            assert counts == {"ok": 20, "reject": 10, "recheck": 1}
            overruled = decisions_of(session, of_part(session, "p-00029")[0].part.entry)
            assert [(d.decided, d.who) for d in overruled] == [("ok", "Erika")]
            (stopped,) = newest(session, count=1)
            assert stopped.ending.bin is None and stopped.stands == "recheck"
            assert [d.who for d in decisions_of(session, stopped.part.entry)] == ["Erika"]
        assert verify(database, progress=lambda done, total: None).problems == ()


def test_a_viewer_looks_and_cannot_start(tmp_path, visit):
    users = UsersFile(tmp_path / "users.json")
    users.put("Max", "viewer", PASSWORD)
    records, port = make_records(tmp_path), free_port()
    with line_server(records, users.path, port) as server:
        page = visit(port)
        assert page.url.endswith("/login")
        page.get_by_label("Name").fill("Max")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        playwright.expect(state(page)).to_have_text("Ready")
        start = page.get_by_role("button", name="Start", exact=True)
        playwright.expect(start).to_be_disabled()
        # As an operator whom the file made a viewer while the page was open.
        users.put("Max", "operator", PASSWORD)
        page.reload()
        page.get_by_label("Name").fill("Max")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        playwright.expect(start).to_be_enabled()
        users.put("Max", "viewer", PASSWORD)
        start.click()
        playwright.expect(page.get_by_text("Your session has ended")).to_be_visible()
        playwright.expect(state(page)).to_have_text("Ready")
        assert server.poll() is None


def test_a_lost_connection_is_seen_and_found_again(tmp_path, visit):
    records, port = make_records(tmp_path), free_port()
    record_parts(records, 3)
    with records_server(records, tmp_path / "none.json", port) as server:
        page = visit(port)
        playwright.expect(page.locator(".figure.ok b")).to_have_text("2")
        playwright.expect(state(page)).to_have_text("Records only")
        lost = page.locator(".lost")
        playwright.expect(lost).to_be_hidden()
        page.wait_for_function("window.socket && window.socket.connected")  # the page is there before its connection
        server.send_signal(signal.SIGKILL)
        server.wait()
        playwright.expect(lost).to_be_visible(timeout=15_000)
        playwright.expect(lost).to_contain_text("what you see may be old")
    record_parts(records, 1)
    with records_server(records, tmp_path / "none.json", port):
        playwright.expect(lost).to_be_hidden(timeout=30_000)
        playwright.expect(page.locator(".figure.ok b")).to_have_text("3", timeout=30_000)


def test_german_on_a_tablet_with_all_pages(tmp_path, visit):
    records, port = make_records(tmp_path), free_port()
    record_parts(records, 60)
    with records_server(records, tmp_path / "none.json", port):
        page = visit(port, color_scheme="light")
        page.set_viewport_size({"width": 768, "height": 1024})
        page.get_by_role("link", name="DE", exact=True).click()
        playwright.expect(state(page)).to_have_text("Nur Aufzeichnungen")
        for link, shown in (
            ("Teile", "p-00059"),
            ("Prüfen", "20 Teile warten auf Prüfung."),
            ("Verläufe", "40 von 50 Teilen für die Grundlinie"),
            ("Schwelle", "Die neuesten 60 vollständig geprüften Teile"),
        ):
            page.get_by_role("link", name=link, exact=True).click()
            playwright.expect(page.get_by_text(shown).first).to_be_visible()
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{link} is {wide} pixels too wide for a tablet"


@pytest.mark.slow
def test_twenty_browsers_read_at_once(tmp_path, visit):
    records, port = make_records(tmp_path), free_port()
    record_parts(records, 6)
    with records_server(records, tmp_path / "none.json", port):
        pages = [visit(port) for _ in range(20)]
        for page in pages:
            playwright.expect(page.locator(".figure.ok b")).to_have_text("4")
        record_parts(records, 2)
        for page in pages:
            playwright.expect(page.locator(".figure.ok b")).to_have_text("6")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_shift_of_thirty_parts_in_the_twin(tmp_path, visit, order_of):
    """The line of `twinspect inspect`, started, read and stopped in a browser."""
    good = order_of("good", 8, seed=1, width=304)
    collect(good, tmp_path / "good", progress=lambda done: None)
    train(read_dataset(tmp_path / "good"), tmp_path / "model", config=DetectionConfig(), model=ModelConfig())
    camera = {"class": good.cell.content.camera.path, **good.cell.content.camera.options}
    cell = yaml.safe_load(good.cell.path.read_text())
    (tmp_path / "cell.yaml").write_text(yaml.safe_dump({**cell, "camera": camera}))
    records, port = f"sqlite:///{tmp_path}/records.sqlite", free_port()
    line = ["--cell", str(tmp_path / "cell.yaml"), "--part", "ring", "--model", str(tmp_path / "model")]
    command = ["serve", "--records", records, *line, "--port", str(port), "--users", str(tmp_path / "none.json")]
    with serving("-c", "from cell.commands import main; main()", *command, port=port):
        page = visit(port)
        say(page, "Start")
        playwright.expect(state(page)).to_have_text("Running", timeout=60_000)
        playwright.expect(page.locator(".state .part")).to_contain_text("mixed-00030", timeout=1_200_000)
        playwright.expect(page.locator(".state .pictures")).to_contain_text(re.compile("[1-9] of 16"), timeout=60_000)
        say(page, "Stop")
        playwright.expect(state(page)).to_have_text("Stopped: look at the cell", timeout=60_000)
    with Database(Address.parse(records)) as database:
        with database.reading() as session:
            assert sum(count_verdicts(session).values()) == 31
            (stopped,) = newest(session, count=1)
            assert stopped.ending.bin is None and "it was stopped" in stopped.ending.fault
        assert verify(database, progress=lambda done, total: None).problems == ()
