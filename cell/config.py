"""The files of a cell: what can stand in them, and how they are found, read and refused.

A cell file names the class of each device by import path (``twin.camera:TwinCamera``); each such class has a
pydantic model `Config` beside it for the rest of its entry. So the cell never imports a simulator or a driver
by itself, and swapping the file swaps the devices.
"""

from __future__ import annotations

import importlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from cell.interfaces import Arm, Camera, Clock, ConfigError, Device, Gripper, PartSource, Scale
from detection import DetectionConfig
from detection.datasets import NAME_PATTERN

Vector = tuple[float, float, float]
Share = Annotated[float, Field(ge=0, le=1)]
Rgb = tuple[Share, Share, Share]
Range = tuple[float, float]
Length = Annotated[float, Field(gt=0)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
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


class FileModel(BaseModel):
    """Base of everything that stands in a file: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ClassEntry(BaseModel):
    """An import path under `class`, and the keys that the class itself checks."""

    model_config = ConfigDict(extra="allow", frozen=True)

    path: str = Field(alias="class", pattern=r"^\w+(\.\w+)*:\w+$")

    @property
    def options(self) -> dict[str, Any]:
        """The entry without its class."""
        return dict(self.model_extra or {})


def _minus(first: Vector, second: Vector) -> Vector:
    return first[0] - second[0], first[1] - second[1], first[2] - second[2]


def _parallel(first: Vector, second: Vector) -> bool:
    """Whether two vectors point along one line, or one of them nowhere."""
    return bool(np.linalg.norm(np.cross(first, second)) < 1e-9)


class Box(FileModel):
    """A solid box that stands in the cell, its edges along the axes of the robot's base."""

    name: str
    size_m: tuple[Length, Length, Length]
    position_m: Vector = Field(description="centre")
    rgb: Rgb = (0.5, 0.5, 0.5)


class Place(FileModel):
    """Where a part lies: the origin of its frame, turned about the vertical."""

    position_m: Vector
    yaw_deg: float = 0.0


class CameraMount(FileModel):
    """Where the camera stands and where it looks."""

    position_m: Vector
    look_at_m: Vector = Field(description="where the parts are shown; on the optical axis")
    up: Vector = (0.0, 0.0, 1.0)

    @model_validator(mode="after")
    def _looks_somewhere(self) -> Self:
        if _parallel(_minus(self.look_at_m, self.position_m), self.up):
            raise ValueError("it must look somewhere, and not along up")
        return self


class Bins(FileModel):
    """Where a part of each verdict is let go: the origin of its frame above the bin."""

    ok: Place
    reject: Place
    recheck: Place


class Scene(FileModel):
    """Where things stand, in the frame of the robot's base; read by motion and by the twin alike."""

    boxes: tuple[Box, ...]
    feeder: Place
    scale: Place
    bins: Bins
    camera: CameraMount
    clearance_m: float = Field(0.08, gt=0, le=0.3, description="the hand comes from and leaves to this height")


class Motion(FileModel):
    """How the arm moves."""

    home_rad: tuple[float, float, float, float, float, float, float]
    speed: float = Field(1.0, gt=0, le=1, description="share of the arm's velocity limits")
    settle_s: float = Field(0.15, ge=0, le=5, description="waited before each picture")


class CellFile(FileModel):
    """A cell: its devices, and where things stand."""

    kind: str = Field(description="models are bound to this name")
    copies: int = Field(1, ge=1, le=64, description="how many of this cell may run side by side; a line has one")
    world: ClassEntry | None = Field(None, description="what the devices share, e.g. a simulated world")
    clock: ClassEntry
    arm: ClassEntry
    gripper: ClassEntry
    camera: ClassEntry
    scale: ClassEntry
    source: ClassEntry
    scene: Scene
    motion: Motion


class GraspPoint(FileModel):
    """Where and how the hand takes the part, in the part's frame."""

    name: Name
    position_mm: Vector = Field(description="between the finger tips")
    approach: Vector = Field(description="unit vector along which the hand comes")
    opening: Vector = Field(description="unit vector along which the fingers open")
    width_mm: float = Field(gt=0, le=80, description="opening of the fingers when they hold the part")
    force_n: float = Field(gt=0, le=70)

    @model_validator(mode="after")
    def _directions_make_sense(self) -> Self:
        lengths = np.linalg.norm([self.approach, self.opening], axis=1)
        if np.abs(lengths - 1).max() > 1e-3 or abs(np.dot(self.approach, self.opening)) > 1e-3:
            raise ValueError("approach and opening must be unit vectors at right angles")
        return self


class View(FileModel):
    """From where the camera sees the hand that holds the part.

    The direction to the camera, in the hand's frame (z: approach, y: opening), is `tilt_deg` away from z and
    turned by `azimuth_deg` about it, from x towards y; the picture is turned so that the hand comes from below,
    then by `roll_deg`.
    """

    name: Name
    tilt_deg: float = Field(ge=0, le=180)
    azimuth_deg: float = Field(ge=-360, le=360)
    roll_deg: float = Field(0.0, ge=-360, le=360)


class MassLimits(FileModel):
    """The mass of a good part."""

    nominal_g: float = Field(gt=0)
    tolerance_g: float = Field(gt=0)


class PartFile(FileModel):
    """A kind of part: its shape, how it is held, from where it is seen and what it weighs."""

    name: str
    version: int = Field(ge=1)
    shape: ClassEntry = Field(description="what a twin makes the part with")
    density_g_cm3: float = Field(gt=0, le=25)
    mass: MassLimits
    bottom_share: float = Field(ge=0, lt=1, description="share of the frame's height cut at the bottom")
    picture_width_mm: float = Field(gt=0, description="width of the square picture after the crop")
    centre_mm: Vector = Field(description="the point of the part that is shown on the optical axis")
    grasps: tuple[GraspPoint, GraspPoint]
    views: tuple[View, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for what, names in (
            ("grasps", [g.name for g in self.grasps]),
            ("views", [v.name for v in self.views]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"two {what} have the same name")
        return self

    @property
    def view_names(self) -> tuple[str, ...]:
        """The name of each picture of a part: every view at every grasp point."""
        return tuple(f"{grasp.name}-{view.name}" for grasp in self.grasps for view in self.views)


class Defect(FileModel):
    """A defect that a twin makes; its size is drawn evenly from the range.

    `size_mm` is the diameter of a dot, the length of a scratch, the diameter of a missing piece.
    """

    kind: Literal["dot", "scratch", "missing"]
    size_mm: Range
    contrast: Range = Field((0.3, 0.7), description="share of light that a dot or a scratch swallows")
    width_mm: float = Field(0.25, gt=0, le=5, description="of a scratch")
    seen_by: int = Field(2, ge=1, description="views that must see it, or it is placed anew")

    @model_validator(mode="after")
    def _ranges_make_sense(self) -> Self:
        if not 0 < self.size_mm[0] <= self.size_mm[1]:
            raise ValueError("size_mm must be two lengths above 0, the smaller one first")
        if not 0 <= self.contrast[0] <= self.contrast[1] <= 1:
            raise ValueError("contrast must be two shares from 0 to 1, the smaller one first")
        return self


class Batch(FileModel):
    """So many parts of one make."""

    count: int = Field(ge=1)
    label: Literal["good", "defective"] | None = Field(None, description="what a person declares about them")
    defect: Defect | None = None


class Variation(FileModel):
    """How parts that are alike differ: standard deviations, normally distributed."""

    offset_mm: float = Field(0.0, ge=0, le=20, description="of the part at the feeder, in x and in y")
    angle_deg: float = Field(0.0, ge=0, le=20, description="of the part at the feeder, about the vertical")
    brightness: float = Field(0.0, ge=0, le=0.5, description="of the light, relative")


class ProductionFile(FileModel):
    """What the part source shall make or expects; the batches are repeated as long as parts are asked for."""

    lot: Name = Field(description="begins the names of its parts")
    cavities: int = Field(1, ge=1)
    variation: Variation = Variation()
    batches: tuple[Batch, ...] = Field(min_length=1)

    def batch_of(self, number: int) -> Batch:
        """Return the batch that part `number` (from 0) belongs to."""
        place = number % sum(batch.count for batch in self.batches)
        for batch in self.batches:
            if place < batch.count:
                return batch
            place -= batch.count
        raise AssertionError("the place lies inside the sum of the counts")


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


def _load(kind: str, name: str, model: type[_ModelT]) -> Loaded[_ModelT]:
    path = _find(kind, name)
    return Loaded(path, check(read_yaml(path), model, str(path)))


def load_cell(name: str) -> Loaded[CellFile]:
    """Read a cell file by name or path; the classes it names are imported and their keys checked."""
    loaded = _load("cells", name, CellFile)
    for device, protocol in DEVICES.items():
        entry = getattr(loaded.content, device)
        if entry is not None:
            load_class(entry, f"{loaded.path}: {device}", like=protocol)
    return loaded


def load_part(name: str) -> Loaded[PartFile]:
    """Read a part file by name or path."""
    return _load("parts", name, PartFile)


def load_production(name: str) -> Loaded[ProductionFile]:
    """Read a production file by name or path."""
    return _load("production", name, ProductionFile)


def load_detection(name: str) -> Loaded[DetectionConfig]:
    """Read a detection file by name or path."""
    return _load("detection", name, DetectionConfig)
