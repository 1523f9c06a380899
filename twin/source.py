"""The simulated feeder: it makes the parts that a production file asks for and lays them down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np

from cell.config import load_class
from cell.interfaces import Camera, ConfigError, DeviceTimeout, PartTicket
from cell.schema import FileModel
from cell.setup import Setup
from twin.camera import TwinCameraConfig
from twin.device import InWorld
from twin.parts.defects import MadeDefect, make_defect
from twin.parts.shape import Shape, ShapeMaker
from twin.truth import write_part
from twin.visibility import Visibility
from twin.world import PartBody, world_of


class TwinPartSourceConfig(FileModel):
    """What is made stands in the part and production files."""


class TwinPartSource(InWorld):
    """The part source; see `cell.interfaces.PartSource`. It owns the truth about its parts."""

    Config = TwinPartSourceConfig

    def __init__(self, config: TwinPartSourceConfig, setup: Setup) -> None:
        self._setup = setup
        self._world = world_of(setup)
        self._visibility: Visibility | None = None

    def __enter__(self) -> Self:
        where = f"{self._setup.order.part.path}: shape"
        maker, config = load_class(self._setup.part.shape, where, like=ShapeMaker)
        try:
            self._shape: Shape = maker(config).make()
        except ValueError as error:
            raise ConfigError(f"{where}: makes no solid: {error}") from error
        self._numbers: Iterator[int] = iter(self._setup.order.numbers)
        return self

    def next(self) -> PartTicket:
        """Make the next part and lay it at the feeder."""
        number = next(self._numbers, None)
        if number is None:
            raise DeviceTimeout("feeder", "presenting a part", "all parts asked for were made", "order more")
        production = self._setup.production
        batch = production.batch_of(number)
        seed = (self._setup.order.seed, number)
        rng = np.random.default_rng(seed)
        part_id = f"{production.lot}-{number:05d}"
        defects: tuple[MadeDefect, ...] = ()
        # Drawn first: a part with a defect differs from the good part of the same seed by its defect alone.
        offset_mm = rng.normal(0.0, production.variation.offset_mm, size=2)
        angle_deg = float(rng.normal(0.0, production.variation.angle_deg))
        light = 1.0 + float(rng.normal(0.0, production.variation.brightness))
        if batch.defect is not None:
            try:
                defects = (make_defect(batch.defect, self._shape, rng, seen_by=self._seen_by),)
            except ValueError as error:
                raise ConfigError(f"{self._setup.order.production.path}: {error}") from error
        if self._setup.order.truth is not None:
            write_part(self._setup.order.truth, part_id, defects)
        self._world.present(self._body(part_id, seed, defects, light), offset_mm / 1000, float(np.radians(angle_deg)))
        return PartTicket(part_id, production.lot, number % production.cavities + 1, number, batch.label)

    def _body(self, part_id: str, seed: tuple[int, ...], defects: tuple[MadeDefect, ...], light: float) -> PartBody:
        mesh = defects[0].mesh if defects else self._shape.mesh
        return PartBody(
            part_id=part_id,
            mesh=mesh,
            hulls=self._shape.hulls,
            mass_g=float(mesh.volume) * 1e-3 * self._setup.part.density_g_cm3,
            patches=tuple(d.patch for d in defects if d.patch is not None),
            removed=tuple(d.removed for d in defects if d.removed is not None),
            light=light,
            seed=seed,
        )

    def _seen_by(self, points_mm: np.ndarray) -> int:
        if self._visibility is None:
            cell = self._setup.order.cell
            camera = load_class(cell.content.camera, f"{cell.path}: camera", like=Camera)[1]
            if not isinstance(camera, TwinCameraConfig):
                raise ConfigError(f"{cell.path}: camera: a part with a defect needs a camera of the twin")
            with camera.tiny_scene(self._setup.scene, self._world.pan_m) as scene:
                good = self._body("good", (0, 0), (), 1.0)
                self._visibility = Visibility(self._setup, good, scene, camera.pinhole(self._setup.scene.camera))
        return self._visibility.seen_by(points_mm)
