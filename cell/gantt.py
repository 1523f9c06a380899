"""The steps of a cycle as a picture and as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from cell.timeline import Step, StepKind, robot_time

_COLOURS: dict[StepKind, str] = {
    "motion": "#3b6ea5",
    "gripper": "#7a5195",
    "settling": "#e0a030",
    "capture": "#1b7f4b",
    "transfer": "#7fbf9a",
    "weighing": "#8a5a00",
    "scoring": "#b3261e",
    "waiting": "#999999",
}


def gantt(steps: Sequence[Step]) -> Figure:
    """Draw one bar for each step, a row for each kind; seconds from the start of the cycle."""
    figure = Figure(figsize=(9.5, 3.2), layout="constrained")
    axes = figure.subplots()
    for row, (kind, colour) in enumerate(_COLOURS.items()):
        bars = [(step.start_s, step.end_s - step.start_s) for step in steps if step.kind == kind]
        axes.broken_barh(bars, (row - 0.4, 0.8), facecolors=colour, edgecolors=colour, linewidth=0.8)
    axes.set_yticks(range(len(_COLOURS)), [f"{kind} {seconds_by_kind(steps)[kind]:.2f} s" for kind in _COLOURS])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds")
    return figure


def seconds_by_kind(steps: Sequence[Step]) -> dict[str, float]:
    """Return how long the steps of each kind took together."""
    return {kind: sum(step.end_s - step.start_s for step in steps if step.kind == kind) for kind in _COLOURS}


def cycle_figures(steps: Sequence[Step]) -> dict[str, Any]:
    """Return a cycle's steps as JSON values, in the order in which they began."""
    return {
        "robot_s": robot_time(steps),
        "seconds": seconds_by_kind(steps),
        "steps": [
            {"kind": step.kind, "name": step.name, "start_s": round(step.start_s, 4), "end_s": round(step.end_s, 4)}
            | ({} if step.in_time is None else {"in_time": round(step.in_time, 4)})
            for step in sorted(steps, key=lambda step: step.start_s)
        ],
    }
