"""The whole application by HTTP: pages, pictures, login."""

import re
from pathlib import Path

import pytest

pytest.importorskip("nicegui", reason="the operator's page needs twinspect[web]")

from prerendered import make_records
from prerendered_line import record_parts
from starlette.testclient import TestClient

from cell.records.queries import decide_about, newest
from cell.web.app import make_app, open_site
from cell.web.users import UsersFile

PASSWORD = "correct horse"
OWN = {"Origin": "http://localhost", "Host": "localhost"}


# One in a process, as NiceGUI asks for: a worker of pytest-xdist may come back to this module.
@pytest.fixture(scope="session")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    records = make_records(folder)
    record_parts(records, 4)
    with open_site(records, UsersFile(folder / "users.json"), None) as opened:
        yield opened


@pytest.fixture(scope="session")
def app(site):
    return make_app(site)


@pytest.fixture
def client(app, site):
    with TestClient(app, base_url="http://localhost", client=("127.0.0.1", 1), follow_redirects=False) as made:
        yield made
    for name in site.gate._users.all().copy():
        site.gate._users.remove(name)


def entries(site) -> list[int]:
    with site.database.reading() as session:
        return [i.part.entry for i in newest(session, count=4)][::-1]


def test_pages_answer_in_the_readers_language(client):
    english = client.get("/parts", headers={"Accept-Language": "en"}).text
    german = client.get("/parts", headers={"Accept-Language": "de-AT,en;q=0.5"}).text
    assert "p-00002" in english and "reject" in english and "Ausschuss" in german
    client.get("/language/en?back=/parts")
    assert "Ausschuss" not in client.get("/parts", headers={"Accept-Language": "de"}).text


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example", "/\\evil.example", "evil"])
def test_choosing_a_language_leads_nowhere_else(client, back):
    assert client.get("/language/de", params={"back": back}).headers["location"] == "/"


def test_pictures_come_whole_and_small(client, site):
    page = client.get(f"/parts/{entries(site)[2]}").text
    digest = re.search(r"/pictures/([0-9a-f]{64})\.jpg", page).group(1)
    assert client.get(f"/pictures/{digest}.jpg").content[:2] == b"\xff\xd8"
    assert client.get(f"/pictures/{digest}.png").content == site.thumbnails.file(digest).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/pictures/..%2f..%2frecords.sqlite",
        "/pictures/%2e%2e%2frecords.sqlite.png",
        "/pictures/" + "0" * 64 + ".png",
        "/pictures/" + "0" * 64 + ".jpg",
        "/pictures/" + "0" * 64 + ".sqlite",
        "/static/..%2faccess.py",
        "/static/%2e%2e/access.py",
        "/static/../access.py",
    ],
)
def test_path_traversal_is_refused(client, path):
    answer = client.get(path)
    assert answer.status_code == 404 and b"SQLite" not in answer.content and b"Gate" not in answer.content


def test_a_script_in_a_note_stays_a_text(client, site):
    first = entries(site)[0]
    decide_about(site.database, first, "reject", who="<b>me</b>", why="<script>alert(1)</script>${alert(1)}`")
    page = client.get(f"/parts/{first}").text
    assert "alert(1)" in page and "<script>alert" not in page and "<b>me" not in page
    # In NiceGUI's template string neither what ends it nor what is evaluated in it.
    assert "${alert" not in page and "alert(1)}`" not in page


@pytest.mark.parametrize("path", ["/nowhere", "/parts/x", "/parts/1/2/3"])
def test_an_address_that_leads_to_nothing_says_so_and_leads_back(client, path):
    answer = client.get(path, headers={"Accept-Language": "de"})
    assert answer.status_code == 404
    assert "Unter dieser Adresse ist nichts" in answer.text and 'href="/"' in answer.text


def test_a_part_or_picture_that_there_is_not_is_said(client, site):
    assert "99999" in client.get("/parts/99999").text
    assert "no such picture" in client.get(f"/parts/{entries(site)[0]}/99", headers={"Accept-Language": "en"}).text


def test_login_sets_a_cookie_that_scripts_cannot_read(client, site):
    site.gate._users.put("Erika", "operator", PASSWORD)
    assert client.get("/parts").headers["location"] == "/login"
    answer = client.post("/login", data={"name": "Erika", "password": PASSWORD}, headers=OWN)
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 303 and "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert "Erika" in client.get("/parts").text
    assert client.post("/logout", headers=OWN).status_code == 303
    assert client.get("/parts").headers["location"] == "/login"


def test_wrong_passwords_are_refused_and_then_not_even_tried(client, site):
    site.gate._users.put("Max", "viewer", PASSWORD)
    said = [client.post("/login", data={"name": "Max", "password": "wrong horse"}, headers=OWN) for _ in range(6)]
    assert [answer.status_code for answer in said] == [403] * 5 + [429] and int(said[5].headers["retry-after"]) > 200
    right = client.post("/login", data={"name": "Max", "password": PASSWORD}, headers=OWN)
    assert right.status_code == 429 and "set-cookie" not in right.headers


def test_a_large_form_is_not_read(client, site):
    site.gate._users.put("Erika", "operator", PASSWORD)
    assert client.post("/login", content=b"name=" + b"x" * 10_000, headers=OWN).status_code == 413


def test_nothing_of_the_page_is_loaded_from_elsewhere():
    web = Path(make_app.__code__.co_filename).parent
    for file in (*web.rglob("*.j2"), *web.rglob("*.css"), *web.rglob("*.js")):
        assert not re.search(r"(?:https?:)?//[a-z]+\.", file.read_text()), file
