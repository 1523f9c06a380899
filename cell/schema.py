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
Seven = tuple[float, float, float, float, float, float, float]
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

    home_rad: Seven
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

    finger: tuple[Block, ...] | None = Field(
        None,
        min_length=1,
        description="blocks that cover the finger on the side of y, as it stands when the hand is closed; the other "
        "finger is the same, turned by 180° about z; without them, the fingers that come with the hand",
    )
    palm: bool = Field(False, description="mask the palm too, which a hand in a dark sleeve does not need")
    margin_mm: float = Field(ge=0, le=50, description="added to every side of every piece")


class ArmGeometry(FileModel):
    """By what this arm differs from the nominal one, joint by joint (parameters after Craig), as calibrated."""

    a_mm: Seven
    d_mm: Seven
    alpha_rad: Seven
    theta_rad: Seven = Field(description="added to what the encoders say")
    encoder_sin_rad: Seven = Field((0.0,) * 7, description="added to it, times the sine of what they say")
    encoder_cos_rad: Seven = Field((0.0,) * 7, description="added to it, times the cosine of what they say")


class Retention(FileModel):
    """Which pictures of ok parts may be removed, the oldest first, when all pictures take more than `max_gb`.

    Pictures stay, whatever they take, of parts that are not ok, that a person decided about or that were inspected
    again; of the known parts of challenges; of every n-th ok part; and of parts younger than `days`.
    """

    every_nth_ok: int = Field(10, ge=1)
    days: float = Field(30.0, ge=0)
    max_gb: float = Field(ge=0, description="10⁹ bytes")


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
    arm_geometry: ArmGeometry | None = Field(None, description="written by `twinspect calibrate`")
    hand: HandShape | None = Field(None, description="where given, it is masked in every picture")
    retention: Retention | None = Field(None, description="which pictures may be removed; without it all stay")
    release_hours: float | None = Field(
        None, gt=0, description="for so long a passed challenge releases the line; without it none is asked for"
    )
    faults: ClassEntry | None = Field(None, description="what stands in front of the devices and makes them fail")

    @property
    def real(self) -> bool:
        """Whether something really moves: the devices share no world that is simulated or played back."""
        return self.world is None


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

    def hold(self, mass_g: float) -> bool:
        """Whether a mass is that of a good part; one that is not a number is not."""
        return abs(mass_g - self.nominal_g) <= self.tolerance_g


class Gate(FileModel):
    """Where the melt enters the mould; it leaves a round mark."""

    position_mm: Vector
    diameter_mm: float = Field(1.5, gt=0, le=10)


class Weld(FileModel):
    """Where two melt fronts meet: they leave a line where a plane cuts the surface, on the side away from the gate."""

    position_mm: Vector = Field(description="on the plane, on the side where the line is")
    normal: Vector = Field(description="of the plane")


class Moulding(FileModel):
    """How shots differ: standard deviations, normally distributed; relative, of the nominal value.

    What bears `cavity` in its name is drawn once for each cavity of the mould and is the same in all its shots.
    """

    size: float = Field(0.0003, ge=0, le=0.01, description="shrinkage of a shot")
    cavity_size: float = Field(0.0005, ge=0, le=0.01)
    ovality: float = Field(0.0003, ge=0, le=0.01, description="longer one way, shorter the other, in x and y")
    mass: float = Field(0.001, ge=0, le=0.05, description="density: packing of a shot")
    cavity_mass: float = Field(0.002, ge=0, le=0.05)
    gloss: float = Field(0.05, ge=0, le=0.5)
    haze: float = Field(0.02, ge=0, le=0.2, description="reflectance of a worn patch of the mould's polish")
    gate: Gate | None = None
    weld: Weld | None = None


class PartFile(FileModel):
    """A kind of part: its shape, how it is made and held, from where it is seen and what it weighs."""

    name: str
    version: int = Field(ge=1)
    shape: ClassEntry = Field(description="what a twin makes the part with")
    density_g_cm3: float = Field(gt=0, le=25)
    moulding: Moulding = Moulding()
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


_MARKS = ("dot", "scratch", "crack")


class Defect(FileModel):
    """A defect that a twin makes; its size is drawn evenly from the range, and 0 is none.

    | kind | `size_mm` | `width_mm` |
    |---|---|---|
    | dot | diameter | |
    | scratch, crack | length | of the line; 0.25, 0.08 |
    | missing | diameter of the bite out of a small structure | |
    | missing_structure | diameter of the structure: one within the range is left out whole | |
    | short_shot | length of a structure's way that stays unfilled | |
    | flash | height of the fin | its length along the edge; 8 |
    | deformation | depth | full width at half of it; 8 |
    """

    kind: Literal["dot", "scratch", "crack", "missing", "missing_structure", "short_shot", "flash", "deformation"]
    size_mm: Range
    contrast: Range = Field((0.3, 0.7), description="share of light that a dot, a scratch or a crack swallows")
    width_mm: float | None = Field(None, gt=0, le=50)
    seen_by: int = Field(2, ge=1, description="views that must see it, or it is placed anew")

    @model_validator(mode="after")
    def _ranges_make_sense(self) -> Self:
        low, high = self.size_mm
        if not (low == high == 0 or 0.05 <= low <= high):
            raise ValueError("size_mm must be two lengths from 0.05 mm up, the smaller one first, or [0, 0] for none")
        if not 0 <= self.contrast[0] <= self.contrast[1] <= 1:
            raise ValueError("contrast must be two shares from 0 to 1, the smaller one first")
        if "contrast" in self.model_fields_set and self.kind not in _MARKS:
            raise ValueError(
                f"contrast has a meaning for {', '.join(_MARKS)} alone: a {self.kind} is seen by its shape"
            )
        if self.width_mm is not None and self.kind in ("dot", "missing", "missing_structure", "short_shot"):
            raise ValueError(f"width_mm has no meaning for a {self.kind}")
        return self


class Batch(FileModel):
    """So many parts of one make."""

    count: int = Field(ge=1)
    label: Literal["good", "defective"] | None = Field(None, description="what a person declares about them")
    defects: tuple[Defect, ...] = ()


Nuisance = Literal[
    "dust", "strings", "fingerprint", "light", "exposure", "focus", "background", "grasp", "reflection", "arm"
]


class ProductionFile(FileModel):
    """What the part source shall make or expects; the batches are repeated as long as parts are asked for."""

    lot: Name = Field(description="begins the names of its parts")
    cavities: int = Field(1, ge=1)
    nuisances: Literal[0, 1, 2, 3] = Field(2, description="what troubles a twin: nothing, little, a normal day, much")
    without: tuple[Nuisance, ...] = Field(
        (), description="causes that are switched off, everything else staying as it is"
    )
    batches: tuple[Batch, ...] = Field(min_length=1)

    def batch_of(self, number: int) -> Batch:
        """Return the batch that part `number` (from 0) belongs to."""
        place = number % sum(batch.count for batch in self.batches)
        for batch in self.batches:
            if place < batch.count:
                return batch
            place -= batch.count
        raise AssertionError("the place lies inside the sum of the counts")
