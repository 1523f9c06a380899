"""What troubles an inspection and is no defect, in four levels that are fixed here once.

`docs/twin.md` says where each number comes from. Each cause has a random stream of its own, so any of them can be
switched off without a bit of the others changing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import trimesh
from numpy.typing import NDArray

from cell.schema import Nuisance
from twin.conditions import N_GRASPS, Conditions
from twin.parts.skin import Skin
from twin.parts.surface import PROUD_MM, places_on, tangents, within
from twin.streams import stream


@dataclass(frozen=True)
class Level:
    """How much of each cause there is.

    Attributes
    ----------
    dust_um : float
        Particle cleanliness level of the part's surface after IEST-STD-CC1246; 0: no dust.
    strings_per_100cm2 : float
        Mean number of fibres and plastic strings.
    fingerprint : float
        Share of parts that bear one.
    light, exposure, background : float
        Standard deviations: between parts, between pictures, between parts; relative.
    focus_mm : float
        Standard deviation of the plane of sharpness.
    place_mm, place_deg : float
        Scale of the part's offset and turn at the feeder.
    slip_mm, slip_deg : float
        Scale of its slip in the hand at each grasp.
    reflection : float
        Share of light that the part mirrors of the gripper.
    arm_rad : float
        Standard deviation of each joint's angle at each stop.
    """

    dust_um: float = 0.0
    strings_per_100cm2: float = 0.0
    fingerprint: float = 0.0
    light: float = 0.0
    exposure: float = 0.0
    focus_mm: float = 0.0
    background: float = 0.0
    place_mm: float = 0.0
    place_deg: float = 0.0
    slip_mm: float = 0.0
    slip_deg: float = 0.0
    reflection: float = 0.0
    arm_rad: float = 0.0


LEVELS = (
    Level(),
    Level(
        dust_um=100,
        strings_per_100cm2=0.05,
        fingerprint=0.01,
        light=0.005,
        exposure=0.001,
        focus_mm=0.5,
        background=0.05,
        place_mm=0.05,
        place_deg=0.1,
        slip_mm=0.01,
        slip_deg=0.03,
        reflection=0.01,
        arm_rad=2e-5,
    ),
    Level(
        dust_um=200,
        strings_per_100cm2=0.2,
        fingerprint=0.03,
        light=0.01,
        exposure=0.003,
        focus_mm=1.0,
        background=0.1,
        place_mm=0.1,
        place_deg=0.2,
        slip_mm=0.03,
        slip_deg=0.1,
        reflection=0.025,
        arm_rad=4e-5,
    ),
    Level(
        dust_um=300,
        strings_per_100cm2=0.8,
        fingerprint=0.1,
        light=0.03,
        exposure=0.01,
        focus_mm=2.5,
        background=0.25,
        place_mm=0.2,
        place_deg=0.4,
        slip_mm=0.1,
        slip_deg=0.3,
        reflection=0.05,
        arm_rad=8e-5,
    ),
)

# CC1246: of N(>x) = 10^(0.926 (log² L - log² x)) particles on 0.1 m², those of 20 to 500 µm.
_DUST_SLOPE = 0.926
_DUST_UM = (20.0, 500.0)
# Dust swallows or scatters light: soot and metal, skin and textile, polymer fluff; reflectance times the part's.
_DUST_REFLECTANCE = (0.35, 0.65, 1.2)
_DUST_SHARES = (0.3, 0.5, 0.2)
_DUST_OPACITY = 0.9
_DUST_CORNERS = 6
# Most particles stick; of the loose share one half falls off between the grasps, the other half moves elsewhere.
DUST_LOOSE = 0.2
# Textile fibres are about 20 µm thick, strings of melt from the gate 10 to 40 µm.
_STRING_LENGTH_MM = (2.0, 0.8, 0.3, 30.0)
_STRING_DIAMETER_MM = (0.02, 0.3)
_STRING_REFLECTANCE = 0.7
_STRING_OPACITY = 0.6
_STRING_SEGMENTS = 12
# Half of a strand's length may stand off the surface by so much of it.
_STRING_BOW = 0.1
_FINGER_RADII_MM = (8.0, 5.0)
_FINGER_REFLECTANCE = 0.03
# Misplacements are a mix of many scatters (a clean nest, a burr, a static charge): a normal distribution whose
# variance is itself random is Student's t. Four degrees of freedom put 1.6 % beyond four scales, a normal 0.006 %.
_TAIL_DOF = 4.0
# The feeder's nest lets a part be no farther off.
_PLACE_MOST = (1.5, 3.0)
_SLIP_MOST = (0.5, 1.0)


@dataclass(frozen=True, eq=False)
class Nuisances:
    """What troubles one part: what lies on it, under what it is inspected, and how it lies at the feeder."""

    skins: tuple[Skin, ...]
    conditions: Conditions
    offset_mm: NDArray[np.float64]
    turn_deg: float


def make_nuisances(
    level: int,
    without: Collection[Nuisance],
    mesh: trimesh.Trimesh,
    seed: Sequence[int],
    *,
    visit: Sequence[int] | None = None,
    misplaced: float = 1.0,
    arm_error: float = 1.0,
) -> Nuisances:
    """Draw a part's nuisances.

    Parameters
    ----------
    level : int
        0 to 3; an index of `LEVELS`.
    without : collection of str
        Causes that are switched off.
    mesh : trimesh.Trimesh
        The good part, millimetres.
    seed : sequence of int
        The part's: what lies on it follows from that.
    visit : sequence of int, optional
        Seed of this inspection of it, by which it lies, is held and lit; without it the part's.
    misplaced, arm_error : float
        Times the level's offsets at the feeder and slips in the hand, and its errors of the arm's joints. What is
        drawn stays; the walls of the nest and the pads limit it as before.
    """
    amounts, anew = LEVELS[level], seed if visit is None else visit

    def on(cause: Nuisance) -> bool:
        return level > 0 and cause not in without

    def scatter(cause: Nuisance, deviation: float) -> float:
        return deviation * float(stream(anew, cause).normal()) if on(cause) else 0.0

    skins: list[Skin] = []
    if on("dust"):
        skins += _dust(amounts.dust_um, mesh, stream(seed, "dust"))
    if on("strings"):
        skins += _strings(amounts.strings_per_100cm2, mesh, stream(seed, "strings"))
    if on("fingerprint"):
        skins += _fingerprint(amounts.fingerprint, mesh, stream(seed, "fingerprint"))
    place, slip_mm, slip_rad = np.zeros(3), np.zeros((N_GRASPS, 3)), np.zeros((N_GRASPS, 3))
    if on("grasp"):
        rng = stream(anew, "grasp")
        place[:2] = _tailed(misplaced * amounts.place_mm, _PLACE_MOST[0], 2, rng)
        place[2] = _tailed(misplaced * amounts.place_deg, _PLACE_MOST[1], 1, rng)[0]
        # The fingers hold the part across their opening (y); it slips along their pads and turns about y.
        slip_mm[:, [0, 2]] = _tailed(misplaced * amounts.slip_mm, _SLIP_MOST[0], (N_GRASPS, 2), rng)
        slip_rad[:, 1] = np.radians(_tailed(misplaced * amounts.slip_deg, _SLIP_MOST[1], N_GRASPS, rng))
    conditions = Conditions(
        light=max(0.1, 1 + scatter("light", amounts.light)),
        exposure_jitter=amounts.exposure if on("exposure") else 0.0,
        focus_mm=scatter("focus", amounts.focus_mm),
        background=max(0.0, 1 + scatter("background", amounts.background)),
        reflection=amounts.reflection if on("reflection") else 0.0,
        arm_error_rad=arm_error * amounts.arm_rad if on("arm") else 0.0,
        slip_mm=slip_mm,
        slip_rad=slip_rad,
    )
    return Nuisances(tuple(skins), conditions, place[:2], float(place[2]))


def _tailed(scale: float, most: float, size: int | tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.clip(scale * rng.standard_t(_TAIL_DOF, size=size), -most, most)


def dust_sizes_um(level_um: float, area_mm2: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the diameters (N,) of the particles on a surface, micrometres, after IEST-STD-CC1246."""

    def more_than(size_um: float) -> float:
        return float(10 ** (_DUST_SLOPE * (np.log10(level_um) ** 2 - np.log10(size_um) ** 2)) * area_mm2 / 1e5)

    smallest, largest = _DUST_UM
    count = rng.poisson(more_than(smallest) - more_than(largest))
    left = rng.uniform(more_than(largest) / more_than(smallest), 1, count)
    return np.asarray(10 ** np.sqrt(np.log10(smallest) ** 2 - np.log10(left) / _DUST_SLOPE))


def _dust(level_um: float, mesh: trimesh.Trimesh, rng: np.random.Generator) -> list[Skin]:
    sizes = dust_sizes_um(level_um, float(mesh.area), rng) / 1000
    kinds = rng.choice(len(_DUST_REFLECTANCE), size=len(sizes), p=_DUST_SHARES)
    fate = rng.random(len(sizes))
    first, second = (_specks(mesh, sizes, rng) for _ in range(N_GRASPS))
    stays, moves = fate >= DUST_LOOSE, fate < DUST_LOOSE / 2
    skins = []
    for kind, reflectance in enumerate(_DUST_REFLECTANCE):
        for which, specks, grasps in (
            (stays, first, None),
            (~stays, first, (0,)),
            (moves, second, (1,)),
        ):
            chosen = specks[which & (kinds == kind)]
            if len(chosen):
                skins.append(Skin(_fans(chosen), reflectance, _DUST_OPACITY, defect=False, grasps=grasps))
    return skins


def _specks(mesh: trimesh.Trimesh, sizes_mm: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Lay flat, irregular, convex specks on the surface: corners (N, C, 3) of each, counted about its normal."""
    centres, normals = places_on(mesh, len(sizes_mm), rng)
    right = tangents(normals, rng)
    ahead = np.cross(normals, right)
    # Axes of one half to one of the largest extent.
    narrow = rng.uniform(0.5, 1.0, (len(sizes_mm), 1, 1))
    corners = 2 * np.pi * (np.arange(_DUST_CORNERS) + rng.uniform(-0.3, 0.3, (len(sizes_mm), _DUST_CORNERS)))
    angles = corners[..., np.newaxis] / _DUST_CORNERS
    shape = np.cos(angles) * right[:, np.newaxis] + narrow * np.sin(angles) * ahead[:, np.newaxis]
    middle = centres + PROUD_MM * normals
    return np.asarray(middle[:, np.newaxis] + sizes_mm[:, np.newaxis, np.newaxis] / 2 * shape)


def _fans(corners: NDArray[np.float64]) -> trimesh.Trimesh:
    """Make convex polygons (N, C, 3) of triangles."""
    n, c, _ = corners.shape
    fan = np.array([[0, i, i + 1] for i in range(1, c - 1)])
    faces = (c * np.arange(n)[:, np.newaxis, np.newaxis] + fan).reshape(-1, 3)
    return trimesh.Trimesh(corners.reshape(-1, 3), faces, process=False)


def _strings(per_100cm2: float, mesh: trimesh.Trimesh, rng: np.random.Generator) -> list[Skin]:
    """Lay fibres and strings: each touches the surface in one point and bows away from it. They stay."""
    count = rng.poisson(per_100cm2 * float(mesh.area) / 1e4)
    starts, normals = places_on(mesh, count, rng)
    aheads = tangents(normals, rng)
    skins = []
    for start, normal, ahead in zip(starts, normals, aheads, strict=True):
        middle, spread, shortest, longest = _STRING_LENGTH_MM
        length = float(np.clip(middle * np.exp(spread * rng.normal()), shortest, longest))
        diameter = _STRING_DIAMETER_MM[0] * float(np.exp(_STRING_DIAMETER_MM[1] * rng.normal()))
        s = np.linspace(0, 1, _STRING_SEGMENTS + 1)[:, np.newaxis]
        curl = rng.normal(0.0, 0.5)
        bow = _STRING_BOW * abs(rng.normal())
        line = start + length * (s * ahead + curl * s**2 * np.cross(normal, ahead) + bow * s**2 * normal)
        skins.append(Skin(_strand(line + PROUD_MM * normal, diameter), _STRING_REFLECTANCE, _STRING_OPACITY, False))
    return skins


def _strand(line: NDArray[np.float64], diameter: float) -> trimesh.Trimesh:
    """Make a three-sided tube along a line (N, 3), open at its ends."""
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    first = np.cross(along, np.eye(3)[np.argmin(np.abs(along).sum(axis=0))])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    angles = 2 * np.pi * np.arange(3) / 3
    corners = line[:, np.newaxis] + diameter / 2 * (
        np.cos(angles)[:, np.newaxis] * first[:, np.newaxis] + np.sin(angles)[:, np.newaxis] * second[:, np.newaxis]
    )
    k = 3 * np.arange(len(line) - 1)[:, np.newaxis] + np.arange(3)
    after = 3 * np.arange(len(line) - 1)[:, np.newaxis] + (np.arange(3) + 1) % 3
    faces = np.concatenate([np.stack([k, after, k + 3], -1), np.stack([after, after + 3, k + 3], -1)]).reshape(-1, 3)
    return trimesh.Trimesh(corners.reshape(-1, 3), faces, process=False)


def _fingerprint(share: float, mesh: trimesh.Trimesh, rng: np.random.Generator) -> list[Skin]:
    """Smear a film of grease: two patches, one in the other, so that it fades towards its edge."""
    if rng.random() >= share:
        return []
    (centre,), (normal,) = places_on(mesh, 1, rng)
    reflectance = 1 + _FINGER_REFLECTANCE * float(rng.normal())
    patches = [within(mesh, centre, radius, normal) for radius in _FINGER_RADII_MM]
    return [Skin(patch, reflectance, 0.7, defect=False) for patch in patches if len(patch.faces)]
