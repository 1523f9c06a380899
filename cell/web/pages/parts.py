"""The list of parts, page by page."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlencode

from nicegui import ui
from starlette.requests import Request

from cell.web.overview import read_rows
from cell.web.site import PATIENCE_S, Site, Visit, frame, markup

_ROWS = 50
_VERDICTS = ("ok", "reject", "recheck")


def put(site: Site) -> None:
    """Register the page."""

    @ui.page("/parts", response_timeout=PATIENCE_S)
    async def parts(request: Request, verdict: str = "", part: str = "", before: int | None = None) -> None:
        visit = Visit.of(request)
        frame(site, visit, request, "parts")
        wanted = verdict if verdict in _VERDICTS else None
        name = part.strip() or None
        rows = await site.read(partial(read_rows, count=_ROWS + 1, verdict=wanted, named=name, before=before))
        older = ""
        if len(rows) > _ROWS:
            kept = {"verdict": wanted, "part": name, "before": str(rows[_ROWS - 1].inspection)}
            older = "/parts?" + urlencode({key: value for key, value in kept.items() if value})
        markup(visit.render("parts.html.j2", rows_=rows[:_ROWS], verdict=wanted, part=name, older=older))
