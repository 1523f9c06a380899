"""The simulated feeder: it makes the parts that a production file asks for and lays them down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from cell.interfaces import ConfigError, DeviceTimeout, PartTicket
from cell.schema import Defect, FileModel
from cell.setup import Setup
from twin.device import InWorld, world_of
from twin.nuisances import Nuisances, make_nuisances
from twin.parts.defects import make_defect
from twin.parts.made import MadeDefect
from twin.parts.moulding import Shot, mould
from twin.parts.shape import make_shape
from twin.snapshot import PartBody
from twin.streams import stream
from twin.truth import write_part
from twin.visibility import PlannedView, planned_views, seen_by


class TwinPartSourceConfig(FileModel):
    """What is made stands in the part and production files; this is how it comes to the cell."""

    visits: int = Field(
        1,
        ge=1,
        description="each part comes so many times in a row: its shape and what lies on it stay; how it lies, is held "
        "and lit, and all noise are drawn anew",
    )
    misplaced: float = Field(
        1.0, ge=0, le=100, description="times the nuisance level's offsets at the feeder and slips in the hand"
    )
    arm_error: float = Field(1.0, ge=0, le=1000, description="times the nuisance level's errors of the joints")


class TwinPartSource(InWorld):
    """The part source; see `cell.interfaces.PartSource`. It owns the truth about its parts."""

    Config = TwinPartSourceConfig

    def __init__(self, config: TwinPartSourceConfig, setup: Setup) -> None:
        self._config = config
        self._setup = setup
        self._world = world_of(setup)
        self._views: tuple[PlannedView, ...] | None = None

    def __enter__(self) -> Self:
        self._shape = make_shape(self._setup.order.part)
        self._numbers: Iterator[int] = iter(self._setup.order.numbers)
        return self

    def next(self) -> PartTicket:
        """Make the next part and lay it at the feeder."""
        number = next(self._numbers, None)
        if number is None:
            raise DeviceTimeout("feeder", "presenting a part", "all parts asked for were made", "order more")
        production = self._setup.production
        made = number // self._config.visits
        batch = production.batch_of(made)
        seed, visit = (self._setup.order.seed, made), (self._setup.order.seed, number)
        part_id = f"{production.lot}-{number:05d}"
        cavity = made % production.cavities + 1
        # Each cause draws from a stream of its own: a part with a defect, or without its dust, differs from the same
        # part without, or with it, by that alone.
        shot = mould(self._setup.part, self._shape, cavity, seed)
        nuisances = make_nuisances(
            production.nuisances,
            production.without,
            self._shape.mesh,
            seed,
            visit=visit,
            misplaced=self._config.misplaced,
            arm_error=self._config.arm_error,
        )
        defects = self._defects(batch.defects, seed)
        if self._setup.order.truth is not None:
            write_part(self._setup.order.truth, part_id, defects)
        body = self._body(part_id, visit, shot, nuisances, defects)
        self._world.present(body, nuisances.offset_mm / 1000, float(np.radians(nuisances.turn_deg)))
        return PartTicket(part_id, production.lot, cavity, made, batch.label)

    def _defects(self, wanted: tuple[Defect, ...], seed: tuple[int, ...]) -> tuple[MadeDefect, ...]:
        shape, made = self._shape, []
        for index, defect in enumerate(wanted):
            try:
                one = make_defect(defect, shape, stream(seed, f"defect {index}"), seen_by=self._seen_by)
            except ValueError as error:
                raise ConfigError(f"{self._setup.order.production.path}: {error}") from error
            if one is not None:
                made.append(one)
                shape = replace(shape, mesh=one.mesh)
        return tuple(made)

    def _body(
        self,
        part_id: str,
        visit: tuple[int, ...],
        shot: Shot,
        nuisances: Nuisances,
        defects: tuple[MadeDefect, ...],
    ) -> PartBody:
        nominal, skins = self._shape.mesh, (*shot.skins, *nuisances.skins)
        for defect in defects:
            carried = [kept for skin in skins if (kept := defect.carry(skin)) is not None]
            skins = (*carried, defect.skin) if defect.skin is not None else tuple(carried)
            nominal = defect.mesh
        mesh = shot.strained(nominal)
        return PartBody(
            part_id=part_id,
            mesh=mesh,
            hulls=tuple(hull @ shot.strain.T for hull in self._shape.hulls),
            mass_g=float(mesh.volume) * 1e-3 * self._setup.part.density_g_cm3 * shot.density,
            skins=tuple(replace(skin, mesh=shot.strained(skin.mesh)) for skin in skins),
            removed=tuple(shot.strained(d.removed) for d in defects if d.removed is not None),
            altered=tuple(shot.strained(d.altered) for d in defects if d.altered is not None),
            gloss=shot.gloss,
            conditions=nuisances.conditions,
            seed=visit,
            defects=tuple(d.kind for d in defects),
        )

    def _seen_by(self, points_mm: NDArray[np.float64]) -> int:
        if self._views is None:
            self._views = planned_views(self._setup.order, self._shape)
        return seen_by(self._views, points_mm)
