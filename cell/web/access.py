"""Who asks: sessions, origins, and the headers that keep a browser from being used against its user."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cell.interfaces import CellError
from cell.web.users import Role, User, UsersFile

COOKIE = "twinspect_session"
LOGIN = "/login"
_SESSION_S = 12 * 3600.0
_SESSIONS = 1000
_FAILURES = 5
_FORGIVEN_S = 300.0
_REMEMBERED = 10_000
# Proxies add these. They are never believed; that one is there means that the peer is not the person.
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


class Refused(CellError):
    """Somebody asked for what they may not."""


@dataclass(frozen=True)
class Person:
    """Who is at the page.

    Attributes
    ----------
    name : str or None
        None where nobody needs to log in.
    role : Role
    local : bool
        Whether the browser runs on the cell's own machine.
    session : str
        The key of the session; empty where nobody needs to log in.
    """

    name: str | None
    role: Role
    local: bool
    session: str = ""


@dataclass(frozen=True)
class _Session:
    name: str
    hash: str
    until: float


class Throttle:
    """Failures by who fails, so that passwords cannot be tried at will."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def waits(self, *keys: str) -> float:
        """Return for how many seconds nothing more may be tried, 0 where something may."""
        now = time.monotonic()
        waits = 0.0
        for key in keys:
            recent = [at for at in self._failures.get(key, ()) if now - at < _FORGIVEN_S]
            if len(recent) >= _FAILURES:
                waits = max(waits, recent[-_FAILURES] + _FORGIVEN_S - now)
        return waits

    def failed(self, *keys: str) -> None:
        """Count a failure."""
        for key in keys:
            self._failures[key] = [*self._failures.pop(key, ())[-_FAILURES + 1 :], time.monotonic()]
        while len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        """Take back what was counted in advance; earlier failures stay: an account is no way to try at others."""
        for key in keys:
            self._failures[key] = self._failures[key][:-1]


class Gate:
    """Knows who has logged in.

    Parameters
    ----------
    users : UsersFile
        Where it has users, everybody logs in; else only the own machine is answered.
    """

    def __init__(self, users: UsersFile) -> None:
        self._users = users
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self.throttle = Throttle()

    @property
    def asks(self) -> bool:
        """Whether one has to log in."""
        return bool(self._users.all())

    def log_in(self, name: str, password: str) -> str | None:
        """Return a new session's token for its cookie, or None where name or password are wrong; takes 50 ms."""
        user = self._users.check(name, password)
        if user is None:
            return None
        token = secrets.token_urlsafe(32)
        self._sessions[_key(token)] = _Session(name, user.hash, time.monotonic() + _SESSION_S)
        while len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def log_out(self, person: Person) -> None:
        """End a session."""
        self._sessions.pop(person.session, None)

    def person(self, connection: HTTPConnection) -> Person | None:
        """Return who asks, None where they have to log in first."""
        local = is_local(connection)
        if not self.asks:
            return Person(None, "operator", local) if local else None
        token = _cookie(connection.headers)
        user, session = self._holder(_key(token)) if token else (None, None)
        if user is None or session is None:
            return None
        return Person(session.name, user.role, local, _key(token or ""))

    def require_operator(self, person: Person, *, local: bool = False) -> None:
        """Refuse who may not act now, whatever they could when their page was made.

        Parameters
        ----------
        person : Person
        local : bool
            Whether it has to be at the cell's own machine.
        """
        role: Role | None = person.role
        if person.session or self.asks:
            user, _ = self._holder(person.session)
            role = user.role if user else None
        if role is None:
            raise Refused("Your session has ended; log in again")
        if role != "operator":
            raise Refused("Only an operator may do this")
        if local and not person.local:
            raise Refused("This is done at the cell's own machine, by a person who sees the cell")

    def _holder(self, key: str) -> tuple[User | None, _Session | None]:
        session = self._sessions.get(key)
        if session is None or session.until < time.monotonic():
            return None, None
        user = self._users.all().get(session.name)
        # Another password ends the sessions of the one before.
        return (user, session) if user and user.hash == session.hash else (None, None)


class AccessMiddleware:
    """Lets only those in whom the gate knows, from pages of this server, and says so in the headers.

    Parameters
    ----------
    app : ASGI application
    gate : Gate
    """

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or a websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        refusal = _forged(connection, asks=self._gate.asks)
        person = self._gate.person(connection)
        if refusal is None and person is None and scope["path"] != LOGIN:
            refusal = "log in first"
        nonce = secrets.token_urlsafe(16)
        if refusal is None:
            scope.setdefault("state", {})["person"] = person
            await self._app(scope, receive, _Secured(send, nonce) if scope["type"] == "http" else send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal})
        else:
            page = person is None and self._gate.asks and scope["method"] == "GET" and refusal == "log in first"
            answer = RedirectResponse(LOGIN, 303) if page else PlainTextResponse(f"Refused: {refusal}\n", 403)
            await answer(scope, receive, _Secured(send, nonce))


class _Secured:
    """Adds headers to an answer, and the page's nonce to NiceGUI's own inline scripts."""

    def __init__(self, send: Send, nonce: str) -> None:
        self._send = send
        self._nonce = nonce
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            html = headers.get("content-type", "").startswith("text/html")
            headers["content-security-policy"] = _policy(self._nonce)
            headers["x-content-type-options"] = "nosniff"
            headers["x-frame-options"] = "DENY"
            headers["referrer-policy"] = "same-origin"
            headers["cross-origin-opener-policy"] = "same-origin"
            headers["cross-origin-resource-policy"] = "same-origin"
            headers["permissions-policy"] = "camera=(), geolocation=(), microphone=()"
            if html or "cache-control" not in headers:
                headers["cache-control"] = "no-store"
            if html:
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            # NiceGUI escapes every "<" of what it is given, so a script's tag is always one of its own template.
            body = self._body.replace(b"<script", f'<script nonce="{self._nonce}"'.encode())
            MutableHeaders(scope=self._start)["content-length"] = str(len(body))
            await self._send(self._start)
            message = {"type": "http.response.body", "body": body}
        await self._send(message)


def is_local(connection: HTTPConnection) -> bool:
    """Whether the browser runs on this machine: the peer is a loopback address, and no proxy stands between."""
    if any(name in connection.headers for name in _FORWARDED):
        return False
    return connection.client is not None and _loopback(connection.client.host)


def _forged(connection: HTTPConnection, *, asks: bool) -> str | None:
    """Say what is wrong with where a request comes from; None where nothing is."""
    host = connection.headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return "the host cannot be read"
    # A foreign name that was made to point here: without a login nothing else tells its pages from ours.
    if not asks and not (name == "localhost" or _loopback(name)):
        return f"the host {name} is not this machine"
    origin = connection.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return "the request comes from a page of another server"
    if origin is None and (
        connection.scope["type"] == "websocket" or connection.scope["method"] not in ("GET", "HEAD")
    ):
        return "the request does not say from which page it comes"
    return None


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None


def _policy(nonce: str) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            # NiceGUI evaluates what the server sends over the websocket; inline scripts run with the nonce alone.
            f"script-src 'self' 'nonce-{nonce}' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "font-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )
