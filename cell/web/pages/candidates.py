"""Candidates: models that learned from confirmed parts, what their challenge found, and their release."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui
from starlette.requests import Request

from cell.candidates import release_candidate
from cell.interfaces import CellError
from cell.records.candidates import Candidate, newest_candidates
from cell.web.site import PATIENCE_S, Site, Visit, complain, frame, markup
from detection import DetectionError

_SHOWN = 20
_REFRESHED_S = 1.0
_LONGEST_NOTE = 1000


def put(site: Site) -> None:
    """Register the page."""

    @ui.page("/candidates", response_timeout=PATIENCE_S)
    async def candidates(request: Request) -> None:
        visit = Visit.of(request)
        frame(site, visit, request, "candidates")
        markup(visit.render("candidates_head.html.j2"))
        page = _Candidates(site, visit)
        await page.refresh()
        ui.timer(_REFRESHED_S, page.refresh)


class _Candidates:
    """The list, kept new, and what an operator may ask for."""

    def __init__(self, site: Site, visit: Visit) -> None:
        self._site = site
        self._visit = visit
        self._operator = visit.person.role == "operator"
        self._shown: object = None
        with ui.element("section").classes("commands making"):
            if site.maker is not None and self._operator:
                self._button = ui.button(visit.texts("make candidate"), color=None, on_click=self._ask_to_make)
                self._button.props("unelevated no-caps")
            self._making = markup("")
        self._list = ui.element("section").classes("candidates")

    async def refresh(self) -> None:
        """Show what has changed."""
        maker = self._site.maker
        found = await self._site.read(partial(newest_candidates, count=_SHOWN))
        now = None if maker is None else maker.now
        key = now, [(candidate.record.entry, candidate.state) for candidate in found]
        if key == self._shown:
            return
        self._shown = key
        self._making.set_content(self._visit.render("making.html.j2", now=now))
        if maker is not None and self._operator:
            self._button.set_enabled(not maker.now.running)
        self._list.clear()
        with self._list:
            for candidate in found:
                self._show(candidate)
            if not found:
                markup(self._visit.render("nothing.html.j2"))

    def _show(self, candidate: Candidate) -> None:
        with ui.element("article").classes(f"candidate {candidate.state}"):
            markup(self._visit.render("candidate.html.j2", c=candidate))
            if candidate.state == "passed" and self._operator:
                texts = self._visit.texts
                button = ui.button(texts("release"), color=None, on_click=partial(self._ask_to_release, candidate))
                button.props("unelevated no-caps").classes("choose ok")

    def _ask_to_make(self) -> None:
        self._confirm("make candidate", "make note", self._make)

    async def _make(self, who: str, why: str) -> None:
        assert self._site.maker is not None
        await asyncio.to_thread(self._site.maker.start, who)

    def _ask_to_release(self, candidate: Candidate) -> None:
        self._confirm("release", "release note", partial(self._release, candidate.record.entry), asks_why=True)

    async def _release(self, entry: int, who: str, why: str) -> None:
        await asyncio.to_thread(release_candidate, self._site.database, entry, who=who, why=why)

    def _confirm(
        self, title: str, note: str, act: Callable[[str, str], Awaitable[None]], *, asks_why: bool = False
    ) -> None:
        """Ask once more, and for what goes on record; then act, if the person still may."""
        person, texts = self._visit.person, self._visit.texts
        with ui.dialog() as dialog, ui.element("div").classes("ask"):
            markup(self._visit.render("ask.html.j2", title=title, note=note))
            why = ui.input(texts("reason")).props(f"outlined maxlength={_LONGEST_NOTE}")
            why.set_visibility(asks_why)
            name = ui.input(texts("your name")).props("outlined maxlength=80")
            name.set_visibility(person.name is None)

            async def confirmed() -> None:
                try:
                    self._site.gate.require_operator(person)
                    who, said = person.name or name.value.strip(), why.value.strip()
                    if not who:
                        raise CellError(texts("name missing"))
                    if asks_why and not said:
                        raise CellError(texts("reason missing"))
                    await act(who[:80], said[:_LONGEST_NOTE])
                except (CellError, DetectionError) as error:
                    complain(error)
                    return
                dialog.close()
                await self.refresh()

            with ui.element("div").classes("fields"):
                for label, do, kind in (("back", dialog.close, ""), (title, confirmed, "ok")):
                    button = ui.button(texts(label), color=None, on_click=do)
                    button.props("unelevated no-caps").classes(f"choose {kind}")
        dialog.open()
