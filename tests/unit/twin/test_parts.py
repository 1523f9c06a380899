import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cell.config import load_part
from cell.schema import Defect
from twin.parts.defects import make_defect
from twin.parts.ring import Ring, RingConfig

RING = Ring(RingConfig()).make()
everywhere = {"seen_by": lambda points: 16}
slow = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_ring_is_as_described():
    assert RING.mesh.is_watertight and RING.mesh.body_count == 1
    low, high = RING.mesh.bounds
    assert low[2] == pytest.approx(0) and high[2] == pytest.approx(16)
    assert np.hypot(*RING.mesh.vertices[:, :2].T).max() == pytest.approx(50.8, abs=0.1)


def test_part_file_states_the_mass_of_its_shape():
    part = load_part("ring").content
    assert RING.mesh.volume * 1e-3 * part.density_g_cm3 == pytest.approx(part.mass.nominal_g, abs=0.01)


def test_hulls_stand_for_the_wall():
    corners = np.concatenate(RING.hulls)
    assert np.hypot(*corners[:, :2].T).max() == pytest.approx(50)
    assert np.hypot(*corners[:, :2].T).min() == pytest.approx(47)


@slow
@given(
    outer=st.floats(60, 150),
    wall=st.floats(2, 6),
    height=st.floats(8, 30),
)
def test_every_ring_is_one_watertight_solid_of_plausible_volume(outer, wall, height):
    mesh = Ring(RingConfig(outer_diameter_mm=outer, wall_mm=wall, height_mm=height, rib_mm=(0.8, 1.5, 6.0))).make().mesh
    assert mesh.is_watertight and mesh.body_count == 1
    tube = np.pi * ((outer / 2) ** 2 - (outer / 2 - wall) ** 2) * height
    lip = np.pi * ((outer / 2 - wall) ** 2 - (outer / 2 - wall - 6) ** 2) * 2.5
    assert 0.95 * (tube + lip) < mesh.volume < 1.3 * (tube + lip)


def test_impossible_rings_are_refused():
    with pytest.raises(ValidationError, match="wider than the ring"):
        RingConfig(outer_diameter_mm=20, wall_mm=8)


@slow
@given(seed=st.integers(0, 2**32), size=st.floats(0.3, 4.0))
def test_dot_lies_on_the_surface_and_has_its_size(seed, size):
    made = make_defect(Defect(kind="dot", size_mm=(size, size)), RING, np.random.default_rng(seed), **everywhere)
    assert made.mesh is RING.mesh and made.removed is None
    assert made.skin is not None and 0.3 <= made.skin.reflectance <= 0.7
    extent = np.linalg.norm(made.skin.mesh.vertices - made.skin.mesh.vertices.mean(axis=0), axis=1).max()
    assert extent == pytest.approx(size / 2, rel=0.02)
    assert RING.mesh.nearest.on_surface([made.skin.mesh.vertices.mean(axis=0)])[1][0] < 0.01


@slow
@given(seed=st.integers(0, 2**32), length=st.floats(1.0, 12.0))
def test_scratch_runs_along_the_surface(seed, length):
    made = make_defect(
        Defect(kind="scratch", size_mm=(length, length)), RING, np.random.default_rng(seed), **everywhere
    )
    assert np.linalg.norm(np.diff(made.points, axis=0), axis=1).sum() == pytest.approx(length, rel=0.1)
    assert RING.mesh.nearest.on_surface(made.points)[1].max() < 0.05


@slow
@given(seed=st.integers(0, 2**32), size=st.floats(1.0, 5.0))
def test_missing_piece_is_missing_from_one_watertight_solid(seed, size):
    made = make_defect(Defect(kind="missing", size_mm=(size, size)), RING, np.random.default_rng(seed), **everywhere)
    assert made.mesh.is_watertight and made.mesh.body_count == 1
    assert made.removed is not None and made.removed.volume > 0
    assert RING.mesh.volume - made.mesh.volume == pytest.approx(made.removed.volume, rel=0.02, abs=0.02)
    assert made.removed.volume <= np.pi / 6 * size**3


def test_place_that_too_few_views_see_is_refused():
    with pytest.raises(ValueError, match="2 views see"):
        make_defect(Defect(kind="dot", size_mm=(1, 1)), RING, np.random.default_rng(0), seen_by=lambda points: 1)


def test_same_seed_same_defect():
    defect = Defect(kind="scratch", size_mm=(2, 8))
    one, other = (make_defect(defect, RING, np.random.default_rng(7), **everywhere) for _ in range(2))
    np.testing.assert_array_equal(one.points, other.points)
