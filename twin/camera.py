"""The simulated camera: optics and sensor on top of a rendered picture."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.interfaces import Frame, GrabFailed, Intrinsics
from cell.motion.round import camera_pose
from cell.schema import CameraMount, FileModel, Rgb, Scene
from cell.setup import Setup
from twin.rendering.pinhole import Pinhole
from twin.rendering.tiny import TinyScene
from twin.truth import write_mask
from twin.world import world_of

_FRAMES_PER_PART = 1000


class TwinCameraConfig(FileModel):
    """Sensor, lens and looks. The defaults are a 20 MP sensor of 2.4 µm pixels, binned, behind 25 mm."""

    serial: str = "twin-0001"
    width: int = Field(1280, ge=64, le=5472)
    height: int = Field(960, ge=64, le=3648)
    focal_length_mm: float = Field(25.0, gt=0, le=500)
    sensor_height_mm: float = Field(8.755, gt=0, le=50)
    exposure_us: float = Field(8000.0, gt=0, le=1e6)
    full_well_e: float = Field(15000.0, gt=0, description="electrons at white")
    read_noise_e: float = Field(3.0, ge=0, description="electrons, standard deviation")
    part_rgb: Rgb = (0.75, 0.78, 0.80)
    arm_rgb: Rgb = Field((0.06, 0.06, 0.065), description="what the arm and the hand wear")

    def pinhole(self, mount: CameraMount) -> Pinhole:
        """Return the camera's geometry where it is mounted."""
        focal_px = self.focal_length_mm / self.sensor_height_mm * self.height
        intrinsics = Intrinsics(focal_px, focal_px, self.width / 2, self.height / 2, self.width, self.height)
        return Pinhole(camera_pose(mount), intrinsics)

    def tiny_scene(self, scene: Scene, pan_m: float) -> TinyScene:
        """Return the cell as the renderer draws it."""
        mount = scene.camera
        distance = float(np.linalg.norm(np.subtract(mount.look_at_m, mount.position_m)))
        return TinyScene(scene, part_rgb=self.part_rgb, arm_rgb=self.arm_rgb, pan_m=pan_m, part_distance_m=distance)


class TwinCamera:
    """The camera; see `cell.interfaces.Camera`. It writes the truth about each picture where that is asked for."""

    Config = TwinCameraConfig

    def __init__(self, config: TwinCameraConfig, setup: Setup) -> None:
        self._config = config
        self._setup = setup
        self._world = world_of(setup)
        self._pinhole = config.pinhole(setup.scene.camera)
        self._scene = config.tiny_scene(setup.scene, self._world.pan_m)
        self._part_id: str | None = None
        self._taken = 0

    def __enter__(self) -> Self:
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
        return self._pinhole.intrinsics

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
        rendered = self._scene.render(snapshot, self._pinhole)
        if self._setup.order.truth is not None:
            visible = rendered.defect
            if part.removed:
                visible = visible | self._scene.where_missing(snapshot, self._pinhole)
            write_mask(self._setup.order.truth, part.part_id, number, visible)
        rng = np.random.default_rng((*part.seed, self._taken))
        return Frame(
            self._sense(rendered.radiance * np.float32(part.conditions.light), rng),
            timestamp,
            self._config.exposure_us,
            self._config.serial,
            number,
        )

    def _sense(self, radiance: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Turn light into 8-bit values: photon noise and read noise in electrons, clipped at the full well."""
        full_well = np.float32(self._config.full_well_e)
        electrons = radiance * full_well
        sigma = np.sqrt(electrons + np.float32(self._config.read_noise_e**2))
        sigma *= rng.standard_normal(electrons.shape, dtype=np.float32)
        electrons += sigma
        electrons *= np.float32(255) / full_well
        return np.clip(np.rint(electrons, out=electrons), 0, 255, out=electrons).astype(np.uint8)
