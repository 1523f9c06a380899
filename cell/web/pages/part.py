"""Everything about one inspection, and what a person decides about it."""

from __future__ import annotations

import asyncio
from functools import partial

from nicegui import ui
from sqlalchemy.orm import Session
from starlette.requests import Request

from cell.interfaces import CellError
from cell.records.queries import alarms_of, by_entry, decide_about, decisions_of, faults_of, undecided
from cell.web.drawing import draw_gauge
from cell.web.shown import findings, limits_of, shown_views, worst_first
from cell.web.site import PATIENCE_S, Site, Visit, complain, frame, markup
from cell.web.texts import REASONS

_LONGEST_NOTE = 1000
# The reason that cannot stand for a verdict: candidates learn from parts that were confirmed as ok.
_AGAINST = {"ok": "real defect", "reject": "no defect"}


def put(site: Site) -> None:
    """Register the pages."""

    @ui.page("/parts/{entry}", response_timeout=PATIENCE_S)
    async def part(request: Request, entry: int) -> None:
        visit = Visit.of(request)
        frame(site, visit, request, "parts")
        try:
            head, rest, verdict = await site.read(partial(_render, site, visit, entry))
        except CellError as error:
            markup(visit.render("problem.html.j2", problem=str(error)))
            return
        markup(head)
        if verdict is not None and visit.person.role == "operator":
            _Decision(site, visit, entry, verdict)
        markup(rest)

    @ui.page("/parts/{entry}/{place}", response_timeout=PATIENCE_S)
    async def picture(request: Request, entry: int, place: int) -> None:
        visit = Visit.of(request)
        frame(site, visit, request, "parts")
        ui.add_head_html('<script src="/static/zoom.js" defer></script>')

        def render(session: Session) -> str:
            inspection = by_entry(session, entry)
            view = next((v for v in shown_views(site, session, inspection, whole=True) if v.place == place), None)
            if view is None or not view.source:
                raise CellError(visit.texts("no picture" if view is None else "picture gone"))
            return visit.render("picture.html.j2", i=inspection, v=view)

        try:
            markup(await site.read(render))
        except CellError as error:
            markup(visit.render("problem.html.j2", problem=str(error)))


def _render(site: Site, visit: Visit, entry: int, session: Session) -> tuple[str, str, str | None]:
    """Return what stands above and below the decision, and as what the part ended; None while it is under way."""
    inspection = by_entry(session, entry)
    limits = limits_of(session, inspection)
    mass_g = inspection.verdict.mass_g if inspection.verdict else None
    head = visit.render(
        "part_head.html.j2",
        i=inspection,
        findings=findings(inspection, limits, visit.texts),
        decisions=decisions_of(session, entry),
        waits=next((found.part.entry for found in undecided(session, count=1)), None),
    )
    rest = visit.render(
        "part.html.j2",
        i=inspection,
        faults=[fault.message for fault in faults_of(session, entry)],
        alarms=[alarm.message for alarm in alarms_of(session, entry)],
        gauge=draw_gauge(mass_g, limits, visit.texts),
        views=worst_first(shown_views(site, session, inspection)),
    )
    return head, rest, inspection.ending.verdict if inspection.ending else None


class _Decision:
    """Confirms or overrules a verdict: a reason that can be chosen without a keyboard, and the name."""

    def __init__(self, site: Site, visit: Visit, entry: int, verdict: str) -> None:
        self._site = site
        self._visit = visit
        self._entry = entry
        texts = visit.texts
        with ui.element("section").classes("decide"):
            ui.html(f"<h2>{texts('decide')}</h2>", sanitize=False)
            self._reason = ui.toggle({key: texts(key) for key in REASONS}).props("no-caps unelevated")
            with ui.element("div").classes("fields"):
                self._note = ui.input(texts("note")).props(f"outlined dense counter maxlength={_LONGEST_NOTE}")
                self._who = ui.input(texts("your name")).props("outlined dense maxlength=80")
                self._who.set_visibility(visit.person.name is None)
                for choice in (verdict, *(other for other in ("ok", "reject") if other != verdict)):
                    label = texts("confirm" if choice == verdict else "overrule", verdict=texts(choice))
                    button = ui.button(label, color=None, on_click=partial(self._decide, choice))
                    button.props("unelevated no-caps").classes(f"choose {choice}")

    async def _decide(self, verdict: str) -> None:
        person, texts = self._visit.person, self._visit.texts
        try:
            self._site.gate.require_operator(person)
            who = person.name or self._who.value.strip()
            why = ": ".join(said for said in (self._reason.value, self._note.value.strip()[:_LONGEST_NOTE]) if said)
            if not why:
                raise CellError(texts("reason missing"))
            if self._reason.value == _AGAINST.get(verdict):
                said = texts(self._reason.value)
                raise CellError(texts("contradiction", reason=said, verdict=texts(verdict)))
            if not who:
                raise CellError(texts("name missing"))
            await asyncio.to_thread(decide_about, self._site.database, self._entry, verdict, who=who[:80], why=why)
        except CellError as error:
            complain(error)
            return
        ui.navigate.to(f"/parts/{self._entry}")
