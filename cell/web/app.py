"""The server of the pages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from nicegui import app as pages_app
from nicegui import ui
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from cell.interfaces import CellError
from cell.records.address import Address
from cell.records.database import Database
from cell.records.marks import MarkStore
from cell.web.access import COOKIE, LOGIN, AccessMiddleware, Gate
from cell.web.line import LineProcess
from cell.web.making import CandidateMaker
from cell.web.pages import candidates, charts, line, part, parts, review, threshold
from cell.web.pictures import Thumbnails
from cell.web.site import LANGUAGE_COOKIE, Site, render, texts_of
from cell.web.texts import LANGUAGES
from cell.web.users import UsersFile

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LARGEST_FORM = 4096
_FOR_EVER = {"cache-control": "private, max-age=31536000, immutable"}
_FAVICON = "◎"


@contextmanager
def open_site(records: str, users: UsersFile, line_process: LineProcess | None) -> Iterator[Site]:
    """Open the records, made where a line will write them."""
    address = Address.parse(records)
    with Database(address, create=line_process is not None) as database:
        marks, thumbnails = MarkStore(address.pictures), Thumbnails(address.pictures)
        if line_process is None:
            yield Site(database, marks, thumbnails, Gate(users), None, None)
            return
        with CandidateMaker(records, line_process.model, line_process.order.part) as maker:
            yield Site(database, marks, thumbnails, Gate(users), line_process, maker)


def make_app(site: Site) -> FastAPI:
    """Return the application of all pages; one in a process, for NiceGUI keeps its pages with the process."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _put_login(app, site)
    _put_pictures(app, site)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    for page in (line, parts, part, review, charts, threshold, candidates):
        page.put(site)
    for nowhere in (404, RequestValidationError):
        pages_app.add_exception_handler(nowhere, _nowhere)
    ui.run_with(
        app,
        title="twinspect",
        favicon=_FAVICON,
        tailwind=False,
        gzip_middleware_factory=None,  # the page's nonce is put in before it is compressed
        show_welcome_message=False,
    )
    app.add_middleware(AccessMiddleware, gate=site.gate)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=4)
    return app


def run_server(app: FastAPI, host: str, port: int, tls: tuple[Path, Path] | None = None) -> None:
    """Answer until the process is asked to end, by HTTPS where there are a certificate and its key."""
    certificate, key = tls or (None, None)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        # A proxy's word on who asks is not believed: see `cell.web.access.is_local`.
        proxy_headers=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    uvicorn.Server(config).run()


async def _nowhere(request: Request, error: Exception) -> Response:
    """Answer where an address leads to nothing: mistyped, or of a part that has another number."""
    return HTMLResponse(render("nowhere.html.j2", texts_of(request)), 404)


def _put_login(app: FastAPI, site: Site) -> None:
    gate = site.gate

    def page(request: Request, problem: str = "", status: int = 200) -> HTMLResponse:
        return HTMLResponse(render("login.html.j2", texts_of(request), problem=problem), status)

    @app.get(LOGIN)
    def ask(request: Request) -> Response:
        return page(request) if gate.asks and request.state.person is None else RedirectResponse("/", 303)

    @app.post(LOGIN)
    async def log_in(request: Request) -> Response:
        form = await _form(request)
        if form is None:
            return PlainTextResponse("Refused: the form is too large\n", 413)
        name, password = form.get("name", ""), form.get("password", "")
        keys = (f"peer {request.client.host if request.client else ''}", f"name {name}")
        texts = texts_of(request)
        waits = gate.throttle.waits(*keys)
        if waits:
            refused = page(request, texts("wait", seconds=int(waits) + 1), 429)
            refused.headers["retry-after"] = str(int(waits) + 1)
            return refused
        # Counted before it is known, so that many at once are no way around.
        gate.throttle.failed(*keys)
        token = await asyncio.to_thread(gate.log_in, name, password)
        if token is None:
            return page(request, texts("wrong"), 403)
        gate.throttle.succeeded(*keys)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https")
        return answer

    @app.post("/logout")
    def log_out(request: Request) -> Response:
        gate.log_out(request.state.person)
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(COOKIE)
        return answer

    @app.get("/language/{language}")
    def choose(request: Request, language: str, back: str = "/") -> Response:
        target = urlsplit(back)
        here = back.startswith("/") and not target.netloc and "\\" not in back
        answer = RedirectResponse(back if here else "/", 303)
        if language in LANGUAGES:
            secure = request.url.scheme == "https"
            answer.set_cookie(LANGUAGE_COOKIE, language, max_age=31536000, samesite="strict", secure=secure)
        return answer


async def _form(request: Request) -> dict[str, str] | None:
    """Return the fields of a form, None where it is larger than any login."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_FORM:
            return None
    return {key: values[0] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _put_pictures(app: FastAPI, site: Site) -> None:
    @app.get("/pictures/{name}")
    def picture(name: str) -> Response:
        digest, _, kind = name.partition(".")
        if not _DIGEST.fullmatch(digest) or kind not in ("png", "jpg"):
            return PlainTextResponse("There is no such picture\n", 404)
        if kind == "png":
            path = site.thumbnails.file(digest)
            if path.is_file():
                return FileResponse(path, media_type="image/png", headers=_FOR_EVER)
        else:
            try:
                return Response(site.thumbnails.get(digest), media_type="image/jpeg", headers=_FOR_EVER)
            except CellError as error:
                return PlainTextResponse(f"{error}\n", 404)
        return PlainTextResponse("There is no such picture\n", 404)
