"""Defects against what their sizes say, on the ring and on a part that names no structures."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cell.schema import Defect
from twin.parts.cap import Cap, CapConfig
from twin.parts.defects import make_defect
from twin.parts.dents import refined
from twin.parts.ring import Ring, RingConfig
from twin.parts.skin import Skin
from twin.parts.surface import within

RING = Ring(RingConfig()).make()
CAP = Cap(CapConfig()).make()
PLAIN = dataclasses.replace(RING, structures=())
KINDS = get_args(Defect.model_fields["kind"].annotation)
MARKS, SHAPES = KINDS[:3], KINDS[3:]
slow = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**32)


def make(kind, size, seed, shape=RING, **options):
    sizes = (0.05, 50.0) if kind == "missing_structure" and size else (size, size)
    defect = Defect(kind=kind, size_mm=sizes, **options)
    return make_defect(defect, shape, np.random.default_rng(seed), seen_by=lambda points: 16)


@pytest.mark.parametrize("kind", ["missing_structure", "missing", "short_shot"])
def test_nothing_is_left_where_a_round_boss_lacks_a_piece(kind):
    """Its faces coincide with those of what is cut away, from which rounding must leave no skins or spikes."""
    for seed in range(4):
        made = make(kind, 2.0, seed, shape=dataclasses.replace(CAP, gate_mm=np.zeros(3)))
        corners = made.mesh.triangles
        points = np.concatenate(
            [made.mesh.triangles_center, (corners + np.roll(corners, 1, axis=1)).reshape(-1, 3) / 2]
        )
        low, high = made.removed.bounds
        near = points[((points > low) & (points < high)).all(axis=1)]
        # Positive inside; a skin without thickness lies on the surface of what was cut, 0.
        if len(near):
            assert trimesh.proximity.signed_distance(made.removed, near).max() < -0.00005


@pytest.mark.parametrize("kind", KINDS)
@slow
@given(seed=seeds, size=st.floats(0.2, 3.0))
def test_every_defect_leaves_one_solid_and_something_to_see(kind, seed, size):
    made = make(kind, size, seed)
    assert made.mesh.is_watertight and made.mesh.body_count == 1
    assert len(made.points) > 0
    shown = [mesh for mesh in (made.skin and made.skin.mesh, made.removed, made.altered) if mesh is not None]
    assert shown and all(mesh.area > 0 for mesh in shown)
    assert (made.contrast is not None) == (kind in MARKS) == (made.skin is not None)
    assert (made.mesh is RING.mesh) == (kind in MARKS)


@pytest.mark.parametrize("kind", KINDS)
def test_size_0_is_no_defect(kind):
    assert make(kind, 0.0, 1) is None


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_defect(kind):
    one, other = (make(kind, 1.5, 7) for _ in range(2))
    np.testing.assert_array_equal(one.points, other.points)
    np.testing.assert_array_equal(one.mesh.vertices, other.mesh.vertices)


@pytest.mark.parametrize("kind", ["missing", "short_shot"])
@slow
@given(seed=seeds, size=st.floats(0.3, 3.0))
def test_a_part_without_structures_loses_a_bit_of_an_edge(kind, seed, size):
    made = make(kind, size, seed, PLAIN)
    assert made.mesh.is_watertight and made.removed.volume > 0
    assert PLAIN.mesh.volume - made.mesh.volume == pytest.approx(made.removed.volume, rel=0.02, abs=0.02)


def test_structures_cannot_be_missing_where_there_are_none_or_none_so_large():
    with pytest.raises(ValueError, match="the part's are: none"):
        make("missing_structure", 1.0, 0, PLAIN)
    defect = Defect(kind="missing_structure", size_mm=(6.0, 7.0))
    with pytest.raises(ValueError, match=r"6\.0 to 7\.0 mm across; the part's are: 7\.4, 11\.1"):
        make_defect(defect, RING, np.random.default_rng(0), seen_by=lambda points: 16)


@slow
@given(seed=seeds, size=st.floats(0.3, 2.0))
def test_dot_lies_on_the_surface_and_has_its_size(seed, size):
    made = make("dot", size, seed, contrast=(0.4, 0.4))
    assert made.skin.reflectance == pytest.approx(0.6) and made.skin.defect
    across = np.linalg.norm(made.points - made.points.mean(axis=0), axis=1).max() * 2
    assert across == pytest.approx(size, rel=0.4)
    assert RING.mesh.nearest.on_surface(made.points)[1].max() < 0.06


@slow
@given(seed=seeds, length=st.floats(1.0, 12.0))
def test_scratch_runs_along_the_surface(seed, length):
    made = make("scratch", length, seed, width_mm=0.3)
    assert np.linalg.norm(np.diff(made.points, axis=0), axis=1).sum() == pytest.approx(length, rel=0.1)
    assert RING.mesh.nearest.on_surface(made.points)[1].max() < 0.05
    assert made.skin.mesh.area == pytest.approx(0.3 * length, rel=0.15)


@slow
@given(seed=seeds, length=st.floats(1.0, 6.0))
def test_crack_starts_at_an_edge_and_is_thin(seed, length):
    made = make("crack", length, seed)
    sharp = RING.mesh.face_adjacency_edges[RING.mesh.face_adjacency_angles > 0.5]
    a, b = RING.mesh.vertices[sharp].transpose(1, 0, 2)
    share = np.clip(np.sum((made.points[0] - a) * (b - a), 1) / np.sum((b - a) ** 2, 1), 0, 1)
    assert np.linalg.norm(a + share[:, np.newaxis] * (b - a) - made.points[0], axis=1).min() < 0.02
    assert 0.05 * length * 0.9 <= made.skin.mesh.area <= 0.08 * length * 2.5


@slow
@given(seed=seeds, size=st.floats(1.0, 5.0))
def test_missing_piece_is_missing(seed, size):
    made = make("missing", size, seed)
    assert RING.mesh.volume - made.mesh.volume == pytest.approx(made.removed.volume, rel=0.02, abs=0.02)
    assert 0 < made.removed.volume <= np.pi / 6 * size**3


def test_missing_structure_is_one_of_those_that_were_asked_for():
    made = make("missing_structure", 1.0, 3)
    lost = RING.mesh.volume - made.mesh.volume
    assert min(abs(structure.volume - lost) for structure in RING.structures) < 0.01
    diagonals = [np.hypot(np.hypot(5, 5), 2.5), np.hypot(np.hypot(0.8, 1.5), 11)]
    assert any(made.size_mm == pytest.approx(diagonal, abs=0.1) for diagonal in diagonals)


def test_short_shot_happens_far_from_the_gate_and_costs_more_the_longer_it_is():
    shape = dataclasses.replace(RING, gate_mm=np.array([0.0, 50.0, 12.0]))
    for seed in range(5):
        small, large = (make("short_shot", size, seed, shape) for size in (0.3, 1.5))
        nearer = [np.linalg.norm(piece.centroid - shape.gate_mm) for piece in RING.structures]
        assert np.linalg.norm(small.removed.centroid - shape.gate_mm) > np.median(nearer) - 5
        assert 0 < small.removed.volume < large.removed.volume


@slow
@given(seed=seeds, height=st.floats(0.2, 2.0))
def test_flash_is_a_thin_fin_of_its_height(seed, height):
    made = make("flash", height, seed)
    assert made.mesh.volume > RING.mesh.volume
    away = RING.mesh.nearest.on_surface(made.altered.vertices)[1]
    # On a bevel's edge the fin leans by 45° over the face beside it.
    assert 0.65 * height <= away.max() <= 1.01 * height
    assert made.mesh.volume - RING.mesh.volume < 0.07 * 9 * height * 1.5


@slow
@given(seed=seeds, depth=st.floats(0.2, 2.0))
def test_deformation_moves_the_wall_by_its_depth_and_no_more(seed, depth):
    made = make("deformation", depth, seed)
    moved = np.linalg.norm(made.displacement(RING.mesh.vertices), axis=1)
    assert moved.max() <= depth
    assert RING.mesh.nearest.on_surface(made.altered.vertices)[1].max() <= depth * 1.001
    assert np.linalg.norm(made.displacement(made.points), axis=1).max() >= 0.4 * depth
    assert (RING.mesh.nearest.on_surface(made.mesh.vertices)[1] > 0.02).any()


@slow
@given(seed=seeds, reach=st.floats(2, 15), longest=st.floats(0.7, 3))
def test_refining_changes_no_surface_and_opens_none(seed, reach, longest):
    centre = RING.mesh.vertices[seed % len(RING.mesh.vertices)]
    fine = refined(RING.mesh, centre, reach, longest)
    assert fine.is_watertight and fine.volume == pytest.approx(RING.mesh.volume, rel=1e-9)
    assert fine.area == pytest.approx(RING.mesh.area, rel=1e-9)
    lengths = fine.edges_unique_length
    near = (np.linalg.norm(fine.vertices[fine.edges_unique] - centre, axis=2) < reach).all(axis=1)
    assert (lengths[near] <= longest * 1.0001).all()


def test_dust_goes_with_the_piece_that_is_missing_and_moves_with_a_dent():
    missing, dent = make("missing_structure", 1.0, 3), make("deformation", 1.0, 3)
    middle, (normal,) = missing.points[0], RING.mesh.face_normals[:1]
    on_piece = Skin(within(RING.mesh, missing.removed.centroid, 0.4 * missing.size_mm, normal), 0.5)
    gone = missing.carry(on_piece)
    assert gone is None or gone.mesh.area < on_piece.mesh.area
    elsewhere = Skin(within(RING.mesh, -middle * (1, 1, -1), 1.0, normal), 0.5)
    assert missing.carry(elsewhere) is elsewhere or len(elsewhere.mesh.faces) == 0
    speck = Skin(dent.altered, 0.5)
    shift = np.linalg.norm(dent.carry(speck).mesh.vertices - speck.mesh.vertices, axis=1)
    assert 0.2 < shift.max() <= 1.0


def test_place_that_too_few_views_see_is_refused():
    with pytest.raises(ValueError, match="2 views see"):
        make_defect(Defect(kind="dot", size_mm=(1, 1)), RING, np.random.default_rng(0), seen_by=lambda points: 1)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"kind": "dot", "size_mm": (0.0, 1.0)}, "or \\[0, 0\\] for none"),
        ({"kind": "dot", "size_mm": (2.0, 1.0)}, "the smaller one first"),
        ({"kind": "flash", "size_mm": (1.0, 1.0), "contrast": (0.1, 0.2)}, "seen by its shape"),
        ({"kind": "missing", "size_mm": (1.0, 1.0), "width_mm": 3.0}, "no meaning for a missing"),
    ],
)
def test_defects_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ValidationError, match=said):
        Defect(**options)


def test_mesh_faces_of_a_fin_lie_outside_the_good_part():
    made = make("flash", 1.0, 2)
    assert not trimesh.proximity.signed_distance(RING.mesh, made.altered.triangles_center).max() > 1e-3
