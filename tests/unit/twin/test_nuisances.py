"""Nuisances and shots: their amounts against the sources, and that one cause can go without touching another."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest

from cell.config import load_cell, load_part
from cell.motion.panda import forward
from cell.motion.stored import planned_round
from cell.schema import Nuisance
from twin.nuisances import DUST_LOOSE, LEVELS, dust_sizes_um, make_nuisances
from twin.parts.moulding import mould
from twin.parts.shape import make_shape

PART = load_part("ring")
SHAPE = make_shape(PART)
CAUSES = get_args(Nuisance)


def of(level, seed=(0, 1), without=()):
    return make_nuisances(level, without, SHAPE.mesh, seed)


def digest(made):
    """Everything about nuisances, cause by cause."""
    c = made.conditions
    on_surface = {"dust": [], "strings": [], "fingerprint": []}
    for skin in made.skins:
        kind = {0.9: "dust", 0.6: "strings", 0.7: "fingerprint"}[skin.opacity]
        on_surface[kind].append((skin.mesh.vertices.tobytes(), skin.reflectance, skin.grasps))
    return on_surface | {
        "light": c.light,
        "exposure": c.exposure_jitter,
        "focus": c.focus_mm,
        "background": c.background,
        "reflection": c.reflection,
        "arm": c.arm_error_rad,
        "grasp": (made.offset_mm.tobytes(), made.turn_deg, c.slip_mm.tobytes(), c.slip_rad.tobytes()),
    }


def test_level_0_is_nothing():
    made = of(0)
    assert made.skins == () and not made.offset_mm.any() and made.turn_deg == 0
    c = made.conditions
    assert (c.light, c.background) == (1, 1) and not c.slip_mm.any() and not c.slip_rad.any()
    assert (c.exposure_jitter, c.focus_mm, c.reflection, c.arm_error_rad) == (0, 0, 0, 0)


@pytest.mark.parametrize("cause", CAUSES)
def test_switching_one_cause_off_leaves_the_rest_bit_for_bit(cause):
    seed = (0, 5)
    everything, less, nothing = digest(of(3, seed)), digest(of(3, seed, (cause,))), digest(of(0, seed))
    for other in CAUSES:
        assert less[other] == (nothing if other == cause else everything)[other], other


def test_same_seed_same_nuisances_and_other_seed_others():
    assert digest(of(2)) == digest(of(2))
    one, other = digest(of(2)), digest(of(2, (0, 2)))
    assert all(one[cause] != other[cause] for cause in ("dust", "light", "focus", "background", "grasp"))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_dust_is_as_clean_as_its_level_says(level):
    """At cleanliness level L, 0.1 m² bears one particle larger than L µm, and 12 times as many at half of L = 200."""
    size = LEVELS[level].dust_um
    sizes = dust_sizes_um(size, 100 * 1e5, np.random.default_rng(0))
    assert sizes.min() >= 20 and sizes.max() <= 500
    assert (sizes > size).sum() == pytest.approx(100, abs=35)
    half = 10 ** (0.926 * (np.log10(size) ** 2 - np.log10(size / 2) ** 2))
    assert (sizes > size / 2).sum() == pytest.approx(100 * half, rel=0.1)


def test_dust_lies_flat_on_the_surface_and_some_of_it_moves():
    specks = [skin for skin in of(3).skins if skin.opacity == 0.9]
    assert not any(skin.defect for skin in specks)
    corners = np.concatenate([skin.mesh.vertices for skin in specks])[::50]
    assert SHAPE.mesh.nearest.on_surface(corners)[1].max() < 0.3
    faces = {grasps: sum(len(s.mesh.faces) for s in specks if s.grasps == grasps) for grasps in (None, (0,), (1,))}
    loose = faces[(0,)] / (faces[None] + faces[(0,)])
    assert loose == pytest.approx(DUST_LOOSE, abs=0.04)
    assert faces[(1,)] / faces[(0,)] == pytest.approx(0.5, abs=0.12)


def test_grasp_offsets_have_tails():
    """Of many parts, more lie beyond four scales than a normal distribution allows, and none beyond the nest."""
    without = tuple(cause for cause in CAUSES if cause != "grasp")
    offsets = np.array([of(2, (0, n), without).offset_mm for n in range(3000)]).ravel()
    scale = LEVELS[2].place_mm
    assert (np.abs(offsets) > 4 * scale).mean() == pytest.approx(0.0161, abs=0.006)
    assert np.percentile(np.abs(offsets), 50) == pytest.approx(0.741 * scale, rel=0.08)
    assert np.abs(offsets).max() <= 1.5


def test_arm_of_a_normal_day_repeats_to_a_tenth_of_a_millimetre():
    """ISO 9283: the mean distance from the poses' barycentre, and three standard deviations; as the Panda's maker."""
    file = load_cell("twin").content
    planned = planned_round(file, PART.content, PART.path.parent)
    rng, repeats = np.random.default_rng(0), []
    for stop in planned.views[0].values():
        joints = stop.q + LEVELS[2].arm_rad * rng.normal(size=(100, 7))
        places = np.array([forward(q).position_m for q in joints])
        away = np.linalg.norm(places - places.mean(axis=0), axis=1)
        repeats.append(away.mean() + 3 * away.std())
    assert np.mean(repeats) == pytest.approx(1e-4, rel=0.1)


def test_levels_get_worse_in_every_respect():
    names = LEVELS[0].__dataclass_fields__
    for better, worse in pairwise(LEVELS):
        assert all(getattr(better, name) < getattr(worse, name) for name in names)


def test_cavity_is_the_same_in_all_its_shots_and_differs_from_the_next():
    def sizes(cavity):
        return np.array([np.trace(mould(PART.content, SHAPE, cavity, (0, n)).strain) / 3 for n in range(60)])

    first, second = sizes(1), sizes(2)
    m = PART.content.moulding
    assert first.std() < 2 * m.size and abs(first.mean() - second.mean()) > 3 * first.std() / np.sqrt(60)
    assert np.abs(np.concatenate([first, second]) - 1).max() < 0.003


def test_shot_is_watertight_and_as_heavy_as_its_volume_says():
    shot = mould(PART.content, SHAPE, 1, (0, 1))
    mesh = shot.strained(SHAPE.mesh)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(SHAPE.mesh.volume * np.linalg.det(shot.strain), rel=1e-9)
    assert shot.density == pytest.approx(1, abs=0.02) and 0.7 < shot.gloss < 1.3


def test_marks_of_the_mould_are_no_defects_and_lie_where_the_part_file_says():
    haze, gate, weld = mould(PART.content, SHAPE, 1, (0, 1)).skins
    assert not (haze.defect or gate.defect or weld.defect)
    at = PART.content.moulding.gate.position_mm
    assert np.linalg.norm(gate.mesh.vertices - at, axis=1).max() < 1.0
    assert np.abs(weld.mesh.vertices[:, 0]).max() < 5 and weld.mesh.vertices[:, 1].max() < 0
    assert weld.mesh.area / 0.1 > 16 + 9
