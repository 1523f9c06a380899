"""The command line that all studies share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cell.config import load_cell, load_part, load_production
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


def material_settings(*, cell: str, part: str, production: str = "paper", dataset: Path | None) -> dict[str, Any]:
    """Say where a study's parts are from, by name and by content: with other contents it is another study."""
    named = {"cell": cell, "part": part, "production": production}
    if dataset is not None:
        return {"dataset": str(dataset), "contents": {"dataset": _hash_of_dataset(dataset)}}
    loaded = (load_cell(cell), load_part(part), load_production(production))
    contents = [each.content.model_dump_json(by_alias=True).encode() for each in loaded]
    return {
        **named,
        "dataset": None,
        "contents": {name: hashlib.sha256(content).hexdigest() for name, content in zip(named, contents, strict=True)},
    }


def _hash_of_dataset(folder: Path) -> str:
    """Of the files' names, and of what the tables say."""
    if not folder.is_dir():
        raise ConfigError(f"--dataset {folder}: is no folder; give one that `twinspect collect` wrote, or of pictures")
    known = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        known.update(f"{file.relative_to(folder)}\n".encode())
        if file.suffix in (".csv", ".json"):
            known.update(file.read_bytes())
    return known.hexdigest()
