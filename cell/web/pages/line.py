"""How the line stands, today's figures, and the commands."""

from __future__ import annotations

from functools import partial

from nicegui import ui
from starlette.requests import Request

from cell.interfaces import CellError
from cell.web.overview import SharedOverview
from cell.web.site import PATIENCE_S, Site, Visit, complain, frame, markup
from cell.web.snapshot import ALLOWED, Command, Snapshot

_REFRESHED_S = 0.5
_LOCAL: tuple[Command, ...] = ("start", "resume", "acknowledge")
_CAPTIONS: dict[Command, str] = {"pause": "ends the part", "stop": "no emergency stop"}
_ICONS = {"start": "play_arrow", "pause": "pause", "resume": "play_arrow", "stop": "stop", "acknowledge": "check"}


def put(site: Site) -> None:
    """Register the page."""
    shared = SharedOverview()

    @ui.page("/", response_timeout=PATIENCE_S)
    async def line(request: Request) -> None:
        visit = Visit.of(request)
        frame(site, visit, request, "line")
        state = markup(_state(site, visit))
        commands = _Commands(site, visit) if site.line is not None else None
        key, overview = await site.read(shared.read)
        figures = markup(visit.render("overview.html.j2", overview=overview))
        shown = [key, _snapshot(site)]

        async def refresh() -> None:
            snapshot = _snapshot(site)
            if snapshot != shown[1]:
                shown[1] = snapshot
                state.set_content(_state(site, visit))
                if commands is not None:
                    commands.fit()
            key, overview = await site.read(shared.read)
            if key != shown[0]:
                shown[0] = key
                figures.set_content(visit.render("overview.html.j2", overview=overview))

        ui.timer(_REFRESHED_S, refresh)


def _snapshot(site: Site) -> Snapshot | None:
    return None if site.line is None else site.line.snapshot


def _state(site: Site, visit: Visit) -> str:
    snapshot = _snapshot(site)
    views = () if site.line is None else site.line.order.part.content.view_names
    state = "records" if snapshot is None else snapshot.state
    return visit.render("state.html.j2", state=state, snapshot=snapshot, views=views)


class _Commands:
    """The buttons: those that make no sense now are not there, those that this person may not press are grey."""

    def __init__(self, site: Site, visit: Visit) -> None:
        self._site = site
        self._visit = visit
        self._buttons: dict[Command, ui.element] = {}
        texts = visit.texts
        with ui.element("section").classes("commands"):
            self._who = ui.input(texts("your name")).classes("who-acts").props("outlined maxlength=80")
            for command in ("start", "resume", "acknowledge", "pause", "stop"):
                with ui.element("div").classes(f"command {command}") as place:
                    button = ui.button(
                        texts(command), icon=_ICONS[command], color=None, on_click=partial(self._ask, command)
                    )
                    button.props("unelevated no-caps").set_enabled(self._may(command))
                    if command in _CAPTIONS:
                        ui.label(texts(_CAPTIONS[command])).classes("caption")
                self._buttons[command] = place
            if visit.person.role != "operator":
                ui.label(texts("viewer")).classes("caption")
            elif not visit.person.local:
                ui.label(texts("here only")).classes("caption")
        self.fit()

    def fit(self) -> None:
        """Show what makes sense in the line's state."""
        assert self._site.line is not None
        state = self._site.line.snapshot.state
        for command, place in self._buttons.items():
            place.set_visibility(command in ALLOWED[state])
        # Who acknowledges goes on record: whoever is not logged in says it here.
        self._who.set_visibility(state == "held" and self._visit.person.name is None)

    def _may(self, command: Command) -> bool:
        person = self._visit.person
        return person.role == "operator" and (person.local or command not in _LOCAL)

    def _ask(self, command: Command) -> None:
        assert self._site.line is not None
        try:
            self._site.gate.require_operator(self._visit.person, local=command in _LOCAL)
            who = self._visit.person.name or self._who.value.strip()
            if command == "acknowledge" and not who:
                raise CellError(self._visit.texts("name missing"))
            self._site.line.ask(command, who)
        except CellError as error:
            complain(error)
