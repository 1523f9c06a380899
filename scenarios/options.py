"""The command line that all studies share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from cell.interfaces import ConfigError

PresetT = TypeVar("PresetT")

Out = Annotated[Path, typer.Option(help="folder for pictures, scores and results; give it again to go on")]
PresetName = Annotated[str, typer.Option("--preset", help="quick or full")]
Seed = Annotated[int, typer.Option(min=0, help="of the parts, of what is drawn among them, and of the picked channels")]
Cell = Annotated[str, typer.Option(help="name or path of a cell file of the twin")]
Part = Annotated[str, typer.Option(help="name or path of a part file")]
Config = Annotated[str, typer.Option(help="name or path of a detection file")]
Dataset = Annotated[Path | None, typer.Option(help="labelled pictures instead of the twin's")]
Scheduler = Annotated[str | None, typer.Option(help="address of a dask scheduler, tcp://…")]
Compare = Annotated[Path | None, typer.Option(help="another study's folder: say where the figures differ")]
Tolerance = Annotated[float, typer.Option(min=0, help="largest difference that --compare lets pass")]


def preset_of(presets: Mapping[str, PresetT], name: str) -> PresetT:
    """Return the preset of a name; `ConfigError` where there is none."""
    if name not in presets:
        raise ConfigError(f"--preset {name}: unknown; choose one of {', '.join(presets)}")
    return presets[name]
