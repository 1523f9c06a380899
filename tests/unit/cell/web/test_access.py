"""Who is let in, and what a browser is told: every refusal of the operator's page."""

import hashlib

import pytest

pytest.importorskip("argon2", reason="the operator's page needs twinspect[web]")

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from cell.interfaces import ConfigError
from cell.web.access import COOKIE, AccessMiddleware, Gate, Person, Refused, Throttle
from cell.web.users import UsersFile

HERE, ELSEWHERE = ("127.0.0.1", 50000), ("192.0.2.7", 50000)
PASSWORD = "correct horse"


async def _who(request):
    person = request.state.person
    return PlainTextResponse(f"{person.name} {person.role} {'here' if person.local else 'elsewhere'}")


async def _page(request):
    return HTMLResponse("<p>&lt;script></p><script>go()</script>")


async def _socket(websocket):
    await websocket.accept()
    await websocket.send_text("in")
    await websocket.close()


@pytest.fixture
def users(tmp_path):
    return UsersFile(tmp_path / "users.json")


@pytest.fixture
def known(users):
    users.put("Erika", "operator", PASSWORD)
    users.put("Max", "viewer", PASSWORD)
    return users


def browser(users: UsersFile, peer=HERE, host="localhost:8080", gate=None) -> TestClient:
    routes = [
        Route("/", _who, methods=["GET", "POST"]),
        Route("/login", _page),
        Route("/page", _page),
        WebSocketRoute("/ws", _socket),
    ]
    app = AccessMiddleware(Starlette(routes=routes), gate or Gate(users))
    return TestClient(app, base_url=f"http://{host}", client=peer, follow_redirects=False)


def logged_in(users: UsersFile, name: str, peer=HERE) -> tuple[TestClient, Gate, str]:
    gate = Gate(users)
    token = gate.log_in(name, PASSWORD)
    client = browser(users, peer, gate=gate)
    client.cookies.set(COOKIE, token)
    return client, gate, token


def test_without_users_only_the_own_machine_is_answered(users):
    assert browser(users).get("/").text == "None operator here"
    assert browser(users, ELSEWHERE).get("/").status_code == 403
    assert browser(users, ("::1", 1), "[::1]:8080").get("/").status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_a_proxy_on_the_own_machine_does_not_bring_its_users_here(users, known, header):
    client, _, _ = logged_in(known, "Erika")
    assert client.get("/").text.endswith("here")
    assert client.get("/", headers={header: "127.0.0.1"}).text == "Erika operator elsewhere"


def test_a_foreign_name_that_points_here_is_refused(users):
    answer = browser(users, host="evil.example:8080").get("/", headers={"Origin": "http://evil.example:8080"})
    assert answer.status_code == 403 and "not this machine" in answer.text


@pytest.mark.parametrize("origin", ["http://evil.example", "http://localhost:81", "null", None])
def test_a_forged_origin_can_neither_post_nor_open_a_websocket(users, origin):
    headers = {} if origin is None else {"Origin": origin}
    assert browser(users).post("/", headers=headers).status_code == 403
    with pytest.raises(WebSocketDisconnect) as refused, browser(users).websocket_connect("/ws", headers=headers):
        pass
    assert refused.value.code == 1008


def test_pages_of_this_server_post_and_open_websockets(users):
    own = {"Origin": "http://localhost:8080", "Host": "localhost:8080"}
    assert browser(users).post("/", headers=own).status_code == 200
    with browser(users).websocket_connect("/ws", headers=own) as socket:
        assert socket.receive_text() == "in"


def test_with_users_everybody_logs_in(known):
    client = browser(known)
    assert client.get("/").headers["location"] == "/login"
    assert client.get("/login").status_code == 200
    own = {"Origin": "http://localhost:8080", "Host": "localhost:8080"}
    assert client.post("/", headers=own).status_code == 403
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws", headers=own):
        pass
    client.cookies.set(COOKIE, "guessed")
    assert client.get("/").status_code == 303


def test_sessions_end_with_log_out_another_password_and_removal(known):
    for end in (
        lambda gate, client, person: gate.log_out(person),
        lambda gate, client, person: known.put("Erika", "operator", PASSWORD + "!"),
        lambda gate, client, person: known.remove("Erika"),
    ):
        known.put("Erika", "operator", PASSWORD)
        client, gate, token = logged_in(known, "Erika")
        assert client.get("/").text == "Erika operator here"
        person = Person("Erika", "operator", True, _key(token))
        gate.require_operator(person)
        end(gate, client, person)
        assert client.get("/").status_code == 303
        with pytest.raises(Refused, match="log in again"):
            gate.require_operator(person)


def test_a_viewer_and_a_remote_operator_may_not_start(known):
    _, gate, token = logged_in(known, "Max")
    with pytest.raises(Refused, match="Only an operator"):
        gate.require_operator(Person("Max", "viewer", True, _key(token)))
    with pytest.raises(Refused, match="Only an operator"):  # whatever the page believed
        gate.require_operator(Person("Max", "operator", True, _key(token)))
    _, gate, token = logged_in(known, "Erika")
    gate.require_operator(Person("Erika", "operator", False, _key(token)))
    with pytest.raises(Refused, match="own machine"):
        gate.require_operator(Person("Erika", "operator", False, _key(token)), local=True)


def test_wrong_credentials(known):
    gate = Gate(known)
    assert gate.log_in("Erika", "wrong horse!") is None and gate.log_in("Nobody", PASSWORD) is None
    assert gate.log_in("Erika", PASSWORD)


def test_failures_are_limited_by_address_and_by_name(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    throttle = Throttle()
    for _ in range(5):
        assert throttle.waits("peer a", "name x") == 0
        throttle.failed("peer a", "name x")
    assert throttle.waits("peer a", "name y") > 0 and throttle.waits("peer b", "name x") > 0
    assert throttle.waits("peer b", "name y") == 0
    throttle.succeeded("peer a")
    assert throttle.waits("peer a") == 0 < throttle.waits("name x")
    now = 301.0
    assert throttle.waits("name x") == 0


def test_headers_and_the_nonce_of_the_pages_own_scripts(users):
    answer = browser(users).get("/page")
    policy = answer.headers["content-security-policy"]
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert answer.text == f'<p>&lt;script></p><script nonce="{nonce}">go()</script>'
    assert "frame-ancestors 'none'" in policy and "script-src 'self' 'nonce-" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    for header, value in (
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
    ):
        assert answer.headers[header] == value
    assert browser(users).get("/page").headers["content-security-policy"] != policy


def test_the_file_keeps_no_password_and_is_its_owners_alone(known):
    text = known.path.read_text()
    assert PASSWORD not in text and text.count("$argon2id$") == 2
    assert known.path.stat().st_mode & 0o777 == 0o600
    known.path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        UsersFile(known.path).all()


@pytest.mark.parametrize(("name", "password"), [("Erika", "short"), ("", PASSWORD), ("a\nb", PASSWORD)])
def test_unfit_names_and_passwords_are_refused(users, name, password):
    with pytest.raises(ConfigError):
        users.put(name, "operator", password)
    assert not users.path.exists()


def test_a_damaged_file_is_refused(users):
    users.path.write_text("{")
    users.path.chmod(0o600)
    with pytest.raises(ConfigError, match="is no file of users"):
        users.all()


def _key(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
