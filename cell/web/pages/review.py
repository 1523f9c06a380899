"""Parts that wait for a person's decision."""

from __future__ import annotations

from functools import partial

from nicegui import ui
from sqlalchemy.orm import Session
from starlette.requests import Request

from cell.records.queries import by_entry, count_undecided, undecided
from cell.web.shown import findings, limits_of, shown_views, worst_first
from cell.web.site import PATIENCE_S, Site, Visit, frame, markup

_CARDS = 12
_VIEWS = 2


def put(site: Site) -> None:
    """Register the page."""

    @ui.page("/review", response_timeout=PATIENCE_S)
    async def review(request: Request, before: int | None = None) -> None:
        visit = Visit.of(request)
        frame(site, visit, request, "review")
        markup(await site.read(partial(_render, site, visit, before)))


def _render(site: Site, visit: Visit, before: int | None, session: Session) -> str:
    cards = []
    found = undecided(session, count=_CARDS + 1, before=before)
    for row in found[:_CARDS]:
        inspection = by_entry(session, row.part.entry)
        views = shown_views(site, session, inspection, heatmaps=False)
        cards.append(
            {
                "row": inspection,
                "views": [view for view in worst_first(views) if view.source][:_VIEWS],
                "findings": findings(inspection, limits_of(session, inspection), visit.texts),
            }
        )
    older = f"/review?before={found[_CARDS - 1].part.entry}" if len(found) > _CARDS else ""
    return visit.render("review.html.j2", cards=cards, waiting=count_undecided(session), older=older)
