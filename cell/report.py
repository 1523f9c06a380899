"""One self-contained page about a run of inspections whose truth is known."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cell.gantt import cycle_figures, gantt
from cell.results import Evidence, InspectedPart
from cell.schema import MassLimits
from detection.decisions import part_statistic
from detection.intervals import Estimate, clopper_pearson, rate
from detection.locations import Location, locate
from detection.metrics import auroc, rate_curves
from detection.pictures import read_picture

_VIEWS_SHOWN = 4
_PLACES_LISTED = 3
_TILE_PX = 270
_GOOD, _DEFECTIVE, _THRESHOLD = "#1b7f4b", "#b3261e", "#444444"
_TRUE_RGB, _FOUND_RGB = (255, 60, 40), (60, 220, 255)


@dataclass(frozen=True)
class Truth:
    """What is really the case with a part: its label, its defects in words, and where its masks lie."""

    label: str
    defects: tuple[str, ...]
    masks: Path


@dataclass(frozen=True)
class Run:
    """Inspected parts with their truth, in the same order, and the k of the vote."""

    parts: tuple[InspectedPart, ...]
    truths: tuple[Truth, ...]
    k: int

    def _with(self, label: str) -> list[InspectedPart]:
        return [part for part, truth in zip(self.parts, self.truths, strict=True) if truth.label == label]

    @property
    def tpr(self) -> Estimate | None:
        """Share of the defective parts that were not ok; a part to recheck counts as rejected."""
        defective = self._with("defective")
        return rate(sum(part.verdict.bin != "ok" for part in defective), len(defective))

    @property
    def tnr(self) -> Estimate | None:
        """Share of the good parts that were ok."""
        good = self._with("good")
        return rate(sum(part.verdict.bin == "ok" for part in good), len(good))

    def statistics(self, label: str) -> NDArray[np.float64]:
        """Return the k-th largest view score of each part of that label, infinite for one that was not scored whole."""
        whole = max(len(part.scores) for part in self.parts)
        return np.array(
            [
                part_statistic(part.scores.values(), k=self.k) if len(part.scores) == whole else np.inf
                for part in self._with(label)
            ]
        )

    @property
    def part_auroc(self) -> Estimate | None:
        """Area under the ROC curve of the part statistics."""
        good, defective = self.statistics("good"), self.statistics("defective")
        statistics = np.concatenate([good, defective])
        labels = np.repeat([False, True], [len(good), len(defective)])
        return auroc(statistics, labels, parts=range(len(statistics)))


def read_truth(folder: Path) -> dict[str, Truth]:
    """Read what a part source wrote about its parts, by part."""
    truths = {}
    with (folder / "parts.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            defects = tuple(f"{d['kind']} {d['size_mm']:.2f} mm" for d in json.loads(row["defects"]))
            truths[row["part_id"]] = Truth(row["label"], defects, folder / "masks" / row["part_id"])
    return truths


def summary(run: Run, *, seconds: float) -> dict[str, Any]:
    """Return the run as JSON values."""
    return {
        "parts": [
            {
                "part_id": part.ticket.part_id,
                "truth": truth.label,
                "defects": list(truth.defects),
                "verdict": part.verdict.bin,
                "reasons": list(part.verdict.reasons),
                "views_over_threshold": len(part.views_over),
                "images": len(part.frames),
                "mass_g": part.weighing.mass_g if part.weighing else None,
                "cycle_s": part.cycle_s,
                "cycle": cycle_figures(part.steps) if part.steps else None,
                "scores": dict(part.scores),
            }
            for part, truth in zip(run.parts, run.truths, strict=True)
        ],
        "tpr": run.tpr.value if run.tpr else None,
        "tpr_interval": [run.tpr.low, run.tpr.high] if run.tpr else None,
        "tnr": run.tnr.value if run.tnr else None,
        "tnr_interval": [run.tnr.low, run.tnr.high] if run.tnr else None,
        "recheck": sum(part.verdict.bin == "recheck" for part in run.parts),
        "part_auroc": run.part_auroc.value if run.part_auroc else None,
        "part_auroc_interval": [run.part_auroc.low, run.part_auroc.high] if run.part_auroc else None,
        "threshold": run.parts[0].threshold if run.parts else None,
        "seconds": seconds,
    }


def write_report(path: Path, run: Run, *, mass: MassLimits, settings: Sequence[tuple[str, str]]) -> None:
    """Write the page.

    Parameters
    ----------
    path : Path
        The HTML file.
    run : Run
        At least one part.
    mass : MassLimits
        Drawn beside the masses.
    settings : sequence of (str, str)
        Names and values that say how the run was made.
    """
    rows = [
        {
            "part": part,
            "truth": truth,
            "right": (truth.label == "good") == (part.verdict.bin == "ok"),
            "statistic": sorted(part.scores.values())[-run.k] if len(part.scores) >= run.k else None,
            "evidence": [
                _shown(e, truth, threshold=part.threshold)
                for e in sorted(part.evidence, key=lambda e: -e.score.score)[:_VIEWS_SHOWN]
            ],
        }
        for part, truth in zip(run.parts, run.truths, strict=True)
    ]
    page = Environment(loader=PackageLoader("cell", "."), autoescape=True).get_template("report.html.j2")
    text = page.render(
        rows=rows,
        run=run,
        k=run.k,
        views_shown=_VIEWS_SHOWN,
        places_listed=_PLACES_LISTED,
        settings=settings,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        rates=_figure(_draw_rates(run)),
        masses=_figure(_draw_masses(run, mass)),
        gantt=next((_figure(gantt(part.steps)) for part in run.parts if part.steps), None),
    )
    half = path.with_suffix(".part")
    half.write_text(text, encoding="utf-8")
    half.replace(path)


def _draw_rates(run: Run) -> Figure:
    """TPR and TNR of the image vote against T, with 95 % intervals."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    good, defective = run.statistics("good"), run.statistics("defective")
    threshold = run.parts[0].threshold
    highest = max(value for value in (*good, *defective, threshold) if np.isfinite(value)) * 1.1
    curves = rate_curves(good, defective, thresholds=np.linspace(0, highest, 400))
    if curves is not None:
        for name, values, count, colour in (
            ("TPR", curves.tpr, len(defective), _DEFECTIVE),
            ("TNR", curves.tnr, len(good), _GOOD),
        ):
            limits = np.array([clopper_pearson(round(v * count), count) for v in values])
            axes.plot(curves.thresholds, values, color=colour, label=f"{name} ({count} parts)")
            axes.fill_between(curves.thresholds, limits[:, 0], limits[:, 1], color=colour, alpha=0.15, linewidth=0)
    axes.axvline(threshold, color=_THRESHOLD, linestyle="--", label=f"threshold T = {threshold:.2f}")
    axes.set(xlabel="T (Mahalanobis distance)", ylabel="rate", ylim=(-0.02, 1.02), xlim=(0, highest))
    axes.legend(loc="center right")
    return figure


def _draw_masses(run: Run, mass: MassLimits) -> Figure:
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.axhspan(mass.nominal_g - mass.tolerance_g, mass.nominal_g + mass.tolerance_g, color=_GOOD, alpha=0.12)
    for label, colour in (("good", _GOOD), ("defective", _DEFECTIVE)):
        weighed = [
            (number, part.weighing.mass_g)
            for number, (part, truth) in enumerate(zip(run.parts, run.truths, strict=True), start=1)
            if truth.label == label and part.weighing is not None
        ]
        if weighed:
            axes.plot(*zip(*weighed, strict=True), "o", color=colour, label=f"truly {label}")
    axes.set(xlabel="part", ylabel="mass (g)")
    axes.legend(loc="best")
    return figure


def _figure(figure: Figure) -> str:
    with matplotlib.rc_context({"svg.hashsalt": "twinspect"}):
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return _data_url("image/svg+xml", text.getvalue().encode())


def _shown(evidence: Evidence, truth: Truth, *, threshold: float) -> dict[str, Any]:
    score = evidence.score
    found = locate(score.heatmap, score.valid, threshold=threshold, geometry=score.geometry)
    return {
        "view": score.view,
        "score": score.score,
        "found": found,
        "picture": _beside_heatmap(evidence, truth, found),
    }


def _beside_heatmap(evidence: Evidence, truth: Truth, found: Sequence[Location]) -> str:
    """Return the picture with the true defect and what was found outlined, and beside it the heatmap over it."""
    picture = cv2.resize(evidence.picture, (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_AREA)
    heat = np.clip(evidence.score.heatmap / max(float(evidence.score.heatmap.max()), 1e-9), 0, 1)
    heat[~evidence.score.valid] = 0
    heat = cv2.resize((heat * 255).astype(np.uint8), (_TILE_PX, _TILE_PX), interpolation=cv2.INTER_LINEAR)
    coloured = cv2.cvtColor(cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    overlay = cv2.addWeighted(picture, 0.35, coloured, 0.65, 0)
    marked = np.asarray(picture.copy(), dtype=np.uint8)
    geometry = evidence.score.geometry
    filled = np.zeros(geometry.frame_shape, dtype=np.uint8)
    cv2.fillPoly(filled, [np.rint(location.contour).astype(np.int32) for location in found], 1)
    _ring(marked, geometry.mask_to_grid(filled > 0), gap=1, width=2, colour=_FOUND_RGB)
    mask_file = truth.masks / f"{evidence.frame:06d}.png"
    if mask_file.exists():
        mask = geometry.mask_to_grid(read_picture(mask_file)[..., 0] > 0)
        _ring(marked, mask, gap=5, width=4, colour=_TRUE_RGB)
    written, data = cv2.imencode(
        ".jpg", cv2.cvtColor(np.hstack([marked, overlay]), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]
    )
    if not written:
        raise OSError("a picture of the report could not be encoded")
    return _data_url("image/jpeg", data.tobytes())


def _ring(
    picture: NDArray[np.uint8], mask: NDArray[np.bool_], *, gap: int, width: int, colour: tuple[int, int, int]
) -> None:
    """Draw around a mask, not over it: a ring that starts `gap` // 2 pixels outside and is `width` // 2 wide."""
    large = cv2.resize(mask.astype(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    inner, outer = (cv2.dilate(large, np.ones((side, side), np.uint8)) for side in (gap, gap + width))
    picture[outer > inner] = colour


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
