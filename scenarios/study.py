"""What every study leaves behind: `summary.json`, tables as CSV, pictures, and one HTML page of all of it."""

from __future__ import annotations

import base64
import csv
import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure

from cell.commands.console import out as screen
from cell.commands.console import require_writable, write_text
from cell.interfaces import CellError, ConfigError
from detection.intervals import Estimate
from scenarios.material import Lost

SUMMARY = "summary.json"
SETTINGS = "settings.json"
PAGE = "index.html"
_VERSIONS = ("twinspect", "torch", "numpy", "opencv-python-headless", "pybullet")


@dataclass(frozen=True)
class Table:
    """Rows under a header.

    Attributes
    ----------
    name : str
        Of the CSV file.
    title : str
    header : tuple of str
        With units.
    rows : sequence of tuple
        Estimates are shown with their 95 % intervals, and become three columns of the CSV file.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class Plot:
    """A figure: name of its file, what it shows, and the drawing."""

    name: str
    title: str
    figure: Figure


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes
    ----------
    name : str
        Of the module, after ``scenarios.``.
    title : str
    findings : sequence of str
        Sentences for the top of the page.
    tables : sequence of Table
    plots : sequence of Plot
    figures : mapping
        Numbers for `summary.json`.
    settings : mapping
        Command, preset, seed, resolved configuration: what one needs to do it again.
    seconds : float
        That it took.
    lost : sequence of Lost
        Parts that were ordered and could not be inspected whole; they have a table of their own.
    """

    name: str
    title: str
    findings: Sequence[str]
    tables: Sequence[Table]
    plots: Sequence[Plot]
    figures: Mapping[str, Any]
    settings: Mapping[str, Any]
    seconds: float
    lost: Sequence[Lost] = ()

    @property
    def told(self) -> list[str]:
        """What it found, and how many parts could not be inspected whole."""
        if not self.lost:
            return list(self.findings)
        good = sum(each.good for each in self.lost)
        said = f"Ordered, and not inspected whole: {good} good and {len(self.lost) - good} defective parts; see below."
        return [*self.findings, said]

    @property
    def all_tables(self) -> list[Table]:
        """Its tables, and that of parts that were not inspected whole, where there are any."""
        if not self.lost:
            return list(self.tables)
        rows = [(e.piece, e.condition or None, "good" if e.good else "defective", e.why or None) for e in self.lost]
        header = ("part", "condition", "label", "what stopped the line")
        return [*self.tables, Table("lost", "Parts that were not inspected whole", header, rows)]


def begin(out: Path, settings: Mapping[str, Any]) -> None:
    """Begin a study in a folder, or go on with one of the same settings and versions.

    Raises
    ------
    ConfigError
        The folder holds something else, or a study with other settings.
    """
    file = out / SETTINGS
    text = json.dumps({**settings, "versions": _versions()}, indent=1, sort_keys=True) + "\n"
    require_writable(out, holds=SETTINGS)
    if not file.exists():
        write_text(file, text)
    elif (before := file.read_text(encoding="utf-8")) != text:
        raise ConfigError(
            f"{out}: holds a study with other settings ({_other(before, text)} in {SETTINGS}); repeat these, or give a "
            "new folder"
        )


def _other(before: str, now: str) -> str:
    try:
        then, here = dict(json.loads(before)), json.loads(now)
    except (ValueError, TypeError):
        return "all"
    return ", ".join(sorted(name for name in then.keys() | here.keys() if then.get(name) != here.get(name)))


def _versions() -> dict[str, str]:
    return {name: version(name) for name in _VERSIONS} | {"python": platform.python_version()}


def write_study(study: Study, out: Path) -> None:
    """Write a study's summary, tables, pictures and page into a folder."""
    settings = {**study.settings, "versions": _versions()}
    head = {"study": study.name, "seconds": round(study.seconds, 1), "settings": settings}
    for table in study.all_tables:
        _write_csv(out / f"{table.name}.csv", table)
    pictures = []
    for plot in study.plots:
        path = out / f"{plot.name}.png"
        plot.figure.savefig(path, dpi=110)
        pictures.append((plot.title, base64.b64encode(path.read_bytes()).decode()))
    environment = Environment(loader=PackageLoader("scenarios", "."), autoescape=True)
    page = environment.get_template("study.html.j2").render(
        study=study,
        tables=[
            (table.title, table.header, [[shown(value) for value in row] for row in table.rows])
            for table in study.all_tables
        ],
        pictures=pictures,
        settings=json.dumps(settings, indent=1),
    )
    write_text(out / PAGE, page)
    figures = {**study.figures, "parts_not_whole": len(study.lost)}
    write_text(out / SUMMARY, json.dumps({**head, "figures": figures}, indent=1, allow_nan=False) + "\n")


def finish(study: Study, out: Path, *, compare: Path | None, tolerance: float) -> None:
    """Write a study, say what it found, and compare it with another where one is given.

    Raises
    ------
    CellError
        Figures differ by more than the tolerance.
    """
    write_study(study, out)
    for finding in study.told:
        screen.print(finding)
    screen.print(", ".join([str(out / SUMMARY), *(f"{table.name}.csv" for table in study.all_tables), PAGE]))
    if compare is not None:
        found = list(differences(out, compare, tolerance=tolerance))
        for line in found:
            screen.print(line)
        if found:
            raise CellError(f"{compare}: {len(found)} figures differ by more than {tolerance:g}")


def shown(value: Any) -> str:
    """Return a table's value as text."""
    if value is None:
        return "–"
    if isinstance(value, Estimate):
        return f"{value.value:.3f} ({value.low:.3f}–{value.high:.3f})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def estimate_json(estimate: Estimate | None) -> dict[str, float] | None:
    """Return an estimate ready for JSON."""
    return None if estimate is None else {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def differences(one: Path, other: Path, *, tolerance: float) -> Iterator[str]:
    """Compare the figures of two summaries.

    Parameters
    ----------
    one, other : Path
        Folders of two studies, or their `summary.json`.
    tolerance : float
        Largest absolute difference of two numbers that agree.

    Yields
    ------
    str
        Where they differ, and how.

    Raises
    ------
    ConfigError
        When a file is missing, is no summary, or is of another study.
    """
    first, second = _read_summary(one), _read_summary(other)
    if first["study"] != second["study"]:
        raise ConfigError(
            f"{other}: a summary of {second['study']}, not of {first['study']}; give one of the same study"
        )
    yield from _differing(first["figures"], second["figures"], "figures", tolerance)


def _read_summary(path: Path) -> dict[str, Any]:
    file = path / SUMMARY if path.is_dir() else path
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); give the folder of a finished study") from error
    if not isinstance(summary, dict) or not {"study", "figures"} <= summary.keys():
        raise ConfigError(f"{file}: no summary of a study; give the folder of a finished study")
    return summary


def _differing(one: Any, other: Any, where: str, tolerance: float) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if key in one and key in other:
                yield from _differing(one[key], other[key], f"{where}.{key}", tolerance)
            else:
                yield f"{where}.{key}: only in {'the first' if key in one else 'the second'}"
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from _differing(a, b, f"{where}[{i}]", tolerance)
    elif _is_number(one) and _is_number(other):
        if abs(one - other) > tolerance:
            yield f"{where}: {one:.6g} and {other:.6g}"
    elif one != other:
        yield f"{where}: {one!r} and {other!r}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _write_csv(path: Path, table: Table) -> None:
    wide = [any(isinstance(row[i], Estimate) for row in table.rows) for i in range(len(table.header))]
    half = path.with_suffix(".part")
    with half.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            name
            for title, is_wide in zip(table.header, wide, strict=True)
            for name in ([title, f"{title}: low", f"{title}: high"] if is_wide else [title])
        )
        for row in table.rows:
            writer.writerow(
                cell
                for value, is_wide in zip(row, wide, strict=True)
                for cell in (_three(value) if is_wide else [value])
            )
    half.replace(path)


def _three(value: Estimate | None) -> list[float | None]:
    return [None] * 3 if value is None else [value.value, value.low, value.high]
