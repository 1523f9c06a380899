"""The published study's figures 5, 6 and 7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from detection.intervals import rate
from detection.metrics import rate_curves
from scenarios.material import Material
from scenarios.study import Plot
from scenarios.view_scores import ViewScores

if TYPE_CHECKING:
    from scenarios.paper_study import Case, Split

_TRAINED, _UNSEEN, _DEFECTIVE, _THRESHOLD = "#8c959f", "#1b7f4b", "#b3261e", "#24292f"
_REJECTED_SHOWN = 4
_BINS = 40


def distributions(case: Case, split: Split) -> Plot:
    """Figure 5: how the parts' statistics lie, and the threshold."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    groups = {
        "good, trained on": (split.pool[: case.train], _TRAINED),
        "good, not seen": (split.pool[case.train :], _UNSEEN),
        "defective": (split.defective, _DEFECTIVE),
    }
    every = case.statistics[np.isfinite(case.statistics)]
    edges = np.geomspace(every.min() * 0.98, every.max() * 1.02, _BINS + 1).tolist()
    for name, (some, colour) in groups.items():
        values = case.statistics[list(some)]
        axes.hist(values[np.isfinite(values)], bins=edges, alpha=0.6, color=colour, label=f"{name} ({len(some)})")
    axes.axvline(case.exact.threshold, color=_THRESHOLD, linestyle="--", label=f"T = {case.exact.threshold:.1f}")
    _logarithmic(axes)
    axes.set_xlabel("second largest of the views' scores (Mahalanobis distance, no unit)")
    axes.set_ylabel("parts")
    axes.set_title(f"{case.name}, {case.way}")
    axes.legend()
    return Plot("figure5", "Figure 5: statistics of good and defective parts, and T", figure)


def sweeps(cases: Sequence[Case], split: Split) -> Plot:
    """Figure 6: TPR and TNR against T, a panel for each size and way to score, a line for each split."""
    sizes = sorted({case.size for case in cases})
    ways = list(dict.fromkeys(case.way for case in cases))
    figure = Figure(figsize=(3.6 * len(ways), 2.9 * len(sizes) + 0.6), layout="constrained")
    panels = figure.subplots(len(sizes), len(ways), squeeze=False, sharey=True)
    for case in cases:
        panel = panels[sizes.index(case.size)][ways.index(case.way)]
        shade = 0.35 + 0.65 * (split.train.index(case.train) + 1) / len(split.train)
        unseen, found = (case.statistics[list(some)] for some in (split.pool[case.train :], split.defective))
        finite = np.concatenate([unseen, found])
        finite = finite[np.isfinite(finite)]
        curves = rate_curves(unseen, found, thresholds=np.geomspace(finite.min() * 0.95, finite.max() * 1.05, 300))
        assert curves is not None  # no split leaves a class empty
        for rates, of, colour, name in (
            (curves.tnr, unseen, _UNSEEN, f"TNR held out, {case.train}"),
            (curves.tpr, found, _DEFECTIVE, f"TPR, {case.train}"),
        ):
            panel.plot(curves.thresholds, rates, color=colour, alpha=shade, label=name)
            if case.train == split.train[-1]:
                band = [about for value in rates if (about := rate(round(value * len(of)), len(of)))]
                low, high = [each.low for each in band], [each.high for each in band]
                panel.fill_between(curves.thresholds, low, high, color=colour, alpha=0.12, linewidth=0)
        _logarithmic(panel)
        panel.set_title(f"{case.size}², {case.way}", fontsize=9)
        panel.set_xlabel("T (Mahalanobis distance, no unit)", fontsize=8)
    for row in panels:
        row[0].set_ylabel("rate")
    panels[0][-1].legend(fontsize=6)
    title = "Figure 6: TPR and held-out TNR against T; darker with more training parts, 95 % intervals of the most"
    return Plot("figure6", title, figure)


def false_rejects(case: Case, split: Split, material: Material, views: Mapping[str, ViewScores]) -> Plot:
    """Figure 7: good parts that were not trained on and are rejected, beside their heatmaps."""
    unseen = split.pool[case.train :]
    rejected = [i for i in unseen if case.statistics[i] >= case.exact.threshold and np.isfinite(case.statistics[i])]
    worst = sorted(rejected, key=lambda i: -case.statistics[i])[:_REJECTED_SHOWN]
    figure = Figure(figsize=(7, 3.3 * max(1, len(worst))), layout="constrained")
    if not worst:
        figure.text(0.5, 0.5, "no good part is rejected", ha="center")
    panels: Any = figure.subplots(len(worst), 2, squeeze=False) if worst else []
    for row, i in zip(panels, worst, strict=True):
        view = _second(views, unseen.index(i))
        picture, heatmap = views[view].pictures[unseen.index(i)], views[view].heatmaps[unseen.index(i)]
        row[0].imshow(picture)
        row[0].set_title(f"{material.parts[i].part.part_id}, {view}", fontsize=9)
        shown = row[1].imshow(heatmap.astype(np.float32), cmap="inferno", vmin=0, vmax=1.5 * case.exact.threshold)
        row[1].set_title(f"largest {float(heatmap.max()):.0f}, T {case.exact.threshold:.0f}", fontsize=9)
        figure.colorbar(shown, ax=row[1], label="distance (no unit)")
        for axes in row:
            axes.set_axis_off()
    return Plot(
        "figure7", f"Figure 7: falsely rejected parts ({len(rejected)} of {len(unseen)}), the worst first", figure
    )


def _logarithmic(axes: Axes) -> None:
    """Give distances a logarithmic axis with numbers that stand apart."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _second(views: Mapping[str, ViewScores], kept: int) -> str:
    """Return the view with the second largest distance: the one that decides."""
    largest: dict[str, NDArray[np.float16]] = {view: scores.heatmaps[kept].max() for view, scores in views.items()}
    return sorted(largest, key=lambda view: -float(largest[view]))[min(1, len(largest) - 1)]
