"""How the files of a cell are found, read and refused.

A cell file names the class of each device by import path (``twin.camera:TwinCamera``); each such class has a
pydantic model `Config` beside it for the rest of its entry. So the cell never imports a simulator or a driver
by itself, and swapping the file swaps the devices.
"""

from __future__ import annotations

import importlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from cell.interfaces import Arm, Camera, Clock, ConfigError, Device, Gripper, PartSource, Scale
from cell.schema import CellFile, ClassEntry, PartFile, ProductionFile
from detection import DetectionConfig

DEVICES: Mapping[str, type] = {
    "world": Device,
    "clock": Clock,
    "arm": Arm,
    "gripper": Gripper,
    "camera": Camera,
    "scale": Scale,
    "source": PartSource,
}

_ModelT = TypeVar("_ModelT", bound=BaseModel)
_FileT = TypeVar("_FileT", bound=BaseModel, covariant=True)


@dataclass(frozen=True)
class Loaded(Generic[_FileT]):
    """What a file said, and where it lies."""

    path: Path
    content: _FileT


def _assets() -> Path:
    """Folder of the files that come with the product: inside the wheel, or beside the packages in a checkout."""
    here = Path(__file__).resolve().parent
    inside = here / "assets"
    return inside if inside.is_dir() else here.parent / "assets"


def is_asset(path: Path) -> bool:
    """Whether a file came with the product."""
    return path.resolve().is_relative_to(_assets())


def _find(kind: str, name: str) -> Path:
    """Return the file that `name` stands for: a path, or a name under ``assets/<kind>``."""
    folder = _assets() / kind
    for candidate in (Path(name), folder / f"{name}.yaml", folder / name / "part.yaml"):
        if candidate.is_file():
            return candidate
    known = sorted({p.stem if p.stem != "part" else p.parent.name for p in folder.rglob("*.yaml")})
    raise ConfigError(
        f"There is no file {name}, and no {kind} entry of that name; known names: {', '.join(known) or 'none'}"
    )


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, of which plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is no text", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Read one YAML document. Raises `ConfigError` naming file and line."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error


def check(content: Any, model: type[_ModelT], where: str) -> _ModelT:
    """Validate `content`; a refusal is one sentence with `where` and the key."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: must be keys with values, not {type(content).__name__}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            said = "is not a known key" if item["type"] == "extra_forbidden" else item["msg"]
            problems.append(f"{key}: {said}" if key else said)
        raise ConfigError(f"{where}: {'; '.join(problems)}") from error


def load_class(entry: ClassEntry, where: str, *, like: type) -> tuple[type[Any], BaseModel]:
    """Import the class that an entry names and validate the rest of the entry with its `Config`.

    Parameters
    ----------
    entry : ClassEntry
        Of a cell or part file.
    where : str
        File and key, for errors.
    like : type
        The Protocol that the class must follow.

    Raises
    ------
    ConfigError
        The class does not exist or cannot be configured, or a key is wrong; names `where`.
    """
    module_name, class_name = entry.path.split(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise ConfigError(f"{where}.class: there is no module {module_name}") from error
        raise ConfigError(
            f"{where}.class: {entry.path} needs the package {missing}, which is not installed; "
            "pip install 'twinspect[hardware]' brings the drivers' packages"
        ) from error
    except AttributeError as error:
        raise ConfigError(f"{where}.class: {module_name} has no class {class_name}") from error
    except ImportError as error:
        raise ConfigError(f"{where}.class: {module_name} cannot be imported: {error}") from error
    config_model = getattr(found, "Config", None)
    if not (isinstance(config_model, type) and issubclass(config_model, BaseModel)):
        raise ConfigError(f"{where}.class: {entry.path} is no class of a device: it has no model Config")
    wanted = {name for base in like.__mro__ for name in vars(base) if not name.startswith("_")}
    missing_members = sorted(name for name in wanted if not hasattr(found, name))
    if missing_members:
        raise ConfigError(f"{where}.class: {entry.path} is no {like.__name__}: it has no {', '.join(missing_members)}")
    return found, check(entry.options, config_model, where)


def load_file(kind: str, name: str, model: type[_ModelT]) -> Loaded[_ModelT]:
    """Read a file by a name under ``assets/<kind>`` or by its path."""
    path = _find(kind, name)
    return Loaded(path, check(read_yaml(path), model, str(path)))


def load_cell(name: str) -> Loaded[CellFile]:
    """Read a cell file by name or path; the classes it names are imported and their keys checked."""
    loaded = load_file("cells", name, CellFile)
    for device, protocol in DEVICES.items():
        entry = getattr(loaded.content, device)
        if entry is not None:
            load_class(entry, f"{loaded.path}: {device}", like=protocol)
    return loaded


def load_part(name: str) -> Loaded[PartFile]:
    """Read a part file by name or path."""
    return load_file("parts", name, PartFile)


def load_production(name: str) -> Loaded[ProductionFile]:
    """Read a production file by name or path."""
    return load_file("production", name, ProductionFile)


def load_detection(name: str) -> Loaded[DetectionConfig]:
    """Read a detection file by name or path."""
    return load_file("detection", name, DetectionConfig)
