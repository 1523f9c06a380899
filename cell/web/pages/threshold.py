"""What another threshold would have made of recorded parts."""

from __future__ import annotations

from functools import partial

from nicegui import ui
from nicegui.events import ValueChangeEventArguments
from starlette.requests import Request

from cell.records.threshold import ScoredParts, newest_scored, what_if
from cell.web.drawing import draw_statistics, statistics_range
from cell.web.site import PATIENCE_S, Site, Visit, frame, markup

_PARTS = 1000
_STEPS = 400


def put(site: Site) -> None:
    """Register the page."""

    @ui.page("/threshold", response_timeout=PATIENCE_S)
    async def threshold(request: Request) -> None:
        visit = Visit.of(request)
        frame(site, visit, request, "threshold")
        scored = await site.read(partial(newest_scored, count=_PARTS))
        if scored is None or not scored.parts:
            markup(visit.render("problem.html.j2", problem=visit.texts("no model")))
            return
        markup(visit.render("threshold_head.html.j2", count=len(scored.parts)))
        low, high = statistics_range(scored)
        figures = markup(_figures(visit, scored, scored.threshold))

        def move(event: ValueChangeEventArguments[float | None]) -> None:
            if event.value is not None:
                figures.set_content(_figures(visit, scored, event.value))

        slider = ui.slider(min=low, max=high, step=(high - low) / _STEPS, value=scored.threshold, on_change=move)
        slider.classes("tried").props("label-always=false track-size=10px thumb-size=44px")


def _figures(visit: Visit, scored: ScoredParts, threshold: float) -> str:
    return visit.render(
        "threshold.html.j2",
        scored=scored,
        threshold=threshold,
        what=what_if(scored.parts, threshold),
        now=what_if(scored.parts, scored.threshold),
        drawn=draw_statistics(scored, threshold, visit.texts),
    )
