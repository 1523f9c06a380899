"""The operator's page in headless Chromium: a shift, an overrule, a stop, a lost connection, many readers."""

import os
import re
import shutil
import signal
import socket
import ssl
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

from candidate_records import confirm_and_challenge, make_candidate_here, train_small
from playwright import sync_api as playwright
from prerendered import address_in, make_records
from prerendered_line import HOLD, record_parts

from cell.collecting import collect
from cell.records.address import Address
from cell.records.candidates import newest_candidates
from cell.records.database import Database
from cell.records.queries import count_verdicts, decisions_of, newest, of_part
from cell.records.verification import verify
from cell.web.access import COOKIE
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
def serving(*command: str, url: str) -> Iterator[subprocess.Popen]:
    """Run a server until it is no longer needed."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment["PYTHONPATH"] = f"{SUPPORT}:{Path.cwd()}"
    process = subprocess.Popen([sys.executable, *command], env=environment)
    unverified = ssl._create_unverified_context() if url.startswith("https") else None
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{url}/static/style.css", context=unverified).close()
                break
            except urllib.error.HTTPError:
                break  # it asks for a login
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(30)


class Served:
    """The page of records in a folder, of which a test may change the users: where it is, and how it is run anew."""

    def __init__(self, folder: Path) -> None:
        self.records = make_records(folder)
        self.users = UsersFile(folder / "users.json")
        self.tls = self_signed(folder)
        self.port = free_port()
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        main = "from cell.commands import main; main()"
        options = ["--records", self.records, "--users", str(self.users.path), "--port", str(self.port), *self.tls]
        with serving("-c", main, "serve", *options, url=self.url) as self.process:
            yield


def self_signed(folder: Path) -> list[str]:
    """Options of a certificate, none where OpenSSL's command is not there to make one."""
    if shutil.which("openssl") is None:
        return []
    cert, key = folder / "cert.pem", folder / "key.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made = ["openssl", "req", "-x509", *curve, "-days", "1", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*made, "-out", cert, "-keyout", key], check=True, capture_output=True)
    return ["--tls-cert", str(cert), "--tls-key", str(key)]


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """The page of a quick line: its folder, and where it is."""
    folder, port = tmp_path_factory.mktemp("line"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = (SUPPORT / "prerendered_line.py", make_records(folder), "model", folder / "users.json", port)
    with serving(*map(str, command), url=url):
        yield folder, url


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The page of records with 30 parts, and a candidate that Max had made."""
    served = Served(tmp_path_factory.mktemp("recorded"))
    confirm_and_challenge(served.records)
    make_candidate_here(served.records, train_small(served.users.path.parent), who="Max")
    record_parts(served.records, 30)
    with served.running():
        yield served


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

    def open_page(url: str, **options):
        viewport = {"width": 1280, "height": 800}
        context = chromium.new_context(viewport=viewport, locale="en-GB", ignore_https_errors=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if "Security" in message.text else None)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def state(page):
    return page.locator(".state .now")


def log_in(page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def say(page, name: str, **options):
    page.get_by_role("button", name=name, exact=True).click(**options)


def test_a_shift_of_thirty_parts_an_overrule_and_a_stop(line, visit):
    folder, url = line
    page = visit(url)
    playwright.expect(state(page)).to_have_text("Ready")
    first, last = (folder / HOLD.format(number) for number in (0, 30))
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
    # Seen, and not to be missed, from every page.
    page.get_by_role("link", name="Charts", exact=True).click()
    playwright.expect(page.locator(".call")).to_contain_text("Line: Stopped: look at the cell")
    page.locator(".call").click()
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
    say(page, "real defect")
    page.get_by_label("Your name").fill("Erika")
    say(page, "Overrule: it is ok")
    playwright.expect(page.get_by_text("“real defect” contradicts the verdict ok.")).to_be_visible()
    say(page, "dust or fibre")
    page.get_by_label("Note").fill("<script>document.title = 'taken over'</script>")
    say(page, "Overrule: it is ok")
    playwright.expect(page.locator(".verdict .now")).to_contain_text("as the line found it")
    playwright.expect(page.get_by_role("link", name="Next part that waits")).to_be_visible()
    page.goto(f"{url}/parts?part=P-00029")
    playwright.expect(page.locator(".rows tbody tr")).to_contain_text(re.compile("reject → ok"))
    page.get_by_role("link", name="p-00029").click()
    playwright.expect(page.locator(".decision")).to_contain_text("Erika decided: ok")
    playwright.expect(page.locator(".decision q")).to_contain_text("dust: <script>")
    assert page.title() == "twinspect: Parts"

    with Database(Address.parse(address_in(folder))) as database:
        with database.reading() as session:
            counts = count_verdicts(session)
            assert counts == {"ok": 20, "reject": 10, "recheck": 1}
            overruled = decisions_of(session, of_part(session, "p-00029")[0].part.entry)
            assert [(d.decided, d.who) for d in overruled] == [("ok", "Erika")]
            (stopped,) = newest(session, count=1)
            assert stopped.ending.bin is None and stopped.stands == "recheck"
            assert [d.who for d in decisions_of(session, stopped.part.entry)] == ["Erika"]
        assert verify(database, progress=lambda done, total: None).problems == ()


def test_a_viewer_looks_and_cannot_start(line, visit):
    folder, url = line
    users = UsersFile(folder / "users.json")
    users.put("Max", "viewer", PASSWORD)
    try:
        page = visit(url)
        assert page.url.endswith("/login")
        log_in(page, "Max")
        playwright.expect(state(page)).to_have_text("Ready")
        start = page.get_by_role("button", name="Start", exact=True)
        playwright.expect(start).to_be_disabled()
        # As an operator whom the file made a viewer while the page was open.
        users.put("Max", "operator", PASSWORD)
        page.reload()
        log_in(page, "Max")
        playwright.expect(start).to_be_enabled()
        users.put("Max", "viewer", PASSWORD)
        start.click()
        playwright.expect(page.get_by_text("Your session has ended")).to_be_visible()
        playwright.expect(state(page)).to_have_text("Ready")
    finally:
        users.path.unlink()


def test_german_on_a_tablet_with_all_pages(recorded, visit):
    page = visit(recorded.url, color_scheme="light")
    page.set_viewport_size({"width": 768, "height": 1024})
    page.get_by_role("link", name="DE", exact=True).click()
    playwright.expect(state(page)).to_have_text("Nur Aufzeichnungen")
    for link, shown in (
        ("Teile", "p-00029"),
        ("Prüfen", "12 Teile warten auf Prüfung."),  # two were there before the thirty
        ("Verläufe", "20 von 50 Teilen für die Grundlinie"),
        ("Schwelle", "Die neuesten 36 vollständig geprüften Teile"),
        ("Kandidaten", "wartet auf Freigabe"),
    ):
        page.get_by_role("link", name=link, exact=True).click()
        playwright.expect(page.get_by_text(shown).first).to_be_visible()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{link} is {wide} pixels too wide for a tablet"


def test_a_candidate_is_released_by_a_second_person_who_logged_in(recorded, visit):
    url = f"{recorded.url}/candidates"
    for name, role in (("Anna", "viewer"), ("Max", "operator"), ("Erika", "operator")):
        recorded.users.put(name, role, PASSWORD)
    try:
        release = {}
        for name in ("Anna", "Max", "Erika"):
            page = visit(url)
            log_in(page, name)
            page.get_by_role("link", name="Candidates", exact=True).click()
            playwright.expect(page.locator(".candidate")).to_contain_text("3 of 3 known parts right")
            release[name] = page.get_by_role("button", name="Release", exact=True)
            if recorded.tls:
                assert {cookie["name"]: cookie["secure"] for cookie in page.context.cookies()}[COOKIE]
        playwright.expect(release["Anna"]).to_have_count(0)
        for name, said in (("Max", "Max had this candidate made; another person"), ("Erika", "released")):
            page = release[name].page
            release[name].click()
            page.get_by_label("Reason").fill("all known parts told apart")
            page.get_by_role("dialog").get_by_role("button", name="Release").click()
            playwright.expect(page.get_by_text(said).first).to_be_visible()
        playwright.expect(release["Erika"].page.locator(".candidate.released")).to_contain_text("Erika released it")
    finally:
        recorded.users.path.unlink()
    with Database(Address.parse(recorded.records)) as database, database.reading() as session:
        (found,) = newest_candidates(session, count=9)
        assert (found.state, found.approval.who, found.record.made_by) == ("released", "Erika", "Max")


def test_a_lost_connection_is_seen_and_found_again(recorded, visit):
    page = visit(recorded.url)
    ok = int(page.locator(".figure.ok b").inner_text())
    playwright.expect(state(page)).to_have_text("Records only")
    lost = page.locator(".lost")
    playwright.expect(lost).to_be_hidden()
    page.wait_for_function("window.socket && window.socket.connected")  # the page is there before its connection
    recorded.process.send_signal(signal.SIGKILL)
    recorded.process.wait()
    playwright.expect(lost).to_be_visible(timeout=15_000)
    playwright.expect(lost).to_contain_text("what you see may be old")
    record_parts(recorded.records, 1)
    with recorded.running():
        playwright.expect(lost).to_be_hidden(timeout=30_000)
        playwright.expect(page.locator(".figure.ok b")).to_have_text(str(ok + 1), timeout=30_000)


@pytest.mark.slow
def test_twenty_browsers_read_at_once(tmp_path, visit):
    served = Served(tmp_path)
    record_parts(served.records, 6)
    with served.running():
        pages = [visit(served.url) for _ in range(20)]
        for page in pages:
            playwright.expect(page.locator(".figure.ok b")).to_have_text("4")
        record_parts(served.records, 2)
        for page in pages:
            playwright.expect(page.locator(".figure.ok b")).to_have_text("6")


@pytest.mark.slow
def test_a_candidate_is_made_beside_the_line(tmp_path, visit):
    address, port = make_records(tmp_path), free_port()
    confirm_and_challenge(address)
    url, model = f"http://127.0.0.1:{port}", train_small(tmp_path)
    command = (SUPPORT / "prerendered_line.py", address, model, tmp_path / "users.json", port)
    with serving(*map(str, command), url=url):
        page = visit(url)
        say(page, "Start")
        page.get_by_role("link", name="Candidates", exact=True).click()
        say(page, "Make a candidate")
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Make a candidate").click()
        playwright.expect(page.get_by_text("Give your name")).to_be_visible()
        dialog.get_by_label("Your name").fill("Max")
        dialog.get_by_role("button", name="Make a candidate").click()
        playwright.expect(page.get_by_text("A candidate is being made")).to_be_visible()
        playwright.expect(page.locator(".candidate.passed")).to_contain_text("p-00000 (Erika)", timeout=120_000)
        page.get_by_role("link", name="Line", exact=True).click()
        playwright.expect(state(page)).to_have_text("Running")  # all the while, and with its own model


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
    records, port = address_in(tmp_path), free_port()
    line = ["--cell", str(tmp_path / "cell.yaml"), "--part", "ring", "--model", str(tmp_path / "model")]
    command = ["serve", "--records", records, *line, "--port", str(port), "--users", str(tmp_path / "none.json")]
    with serving("-c", "from cell.commands import main; main()", *command, url=f"http://127.0.0.1:{port}"):
        page = visit(f"http://127.0.0.1:{port}")
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
