"""The simulated camera: light, lens and sensor on top of what a renderer says is there."""

from __future__ import annotations

import logging
from functools import cache
from types import TracebackType
from typing import Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.interfaces import Frame, GrabFailed, Intrinsics
from cell.motion.panda import forward
from cell.motion.round import camera_pose
from cell.schema import CameraMount, FileModel, Rgb, Scene
from cell.setup import Setup
from twin.conditions import Conditions
from twin.device import world_of
from twin.rendering.composed import ComposedScene
from twin.rendering.egl import EglSurroundings, egl_found
from twin.rendering.geometry import ARM, BOXES, FINGER, NOTHING, PAN, PART, Renderer
from twin.rendering.lens import Lens, blurred
from twin.rendering.photoreal import PhotorealScene
from twin.rendering.pinhole import Pinhole
from twin.rendering.sensor import bend, expose
from twin.rendering.shading import Lamp, Materials, Mirrored, shade
from twin.rendering.skins import Seen, lay_skins
from twin.rendering.tiny import TinySurroundings
from twin.snapshot import Snapshot
from twin.truth import write_view

_FRAMES_PER_PART = 1000
_LAMPS = 8
_LUMINANCE = (0.2126, 0.7152, 0.0722)
_AMBIENT = 0.06
# A ring light alone shows of a clear part some glints: its edges need light from the sides (dark field).
_CLEAR_AMBIENT = 1.0
_FINGER_RGB = (0.45, 0.45, 0.46)
_PAN_RGB = (0.55, 0.55, 0.55)
# Fresnel's reflectance of polycarbonate (n = 1.585) at normal incidence, and about that of the fingers' plastic.
_SHINE = ((1.585 - 1) / (1.585 + 1)) ** 2
_FINGER_ROUGHNESS = 0.35
# The finger on the side of y when the hand is closed, millimetres in the tool centre point's frame.
_FINGER_MM = ((-10.5, 0.0, -45.0), (10.5, 14.6, 9.0))
# A pixel belongs to a truth mask from this share of it on: a line of an eighth of a pixel is not lost.
_SEEN_SHARE = 1 / 8

_log = logging.getLogger(__name__)


class TwinCameraConfig(FileModel):
    """Sensor, lens, light and looks. The defaults are a 20 MP sensor of 2.4 µm pixels, binned, behind 25 mm."""

    serial: str = "twin-0001"
    mount: CameraMount | None = Field(None, description="where it really stands, when that is not where the scene says")
    intrinsics: Intrinsics | None = Field(None, description="as calibrated; without it the true ones")
    renderer: Literal["auto", "egl", "tiny", "photoreal"] = Field(
        "auto", description="auto: EGL where it is found, else tiny; photoreal: a clear part, by ray tracing"
    )
    pixel_format: Literal["RGB8", "Mono8"] = "RGB8"
    width: int = Field(1280, ge=64, le=5472)
    height: int = Field(960, ge=64, le=3648)
    focal_length_mm: float = Field(25.0, gt=0, le=500)
    f_number: float = Field(8.0, ge=0.7, le=64)
    sensor_height_mm: float = Field(8.755, gt=0, le=50)
    distortion: tuple[float, float, float, float] = Field((0.0, 0.0, 0.0, 0.0), description="k1, k2, p1, p2 (OpenCV)")
    vignetting: float = Field(
        0.1, ge=0, lt=1, description="light lost at the corners, beside the cosine's fourth power"
    )
    exposure_us: float = Field(8000.0, gt=0, le=1e6)
    white: float = Field(0.8, gt=0, le=4, description="a matt white surface at look_at_m, share of the full well")
    ambient: float | None = Field(
        None,
        ge=0,
        le=1,
        description="light from all around, share of the ring light's; default: 0.06, stray light, or with"
        " photoreal 1, panels on all sides but behind",
    )
    backdrop: float = Field(0.01, ge=0, le=1, description="what is seen where nothing is, share of white")
    ring_light_mm: float = Field(100.0, gt=0, le=1000, description="diameter of the ring light around the lens")
    full_well_e: float = Field(15000.0, gt=0, description="electrons at white")
    read_noise_e: float = Field(3.0, ge=0, description="electrons, standard deviation")
    part_rgb: Rgb = (0.75, 0.78, 0.80)
    part_roughness: float = Field(0.25, gt=0.02, le=1, description="width of its highlights (GGX)")
    arm_rgb: Rgb = Field((0.06, 0.06, 0.065), description="what the arm and the hand wear")

    def pinhole(self, mount: CameraMount) -> Pinhole:
        """Return the camera's geometry where it is mounted."""
        focal_px = self.focal_length_mm / self.sensor_height_mm * self.height
        k = Intrinsics(focal_px, focal_px, self.width / 2, self.height / 2, self.width, self.height, *self.distortion)
        return Pinhole(camera_pose(mount), k)

    @property
    def light_around(self) -> float:
        """Light from all around, share of the ring light's."""
        if self.ambient is None:
            return _CLEAR_AMBIENT if self.renderer == "photoreal" else _AMBIENT
        return self.ambient

    def scene(self, scene: Scene, pan_m: float) -> Renderer:
        """Return the cell as the renderer that was asked for, or that is there, draws it."""
        if self.renderer == "egl" or (self.renderer != "tiny" and egl_found()):
            around: Renderer = EglSurroundings(scene, pan_m=pan_m)
        else:
            if self.renderer != "tiny":
                _say_that_egl_is_missing()
            around = TinySurroundings(scene, pan_m=pan_m)
        drawn = ComposedScene(around)
        return PhotorealScene(drawn, scene, pan_m=pan_m) if self.renderer == "photoreal" else drawn

    def lens(self, distance_m: float) -> Lens:
        """Return the lens, focused on a plane."""
        pixel_m = self.sensor_height_mm / 1000 / self.height
        return Lens(self.focal_length_mm / 1000, self.f_number, pixel_m, distance_m)

    def materials(self, scene: Scene, *, gloss: float, background: float) -> Materials:
        """Return what each kind of surface looks like."""
        kinds = {
            NOTHING: (self.backdrop,) * 3,
            PART: self.part_rgb,
            FINGER: _FINGER_RGB,
            ARM: self.arm_rgb,
            PAN: _PAN_RGB,
            **{BOXES + number: box.rgb for number, box in enumerate(scene.boxes)},
        }
        rgb = np.array([kinds[kind] for kind in sorted(kinds)], np.float32)
        albedo = rgb if self.pixel_format == "RGB8" else rgb @ np.array(_LUMINANCE, np.float32)[:, np.newaxis]
        reflectance, roughness = np.zeros(len(rgb), np.float32), np.ones(len(rgb), np.float32)
        reflectance[[PART, FINGER]] = gloss * _SHINE, _SHINE
        roughness[[PART, FINGER]] = self.part_roughness, _FINGER_ROUGHNESS
        brightness = np.full(len(rgb), background, np.float32)
        brightness[[PART, FINGER]] = 1
        return Materials(albedo, reflectance, roughness, brightness)


@cache
def _say_that_egl_is_missing() -> None:
    _log.warning(
        "EGL was not found: pictures are drawn with TinyRenderer, slower (apt-get install libegl1 libegl-mesa0)"
    )


class TwinCamera:
    """The camera; see `cell.interfaces.Camera`. It writes the truth about each picture where that is asked for."""

    Config = TwinCameraConfig

    def __init__(self, config: TwinCameraConfig, setup: Setup) -> None:
        self._config = config
        self._setup = setup
        self._world = world_of(setup)
        self._place = setup.scene
        if config.mount is not None:
            self._place = self._place.model_copy(update={"camera": config.mount})
        self._pinhole = config.pinhole(self._place.camera)
        self._part_id: str | None = None
        self._taken = 0

    def __enter__(self) -> Self:
        self._scene = self._config.scene(self._place, self._world.pan_m)
        self._scene.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scene.__exit__(kind, error, trace)

    @property
    def serial(self) -> str:
        """The serial number."""
        return self._config.serial

    @property
    def intrinsics(self) -> Intrinsics:
        """The calibration."""
        return self._config.intrinsics or self._pinhole.intrinsics

    @property
    def exposure_us(self) -> float:
        """Exposure time, microseconds."""
        return self._config.exposure_us

    def capture(self) -> Frame:
        """Take one picture. Frames count from a thousand times the part's number: copies of a cell share none."""
        part = self._world.part
        if part is None:
            raise GrabFailed("camera", "taking a picture", "no part is in the cell", "present one first")
        if part.part_id != self._part_id:
            self._part_id, self._taken = part.part_id, 0
        *_, part_number = part.seed
        number = part_number * _FRAMES_PER_PART + self._taken
        self._taken += 1

        snapshot = self._world.snapshot()
        timestamp = self._world.time_s
        self._world.wait(self._config.exposure_us * 1e-6)
        image, seen = picture(
            self._config,
            self._scene,
            self._place,
            snapshot,
            self._pinhole,
            np.random.default_rng((*part.seed, self._taken)),
        )
        if self._setup.order.truth is not None:
            visible = seen.share >= _SEEN_SHARE
            write_view(self._setup.order.truth, part.part_id, number, visible, seen.area_mm2, kinds=part.defects)
        return Frame(image, timestamp, self._config.exposure_us, self._config.serial, number)


def picture(
    config: TwinCameraConfig,
    renderer: Renderer,
    scene: Scene,
    snapshot: Snapshot,
    camera: Pinhole,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], Seen]:
    """Take a picture of a snapshot.

    Parameters
    ----------
    config : TwinCameraConfig
        Light, lens and sensor.
    renderer : Renderer
        Connected.
    scene : Scene
        Where things stand.
    camera : Pinhole
        With the lens's distortion.
    rng : numpy.random.Generator
        Source of the exposure's jitter and of noise.

    Returns
    -------
    image : (H, W, 3) or (H, W) uint8
        By the pixel format.
    seen : Seen
        Where the part's defect is seen, before any blur, in the pixels of `image`.
    """
    part = snapshot.part
    conditions = Conditions() if part is None else part.conditions
    straight = camera.undistorted()
    k = straight.intrinsics
    mount = scene.camera
    distance_m = float(np.linalg.norm(np.subtract(mount.look_at_m, mount.position_m)))
    materials = config.materials(scene, gloss=1.0 if part is None else part.gloss, background=conditions.background)
    to_camera = straight.pose.inverse()

    geometry = renderer.render(snapshot, straight)
    held = None
    if part is not None and snapshot.part_pose is not None:
        held = part.mesh, to_camera @ snapshot.part_pose
    lamp = Lamp.ring(
        config.ring_light_mm / 1000,
        lamps=_LAMPS,
        white=config.white,
        distance_m=distance_m,
        ambient=config.light_around,
    )
    bare = materials.albedo[PART] * np.float32(config.white * distance_m**2)
    around = None
    if isinstance(renderer, PhotorealScene):
        # Of a generator of its own, so that the sensor's noise is the same whatever draws the light.
        seed = int(rng.spawn(1)[0].integers(2**32))
        glass = cv2.dilate((geometry.surface == PART).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        light = renderer.trace(snapshot, straight, lamp, materials, glass, seed=seed)
        around = materials.albedo[PART] * np.float32(lamp.white * lamp.ambient)
    else:
        fingers = None
        if conditions.reflection > 0:
            fingers = Mirrored(_finger_boxes(snapshot), to_camera @ forward(snapshot.joints), conditions.reflection)
        light = shade(geometry, k, lamp, materials, part=held, mirrored=fingers)
    seen = lay_skins(light, geometry, snapshot, straight.pose, k, bare=bare, around=around)
    before = (geometry.surface == PART) | (geometry.surface == FINGER)
    light = blurred(light, geometry.depth_m, before, config.lens(distance_m - conditions.focus_mm / 1000))
    image = expose(
        bend(light, k, camera.intrinsics),
        camera.intrinsics,
        exposure=conditions.light * max(0.0, 1 + conditions.exposure_jitter * float(rng.standard_normal())),
        vignetting=config.vignetting,
        full_well_e=config.full_well_e,
        read_noise_e=config.read_noise_e,
        seed=rng.integers(2**64, dtype=np.uint64),
    )
    if seen.area_mm2 == 0:
        return image, Seen(np.zeros(image.shape[:2], np.float32), 0.0)
    return image, Seen(bend(seen.share[np.newaxis], k, camera.intrinsics)[0], seen.area_mm2)


def _finger_boxes(snapshot: Snapshot) -> NDArray[np.float32]:
    """Both fingers as boxes (2, 2, 3), metres in the tool centre point's frame."""
    low, high = np.array(_FINGER_MM) / 1000
    one, other = snapshot.fingers_m
    across = np.array([0.0, 1.0, 0.0])
    first = np.stack([low + one * across, high + one * across])
    second = np.stack([low + other * across, high + other * across]) * (1, -1, 1)
    return np.stack([first, np.sort(second, axis=0)]).astype(np.float32)
