"""Masses and control charts."""

from __future__ import annotations

from functools import partial

from nicegui import ui
from sqlalchemy.orm import Session
from starlette.requests import Request

from cell.records.charts import mass_limits, newest_masses, newest_run, traces
from cell.records.drift import BASELINE, MASS
from cell.web.drawing import draw_masses, draw_trace
from cell.web.site import PATIENCE_S, Site, Visit, frame, markup

_SHOWN = 100


def put(site: Site) -> None:
    """Register the page."""

    @ui.page("/charts", response_timeout=PATIENCE_S)
    async def charts(request: Request) -> None:
        visit = Visit.of(request)
        frame(site, visit, request, "charts")
        markup(await site.read(partial(_render, visit)))


def _render(visit: Visit, session: Session) -> str:
    run = newest_run(session)
    limits = mass_limits(session, run) if run is not None else None
    control = [
        (name, trace, draw_trace(name, trace, visit.texts)) for name, trace in traces(session, shown=_SHOWN).items()
    ]
    # What needs a look first.
    control.sort(key=lambda chart: (not chart[1].outside, chart[0] != MASS, chart[0]))
    masses = draw_masses(newest_masses(session, count=_SHOWN), limits, visit.texts)
    return visit.render("charts.html.j2", masses=masses, control=control, baseline=BASELINE)
