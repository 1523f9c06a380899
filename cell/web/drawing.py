"""Charts as SVG, drawn here: light enough for a tablet, and large enough to be read at two metres."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from cell.records.charts import Trace, WeighedPart
from cell.records.threshold import ScoredParts
from cell.schema import MassLimits
from cell.web.texts import Texts

_WIDTH, _HEIGHT = 1200, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 110, 20, 20, 40
_BINS = 60


class _Plot:
    """A plot of whole numbers along x against values along y."""

    def __init__(self, low: float, high: float, count: float, *, first: float = 0.0) -> None:
        margin = (high - low) * 0.1 or max(abs(high) * 0.1, 1e-6)
        self._low, self._high = low - margin, high + margin
        self._first, self._count = first, max(count - first, 1e-9)
        self.shapes: list[str] = []

    def x(self, place: float) -> float:
        return _LEFT + (place - self._first) / self._count * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _TOP + (self._high - value) / (self._high - self._low) * (_HEIGHT - _TOP - _BOTTOM)

    def level(self, value: float, kind: str, label: str) -> None:
        """Draw a level over the whole width, with its label left of it."""
        y = self.y(value)
        self.shapes.append(f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        self.shapes.append(f'<text class="axis" x="{_LEFT - 8}" y="{y + 7:.1f}">{escape(label)}</text>')

    def band(self, low: float, high: float) -> None:
        top, bottom = self.y(high), self.y(low)
        width = _WIDTH - _LEFT - _RIGHT
        self.shapes.append(
            f'<rect class="band" x="{_LEFT}" width="{width}" y="{top:.1f}" height="{bottom - top:.1f}"/>'
        )

    def curve(self, values: Sequence[float]) -> None:
        points = " ".join(f"{self.x(place):.1f},{self.y(value):.1f}" for place, value in enumerate(values))
        self.shapes.append(f'<polyline class="average" points="{points}"/>')

    def dot(self, place: float, value: float, kind: str, *, inspection: int, title: str) -> None:
        self.shapes.append(
            f'<a href="/parts/{inspection}"><circle class="{kind}" cx="{self.x(place):.1f}" cy="{self.y(value):.1f}" '
            f'r="6"><title>{escape(title)}</title></circle></a>'
        )

    def svg(self, label: str) -> str:
        inside = "".join(self.shapes)
        return (
            f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{inside}</svg>'
        )


def draw_masses(parts: Sequence[WeighedPart], limits: MassLimits | None, texts: Texts) -> str:
    """Return masses with the tolerance; a mass far outside it is drawn at the edge."""
    if not parts:
        return f'<p class="none">{escape(texts("none"))}</p>'
    masses = [part.mass_g for part in parts]
    low, high = min(masses), max(masses)
    if limits is not None:
        # Twice the tolerance shows all that matters; one lost part must not flatten the others.
        reach = 2 * limits.tolerance_g
        low, high = limits.nominal_g - reach, limits.nominal_g + reach
    plot = _Plot(low, high, len(parts))
    if limits is not None:
        plot.band(limits.nominal_g - limits.tolerance_g, limits.nominal_g + limits.tolerance_g)
        for value in (-limits.tolerance_g, 0.0, limits.tolerance_g):
            kind = "centre" if value == 0 else "limit"
            plot.level(limits.nominal_g + value, kind, f"{texts.number(limits.nominal_g + value, 2)} g")
    for place, part in enumerate(parts):
        title = f"{part.part_id}: {texts.number(part.mass_g, 3)} g"
        shown = min(max(part.mass_g, low), high)
        plot.dot(place + 0.5, shown, part.verdict, inspection=part.inspection, title=title)
    return plot.svg(texts("masses"))


def draw_trace(name: str, trace: Trace, texts: Texts) -> str:
    """Return a control chart: values as dots, the moving average as a line, centre and limits."""
    values = [value for _, value, _ in trace.points]
    levels = (
        [] if trace.centre is None or trace.limit is None else [trace.centre - trace.limit, trace.centre + trace.limit]
    )
    plot = _Plot(min([*values, *levels]), max([*values, *levels]), len(values))
    digits = 3 if name == "mass" else 1
    if trace.centre is not None and levels:
        plot.band(levels[0], levels[1])
        plot.level(trace.centre, "centre", texts.number(trace.centre, digits))
    for place, (inspection, value, _) in enumerate(trace.points):
        plot.dot(place, value, "value", inspection=inspection, title=texts.number(value, digits))
    if trace.centre is not None:
        plot.curve([average for _, _, average in trace.points])
    return plot.svg(name)


def draw_statistics(scored: ScoredParts, threshold: float, texts: Texts) -> str:
    """Return how many parts lie where, with the threshold that judged them and the one that is tried."""
    values = np.array([part.statistic for part in scored.parts])
    low, high = statistics_range(scored)
    counts, edges = np.histogram(np.clip(values, low, high), bins=_BINS, range=(low, high))
    plot = _Plot(0.0, float(np.sqrt(counts.max())), high, first=low)
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            kind = "reject" if (left + right) / 2 >= threshold else "ok"
            # By its root: a single part stands beside hundreds.
            top, width = plot.y(float(np.sqrt(count))), plot.x(right) - plot.x(left) - 1
            plot.shapes.append(
                f'<rect class="{kind}" x="{plot.x(left):.1f}" width="{width:.1f}" y="{top:.1f}" '
                f'height="{plot.y(0) - top:.1f}"><title>{count}</title></rect>'
            )
    for value, kind, label in (
        (scored.threshold, "centre", texts("now", threshold=texts.number(scored.threshold, 2))),
        (threshold, "limit", texts("at", threshold=texts.number(threshold, 2))),
    ):
        x = min(max(plot.x(value), _LEFT), _WIDTH - _RIGHT)
        y = _HEIGHT - 10 if kind == "centre" else _TOP + 4
        plot.shapes.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        plot.shapes.append(f'<text class="mark" x="{x:.1f}" y="{y}">{escape(label)}</text>')
    return plot.svg(texts("statistic", k=scored.k))


def statistics_range(scored: ScoredParts) -> tuple[float, float]:
    """Return the thresholds between which one may try: to three times the present one, where parts reach that far."""
    values = [part.statistic for part in scored.parts]
    return min([*values, scored.threshold]) * 0.9, max(min(max(values), 3 * scored.threshold), 1.5 * scored.threshold)


def draw_gauge(mass_g: float | None, limits: MassLimits | None, texts: Texts) -> str:
    """Return a part's mass on a scale with the tolerance."""
    label = "–" if mass_g is None else f"{texts.number(mass_g, 3)} g"
    if mass_g is None or limits is None:
        return f'<div class="gauge"><b>{escape(label)}</b></div>'
    reach = 3 * limits.tolerance_g
    share = min(max((mass_g - limits.nominal_g + reach) / (2 * reach), 0.0), 1.0)
    kind = "ok" if limits.hold(mass_g) else "reject"
    return (
        f'<div class="gauge"><b class="{kind}">{escape(label)}</b>'
        '<svg viewBox="0 0 600 60"><rect class="all" x="0" y="24" width="600" height="12"/>'
        '<rect class="band" x="200" y="18" width="200" height="24"/>'
        f'<circle class="{kind}" cx="{600 * share:.1f}" cy="30" r="14"/></svg>'
        f"<span>{texts.number(limits.nominal_g, 2)} ± {texts.number(limits.tolerance_g, 2)} g</span></div>"
    )
