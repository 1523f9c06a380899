"""What all pages have in common: the records, the line, who is there, and the frame around each page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader
from nicegui import ui
from sqlalchemy.orm import Session
from starlette.requests import Request

from cell.records.database import Database
from cell.records.marks import MarkStore
from cell.web.access import Gate, Person
from cell.web.line import LineProcess
from cell.web.making import CandidateMaker
from cell.web.pictures import Thumbnails
from cell.web.texts import LANGUAGES, Texts, choose_language

_ResultT = TypeVar("_ResultT")

PATIENCE_S = 30.0
"""For how long a page may take on a machine whose line has the right of way; NiceGUI sends an empty one after 3 s."""

LANGUAGE_COOKIE = "twinspect_language"
_CALLED_S = 1.0
PAGES = (
    ("line", "/"),
    ("parts", "/parts"),
    ("review", "/review"),
    ("charts", "/charts"),
    ("threshold", "/threshold"),
    ("candidates", "/candidates"),
)

_templates = Environment(loader=PackageLoader("cell.web", "templates"), autoescape=True, trim_blocks=True)


@dataclass(frozen=True)
class Site:
    """What the pages read, and whom they let in.

    Attributes
    ----------
    database : Database
        Open.
    marks : MarkStore
    thumbnails : Thumbnails
    gate : Gate
    line : LineProcess or None
        None where the page only reads records.
    maker : CandidateMaker or None
        As the line.
    """

    database: Database
    marks: MarkStore
    thumbnails: Thumbnails
    gate: Gate
    line: LineProcess | None
    maker: CandidateMaker | None

    async def read(self, query: Callable[[Session], _ResultT]) -> _ResultT:
        """Return what a query says, asked in another thread: other pages do not wait for it."""

        def asked() -> _ResultT:
            with self.database.reading() as session:
                return query(session)

        return await asyncio.to_thread(asked)


@dataclass(frozen=True)
class Visit:
    """A person at a page: who it is, and in which language they read."""

    person: Person
    texts: Texts

    @classmethod
    def of(cls, request: Request) -> Visit:
        """Return whose request it is; the middleware has let them in."""
        return cls(request.state.person, texts_of(request))

    def render(self, template: str, **values: Any) -> str:
        """Fill a template in, everything in it escaped."""
        return render(template, self.texts, person=self.person, **values)


def texts_of(request: Request) -> Texts:
    """Return the texts in the language of a request."""
    return Texts(choose_language(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", "")))


def render(template: str, texts: Texts, **values: Any) -> str:
    """Fill a template in, everything in it escaped."""
    return _templates.get_template(template).render(t=texts, local_time=_local_time, **values)


def frame(site: Site, visit: Visit, request: Request, page: str) -> None:
    """Put the head of a page: where one can go, in which language, who is there; and whether the line needs help."""
    texts = visit.texts
    ui.page_title(f"twinspect: {texts(page)}")
    ui.add_head_html('<link rel="stylesheet" href="/static/style.css">')
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    markup(visit.render("head.html.j2", page=page, pages=PAGES, languages=LANGUAGES, here=here))
    line = site.line
    if line is None or page == "line":
        return
    shown = line.snapshot.state
    call = markup(visit.render("call.html.j2", state=shown))

    def refresh() -> None:
        nonlocal shown
        if line.snapshot.state != shown:
            shown = line.snapshot.state
            call.set_content(visit.render("call.html.j2", state=shown))

    ui.timer(_CALLED_S, refresh)


def markup(html: str) -> ui.html:
    """Put what a template was rendered to; there everything that somebody wrote is escaped."""
    return ui.html(html, sanitize=False).classes("w-full")


def complain(error: Exception) -> None:
    """Show a refusal."""
    ui.notify(str(error), type="negative", position="top", timeout=8000, close_button=True)


def _local_time(at: str) -> str:
    """Return a time of the records, UTC, as the clock of this machine shows it."""
    return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
