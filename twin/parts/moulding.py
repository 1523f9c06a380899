"""How one shot differs from the next: what every good part has, and no defect. Lengths are millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import trimesh
from numpy.typing import NDArray

from cell.schema import Gate, Moulding, PartFile, Weld
from twin.parts.shape import Shape
from twin.parts.skin import Skin
from twin.parts.surface import PROUD_MM, places_on, within
from twin.streams import stream

# A gate that is cut or torn off leaves a matt spot.
_GATE_REFLECTANCE = (0.85, 0.05, 0.02)
# A weld line is a notch of some micrometres and 0.05 to 0.2 mm wide, seen as a faint dark line.
_WELD_WIDTH_MM = 0.1
_WELD_REFLECTANCE = (0.93, 0.02, 0.01)
# The fronts meet elsewhere in each cavity, and wander a little from shot to shot.
_WELD_SHIFT_MM = (1.0, 0.2)
_HAZE_RADIUS_MM = (5.0, 12.0)


@dataclass(frozen=True, eq=False)
class Shot:
    """What sets one shot apart from the nominal part.

    Attributes
    ----------
    strain : (3, 3) float64
        By which every point of the part is multiplied.
    density : float
        Relative.
    gloss : float
        Relative.
    skins : tuple of Skin
        What is printed, gate mark, weld line and haze, on the nominal part.
    """

    strain: NDArray[np.float64]
    density: float
    gloss: float
    skins: tuple[Skin, ...]

    def strained(self, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
        """Return a mesh of the nominal part as it is on this one."""
        return trimesh.Trimesh(mesh.vertices @ self.strain.T, mesh.faces, process=False)


def mould(part: PartFile, shape: Shape, cavity: int, seed: Sequence[int]) -> Shot:
    """Make a shot.

    Parameters
    ----------
    part : PartFile
        How shots and cavities differ.
    shape : Shape
        The nominal part.
    cavity : int
        From 1. What is particular to it follows from its number and the part's name, not from `seed`.
    seed : sequence of int
        The part's.
    """
    m = part.moulding
    mould_seed = (crc32(part.name.encode()), cavity)
    shot, own = stream(seed, "shot"), stream(mould_seed, "cavity")
    size = 1 + m.cavity_size * own.normal() + m.size * shot.normal()
    density = (1 + m.cavity_mass * own.normal()) * (1 + m.mass * shot.normal())
    turn, oval = shot.uniform(0, 2 * np.pi), m.ovality * shot.normal()
    strain = size * np.eye(3)
    strain[:2, :2] += oval * np.array([[np.cos(turn), np.sin(turn)], [np.sin(turn), -np.cos(turn)]])
    gloss = max(0.0, 1 + m.gloss * shot.normal())
    skins = list(shape.skins)
    if m.haze:
        skins.append(_haze(m, shape, stream(mould_seed, "haze"), stream(seed, "haze")))
    if m.gate is not None:
        skins.append(_gate_mark(m.gate, shape, stream(mould_seed, "gate"), stream(seed, "gate")))
    if m.weld is not None:
        skins.append(_weld_line(m.weld, m.gate, shape, stream(mould_seed, "weld"), stream(seed, "weld")))
    return Shot(strain, density, gloss, tuple(skins))


def _drawn(values: tuple[float, float, float], own: np.random.Generator, shot: np.random.Generator) -> float:
    """Draw around a mean with a standard deviation between cavities and one between shots."""
    mean, of_cavity, of_shot = values
    return max(0.0, mean + of_cavity * own.normal() + of_shot * shot.normal())


def _haze(m: Moulding, shape: Shape, own: np.random.Generator, shot: np.random.Generator) -> Skin:
    """Lay a matt patch where the mould's polish is worn: in the same place on each part of the cavity."""
    (centre,), (normal,) = places_on(shape.mesh, 1, own)
    mesh = within(shape.mesh, centre, own.uniform(*_HAZE_RADIUS_MM), normal)
    return Skin(mesh, max(0.0, 1 + m.haze * (own.normal() + 0.3 * shot.normal())), defect=False)


def _gate_mark(gate: Gate, shape: Shape, own: np.random.Generator, shot: np.random.Generator) -> Skin:
    (centre,), _, (face,) = shape.mesh.nearest.on_surface([gate.position_mm])
    mesh = within(shape.mesh, centre, gate.diameter_mm / 2, shape.mesh.face_normals[face])
    return Skin(mesh, _drawn(_GATE_REFLECTANCE, own, shot), defect=False)


def _weld_line(
    weld: Weld, gate: Gate | None, shape: Shape, own: np.random.Generator, shot: np.random.Generator
) -> Skin:
    """Lay thin ribbons where a plane cuts the surface, on the side away from the gate."""
    normal = np.array(weld.normal) / np.linalg.norm(weld.normal)
    shift = _WELD_SHIFT_MM[0] * own.normal() + _WELD_SHIFT_MM[1] * shot.normal()
    at = np.array(weld.position_mm) + shift * normal
    lines, faces = trimesh.intersections.mesh_plane(shape.mesh, normal, at, return_faces=True)
    middles = lines.mean(axis=1)
    origin = np.array(gate.position_mm) if gate is not None else shape.mesh.centroid
    far = (middles - origin) @ (at - origin) > 0.5 * (at - origin) @ (at - origin)
    ups, (a, b) = shape.mesh.face_normals[faces[far]], lines[far].transpose(1, 0, 2) + 0.0
    sides = np.cross(ups, b - a)
    sides *= _WELD_WIDTH_MM / 2 / np.maximum(np.linalg.norm(sides, axis=1, keepdims=True), 1e-12)
    a, b = a + PROUD_MM * ups, b + PROUD_MM * ups
    corners = np.stack([a - sides, b - sides, b + sides, a + sides], axis=1)
    quads = 4 * np.arange(len(corners))[:, np.newaxis]
    triangles = (quads[..., np.newaxis] + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3)
    mesh = trimesh.Trimesh(corners.reshape(-1, 3), triangles, process=False)
    return Skin(mesh, _drawn(_WELD_REFLECTANCE, own, shot), defect=False)
