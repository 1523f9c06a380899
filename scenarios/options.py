"""The command line that all studies share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cell.config import Loaded, load_cell, load_part, load_production
from cell.interfaces import ConfigError
from cell.schema import PartFile
from detection.datasets import read_dataset

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


def material_settings(
    *, cell: str, part: str, productions: Sequence[str] = ("paper",), dataset: Path | None
) -> dict[str, Any]:
    """Say where a study's parts are from, by name and by what the files say: where they say other, it is another study.

    Of a dataset its tables count, and which pictures there are, how large their files are and when they were written.
    """
    if dataset is not None:
        return {"dataset": str(dataset), "contents": {"dataset": _hash_of_dataset(dataset)}}
    loaded = load_part(part)
    files = [load_cell(cell), loaded, *(load_production(name) for name in productions)]
    said = [file.content.model_dump_json(by_alias=True).encode() for file in files]
    said[1] += b"".join(_named_files(loaded))
    names = ["cell", "part", *(f"production {name}" for name in productions)]
    return {
        "cell": cell,
        "part": part,
        "dataset": None,
        "contents": {name: hashlib.sha256(text).hexdigest() for name, text in zip(names, said, strict=True)},
    }


def _named_files(part: Loaded[PartFile]) -> Iterator[bytes]:
    """Contents of the files that a part's shape is read from, such as a mesh."""
    for value in part.content.shape.options.values():
        file = part.path.parent / value if isinstance(value, str) else None
        if file is not None and file.is_file():
            yield file.read_bytes()


def _hash_of_dataset(folder: Path) -> str:
    dataset, known = read_dataset(folder), hashlib.sha256()
    for part in dataset.parts:
        files = [*part.pictures.values(), *part.ignored.values()]
        stats = [(str(file), file.stat()) for file in files if file is not None]
        known.update(repr((part.part_id, part.label, [(name, s.st_size, s.st_mtime_ns) for name, s in stats])).encode())
    for table in ("dataset.json", "truth/parts.csv", "truth/views.csv"):
        if (folder / table).is_file():
            known.update((folder / table).read_bytes())
    return known.hexdigest()
