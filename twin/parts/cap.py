"""A rectangular cap, such as the lid of a small housing: bosses, ribs, snap hooks and vents."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import trimesh
from pydantic import Field, model_validator
from trimesh.creation import box, cylinder

from cell.schema import FileModel, Length
from twin.parts.hulls import convex_pieces
from twin.parts.shape import Shape

# Pieces that are joined overlap by this much, so that no faces coincide.
_OVERLAP_MM = 0.5


class CapConfig(FileModel):
    """The cap's dimensions, millimetres; it stands on its floor, open upwards, its middle at x = y = 0.

    Bosses stand in a row along x on the floor, ribs cross it, vents cut through it between them; snap hooks look out
    of the two short walls under the rim.
    """

    length_mm: float = Field(60.0, ge=20, le=120)
    width_mm: float = Field(40.0, ge=15, le=76, description="between the outsides of the long walls")
    height_mm: float = Field(14.0, ge=6, le=60)
    wall_mm: float = Field(2.0, ge=0.8, le=5, description="of walls and floor")
    corner_mm: float = Field(6.0, ge=1, le=20, description="outer radius of the upright corners")
    boss_mm: tuple[Length, Length, Length] = Field((6.0, 2.5, 8.0), description="diameter, of its bore, height")
    bosses_mm: tuple[float, ...] = Field((-20.0, 20.0), description="x of the middle of each")
    rib_mm: tuple[Length, Length] = Field((1.0, 3.0), description="thickness, height over the floor")
    ribs_mm: tuple[float, ...] = Field((-12.0, 0.0, 12.0), description="x of the middle of each")
    vent_mm: tuple[Length, Length] = Field((2.0, 14.0), description="along x, along y")
    vents_mm: tuple[float, ...] = Field((-6.0, 6.0), description="x of the middle of each")
    hook_mm: tuple[Length, Length, Length] = Field((1.2, 8.0, 2.0), description="out of the wall, along it, height")
    sections: int = Field(48, ge=12, le=200, description="edges of the circles")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.corner_mm <= self.wall_mm or 2 * self.corner_mm >= min(self.length_mm, self.width_mm):
            raise ValueError("corner_mm must be more than the wall and less than half of length and width")
        if self.boss_mm[1] >= self.boss_mm[0]:
            raise ValueError("a boss must be wider than its bore")
        if max(self.boss_mm[2], self.rib_mm[1], self.hook_mm[2] + 1) + self.wall_mm >= self.height_mm:
            raise ValueError("bosses, ribs and hooks must be lower than the walls")
        inside = self.length_mm / 2 - self.wall_mm
        half = max(self.boss_mm[0], self.rib_mm[0], self.vent_mm[0]) / 2
        if any(abs(x) + half > inside for x in (*self.bosses_mm, *self.ribs_mm, *self.vents_mm)):
            raise ValueError("bosses, ribs and vents must lie between the walls")
        return self


class Cap:
    """Maker of the cap."""

    Config = CapConfig

    def __init__(self, config: CapConfig) -> None:
        self._config = config

    def make(self, folder: Path = Path()) -> Shape:
        """Build the cap; see `ShapeMaker`."""
        c = self._config
        hollow = self._block(c.length_mm - 2 * c.wall_mm, c.width_mm - 2 * c.wall_mm, c.corner_mm - c.wall_mm)
        hollow.apply_translation((0, 0, c.wall_mm))
        tray = trimesh.boolean.difference(
            [self._block(c.length_mm, c.width_mm, c.corner_mm), hollow], engine="manifold"
        )
        bosses, bores = [], []
        for x in c.bosses_mm:
            diameter, bore, height = c.boss_mm
            bosses.append(self._pin(x, diameter, height + _OVERLAP_MM, c.wall_mm - _OVERLAP_MM))
            bores.append(self._pin(x, bore, height + 1, c.wall_mm))
        ribs = [
            _block_at(
                (c.rib_mm[0], c.width_mm - c.wall_mm, c.rib_mm[1] + _OVERLAP_MM),
                (x, 0, c.wall_mm + (c.rib_mm[1] - _OVERLAP_MM) / 2),
            )
            for x in c.ribs_mm
        ]
        out, along, high = c.hook_mm
        hooks = [
            _block_at(
                (out + _OVERLAP_MM, along, high),
                (sign * (c.length_mm + out - _OVERLAP_MM) / 2, 0, c.height_mm - 1 - high / 2),
            )
            for sign in (-1, 1)
        ]
        vents = [_block_at((*c.vent_mm, 4 * c.wall_mm), (x, 0, 0)) for x in c.vents_mm]
        added = (*bosses, *ribs, *hooks)
        solid = trimesh.boolean.union([tray, *added], engine="manifold")
        cuts = (*vents, *bores)
        mesh = trimesh.boolean.difference([solid, *cuts], engine="manifold") if cuts else solid
        pieces = [trimesh.boolean.difference([piece, tray, *cuts], engine="manifold") for piece in added]
        return Shape(mesh, convex_pieces(mesh, most=40), tuple(pieces))

    def _block(self, length: float, width: float, radius: float) -> trimesh.Trimesh:
        """Make a block with round upright corners, on the plane z = 0."""
        height = self._config.height_mm
        points = []
        for x in (-1, 1):
            for y in (-1, 1):
                pin = cylinder(radius, height, sections=self._config.sections)
                pin.apply_translation((x * (length / 2 - radius), y * (width / 2 - radius), height / 2))
                points.append(pin.vertices)
        return trimesh.convex.convex_hull(np.concatenate(points))

    def _pin(self, x: float, diameter: float, height: float, bottom: float) -> trimesh.Trimesh:
        pin = cylinder(diameter / 2, height, sections=self._config.sections)
        pin.apply_translation((x, 0, bottom + height / 2))
        return pin


def _block_at(size: tuple[float, float, float], middle: tuple[float, float, float]) -> trimesh.Trimesh:
    piece = box(size)
    piece.apply_translation(middle)
    return piece
