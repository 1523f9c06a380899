"""What can stand in cell, part and production files: keys, units and ranges."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from detection.datasets import NAME_PATTERN

Vector = tuple[float, float, float]
Share = Annotated[float, Field(ge=0, le=1)]
Rgb = tuple[Share, Share, Share]
Range = tuple[float, float]
Length = Annotated[float, Field(gt=0)]
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


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


class Stillness(FileModel):
    """When the arm is still enough for a picture."""

    velocity_rad_s: float = Field(0.01, gt=0, le=1, description="of each joint, at most")
    blur_px: float = Field(0.25, gt=0, le=10, description="expected of the part during the exposure, at most")
    within_s: float = Field(2.0, gt=0, le=30, description="from the end of the motion, or the picture is not taken")


class Motion(FileModel):
    """How the arm moves."""

    home_rad: tuple[float, float, float, float, float, float, float]
    speed: float = Field(1.0, gt=0, le=1, description="share of the arm's velocity limits; times stretch by 1 / speed")
    distance_m: float = Field(0.01, gt=0, le=0.1, description="kept between arm, hand, part and everything else")
    keep_out: tuple[Box, ...] = Field((), description="what motion keeps away from beside the scene's boxes")
    pad_friction: float = Field(
        0.3, gt=0, le=2, description="between fingers and part, at the least: how fast a held part is moved"
    )
    still: Stillness = Stillness()


class Block(FileModel):
    """A box by two opposite corners, its edges along the axes of the tool centre point's frame."""

    low_mm: Vector
    high_mm: Vector

    @model_validator(mode="after")
    def _has_a_size(self) -> Self:
        if not all(low < high for low, high in zip(self.low_mm, self.high_mm, strict=True)):
            raise ValueError("each of low_mm must be less than its counterpart in high_mm")
        return self


class HandShape(FileModel):
    """What is masked of the Franka hand, in the frame of the tool centre point (z: approach, y: opening)."""

    finger: tuple[Block, ...] = Field(
        min_length=1,
        description="blocks that cover the finger on the side of y, as it stands when the hand is closed; the other "
        "finger is the same, turned by 180° about z",
    )
    palm: bool = Field(False, description="mask the palm too, which a hand in a dark sleeve does not need")
    margin_mm: float = Field(ge=0, le=50, description="added to every side of every block")


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
    hand: HandShape | None = Field(None, description="where given, it is masked in every picture")


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
