"""A ring with a lip, tabs, ribs and notches: the published part, as far as it is described."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
import trimesh
from numpy.typing import NDArray
from pydantic import Field, model_validator
from trimesh.creation import box, revolve
from trimesh.transformations import rotation_matrix

from cell.schema import FileModel, Length
from twin.parts.shape import Shape

# Pieces that are joined overlap by this much, so that no faces coincide.
_OVERLAP_MM = 0.5


class RingConfig(FileModel):
    """The ring's dimensions, millimetres and degrees; its axis is z, its bottom lies at z = 0.

    The lip runs inside along the bottom. Tabs stand on the lip's inner edge, ribs on the outside of the wall,
    notches cut its upper rim; each is given by the angles of its middles, as many as there are.
    """

    outer_diameter_mm: float = Field(100.0, ge=20, le=300)
    wall_mm: float = Field(3.0, ge=1, le=20)
    height_mm: float = Field(16.0, ge=4, le=100)
    lip_mm: tuple[Length, Length] = Field((6.0, 2.5), description="width, thickness")
    tab_mm: tuple[Length, Length] = Field((5.0, 5.0), description="radial, tangential")
    tabs_deg: tuple[float, ...] = (30.0, 75.0, 150.0, 220.0, 290.0)
    rib_mm: tuple[Length, Length, Length] = Field((0.8, 1.5, 11.0), description="radial, tangential, height")
    ribs_deg: tuple[float, ...] = (
        25.0,
        45.0,
        65.0,
        115.0,
        135.0,
        155.0,
        205.0,
        225.0,
        245.0,
        295.0,
        315.0,
        335.0,
    )
    notch_mm: tuple[Length, Length] = Field((3.0, 2.0), description="tangential, depth")
    notches_deg: tuple[float, ...] = (60.0, 120.0, 240.0, 300.0)
    bevel_mm: float = Field(0.3, ge=0, le=2, description="chamfer of the wall's three outer rims; 0: sharp")
    segments: int = Field(192, ge=24, le=2000, description="edges of the circles")
    hull_sectors: int = Field(60, ge=6, le=200, description="convex pieces that stand for it in contacts")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        inside = self.outer_diameter_mm / 2 - self.wall_mm - self.lip_mm[0] - self.tab_mm[0]
        if inside <= 0:
            raise ValueError("wall, lip and tabs are wider than the ring")
        if self.lip_mm[1] >= self.height_mm or self.notch_mm[1] >= self.height_mm:
            raise ValueError("lip and notches must be lower than the ring")
        if self.rib_mm[2] + self.bevel_mm > self.height_mm:
            raise ValueError("ribs must be lower than the ring and its bevel")
        if 2 * self.bevel_mm >= min(self.wall_mm, self.height_mm - self.lip_mm[1]):
            raise ValueError("bevels must leave something of the wall")
        return self


class Ring:
    """Maker of the ring."""

    Config = RingConfig

    def __init__(self, config: RingConfig) -> None:
        self._config = config

    def make(self, folder: Path = Path()) -> Shape:
        """Build the ring; see `ShapeMaker`."""
        c = self._config
        outer, inner = c.outer_diameter_mm / 2, c.outer_diameter_mm / 2 - c.wall_mm
        lip_inner = inner - c.lip_mm[0]
        body = revolve(self._profile(outer, inner, lip_inner), sections=c.segments)
        tabs = _around(
            (c.tab_mm[0] + _OVERLAP_MM, c.tab_mm[1], c.lip_mm[1]),
            lip_inner - (c.tab_mm[0] - _OVERLAP_MM) / 2,
            c.lip_mm[1] / 2,
            c.tabs_deg,
        )
        ribs = _around(
            (c.rib_mm[0] + _OVERLAP_MM, c.rib_mm[1], c.rib_mm[2]),
            outer + (c.rib_mm[0] - _OVERLAP_MM) / 2,
            c.bevel_mm + c.rib_mm[2] / 2,
            c.ribs_deg,
        )
        notches = _around(
            (c.wall_mm + 2, c.notch_mm[0], 2 * c.notch_mm[1]), (outer + inner) / 2, c.height_mm, c.notches_deg
        )
        mesh = trimesh.boolean.union([body, *tabs, *ribs], engine="manifold")
        if notches:
            mesh = trimesh.boolean.difference([mesh, *notches], engine="manifold")
        structures = [trimesh.boolean.difference([piece, body], engine="manifold") for piece in (*tabs, *ribs)]
        return Shape(mesh, self._hulls(inner, outer), tuple(structures))

    def _profile(self, outer: float, inner: float, lip_inner: float) -> NDArray[np.float64]:
        """Cross-section of wall and lip, a closed line of radius and height."""
        b, top, lip = self._config.bevel_mm, self._config.height_mm, self._config.lip_mm[1]
        corners = [
            (lip_inner, 0),
            (outer - b, 0),
            (outer, b),
            (outer, top - b),
            (outer - b, top),
            (inner + b, top),
            (inner, top - b),
            (inner, lip),
            (lip_inner, lip),
            (lip_inner, 0),
        ]
        # Without a bevel, corners coincide; they are given once.
        return np.array([corner for i, corner in enumerate(corners) if i == 0 or corner != corners[i - 1]], dtype=float)

    def _hulls(self, inner: float, outer: float) -> tuple[NDArray[np.float64], ...]:
        c = self._config
        hulls = []
        for sector in range(c.hull_sectors):
            angles = 2 * np.pi * (sector + np.array([0, 1])) / c.hull_sectors
            hulls.append(_prism((inner, outer), angles, c.height_mm))
        return tuple(hulls)


def _around(
    size: tuple[float, float, float], radius: float, height: float, angles_deg: Iterable[float]
) -> list[trimesh.Trimesh]:
    pieces = []
    for angle in angles_deg:
        piece = box(size)
        piece.apply_translation((radius, 0, height))
        piece.apply_transform(rotation_matrix(np.radians(angle), (0, 0, 1)))
        pieces.append(piece)
    return pieces


def _prism(radii: tuple[float, float], angles: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    r, a, z = np.meshgrid(radii, angles, (0.0, height), indexing="ij")
    return np.stack([r * np.cos(a), r * np.sin(a), z], axis=-1).reshape(-1, 3)
