"""The parts that are shipped, and any ring or cap that a part file may ask for."""

import dataclasses

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cell.config import load_cell, load_part
from cell.interfaces import ConfigError
from cell.motion.stored import planned_round
from twin.parts.cap import Cap, CapConfig
from twin.parts.hulls import convex_pieces
from twin.parts.ring import Ring, RingConfig
from twin.parts.shape import make_shape

RING = Ring(RingConfig()).make()
SHIPPED = ("ring", "cap")
slow = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def test_ring_is_as_described():
    low, high = RING.mesh.bounds
    assert low[2] == pytest.approx(0) and high[2] == pytest.approx(16)
    assert np.hypot(*RING.mesh.vertices[:, :2].T).max() == pytest.approx(50.8, abs=0.1)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_part_is_one_solid_of_the_mass_that_its_file_states(name):
    part = load_part(name)
    shape = make_shape(part)
    assert shape.mesh.is_volume and shape.mesh.body_count == 1
    grams = shape.mesh.volume * 1e-3 * part.content.density_g_cm3
    assert grams == pytest.approx(part.content.mass.nominal_g, abs=0.01)


@pytest.mark.parametrize("name", SHIPPED)
def test_structures_stand_out_of_the_shipped_part(name):
    """They lie in the part, overlap with no other, and without them the part is lighter by their volume."""
    shape = make_shape(load_part(name))
    left = trimesh.boolean.difference([shape.mesh, *shape.structures], engine="manifold")
    assert len(shape.structures) >= 5
    volume = sum(structure.volume for structure in shape.structures)
    assert shape.mesh.volume - left.volume == pytest.approx(volume, rel=1e-3)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_part_can_be_shown_from_every_view(name):
    file, part = load_cell("twin").content, load_part(name)
    planned = planned_round(file, part.content, part.path.parent)
    assert {*planned.views[0], *planned.views[1]} == set(part.content.view_names)


def test_hulls_stand_for_the_wall():
    corners = np.concatenate(RING.hulls)
    assert np.hypot(*corners[:, :2].T).max() == pytest.approx(50)
    assert np.hypot(*corners[:, :2].T).min() == pytest.approx(47)


def test_convex_pieces_cover_the_solid_and_little_else():
    solid = trimesh.boolean.difference(
        [trimesh.creation.box((40, 30, 12)), trimesh.creation.box((36, 26, 30))], engine="manifold"
    )
    hulls = [trimesh.convex.convex_hull(corners) for corners in convex_pieces(solid, most=12)]
    assert sum(hull.volume for hull in hulls) == pytest.approx(solid.volume, rel=0.06)
    outside = trimesh.boolean.difference([solid, *hulls], engine="manifold")
    assert outside.is_empty or outside.volume < 1e-3 * solid.volume


@slow
@given(
    outer=st.floats(60, 150),
    wall=st.floats(2, 6),
    height=st.floats(8, 30),
    bevel=st.sampled_from([0.0, 0.3, 0.9]),
    tabs=st.lists(st.floats(0, 359), max_size=8),
    notches=st.lists(st.floats(0, 359), max_size=6),
)
def test_every_ring_is_one_watertight_solid_of_plausible_volume(outer, wall, height, bevel, tabs, notches):
    config = RingConfig(
        outer_diameter_mm=outer,
        wall_mm=wall,
        height_mm=height,
        bevel_mm=bevel,
        rib_mm=(0.8, 1.5, 6.0),
        tabs_deg=tuple(tabs),
        notches_deg=tuple(notches),
    )
    mesh = Ring(config).make().mesh
    assert mesh.is_watertight and mesh.body_count == 1
    tube = np.pi * ((outer / 2) ** 2 - (outer / 2 - wall) ** 2) * height
    lip = np.pi * ((outer / 2 - wall) ** 2 - (outer / 2 - wall - 6) ** 2) * 2.5
    assert 0.9 * (tube + lip) < mesh.volume < 1.3 * (tube + lip)


@pytest.mark.parametrize("bevel", [0.5, 1.0])
def test_bevel_takes_its_triangles_off_the_rims(bevel):
    plain = {"tabs_deg": (), "ribs_deg": (), "notches_deg": ()}
    sharp, bevelled = (Ring(RingConfig(bevel_mm=b, **plain)).make().mesh.volume for b in (0.0, bevel))
    # Pappus: the area of each triangle times the way of its centroid.
    out, in_ = 50 - bevel / 3, 47 + bevel / 3
    assert sharp - bevelled == pytest.approx(np.pi * bevel**2 * (2 * out + in_), rel=0.01)


@slow
@given(
    length=st.floats(40, 110),
    width=st.floats(25, 70),
    wall=st.floats(1, 3),
    ribs=st.lists(st.floats(-15, 15), max_size=4),
    bosses=st.lists(st.floats(-14, 14), max_size=3),
    vents=st.lists(st.floats(-14, 14), max_size=3),
)
def test_every_cap_is_one_watertight_solid(length, width, wall, ribs, bosses, vents):
    config = CapConfig(length_mm=length, width_mm=width, wall_mm=wall, ribs_mm=ribs, bosses_mm=bosses, vents_mm=vents)
    mesh = Cap(config).make().mesh
    assert mesh.is_volume and mesh.body_count == 1


@pytest.mark.parametrize(
    "made, said",
    [
        (lambda: RingConfig(outer_diameter_mm=20, wall_mm=8), "wider than the ring"),
        (lambda: RingConfig(bevel_mm=1.6), "leave something of the wall"),
        (lambda: CapConfig(boss_mm=(2.0, 3.0, 8.0)), "wider than its bore"),
        (lambda: CapConfig(ribs_mm=(29.0,)), "between the walls"),
    ],
)
def test_impossible_parts_are_refused(made, said):
    with pytest.raises(ValidationError, match=said):
        made()


@pytest.mark.parametrize(
    "change, said",
    [
        ({"width_mm": 20.0}, r"grasp GP1: it is 40\.0 mm wide there, but width_mm says 20"),
        ({"position_mm": (0.0, 0.0, 30.0)}, "grasp GP1: nothing is between the fingers"),
    ],
)
def test_grasps_that_do_not_fit_the_part_are_refused(change, said):
    part = load_part("cap")
    first, second = part.content.grasps
    content = part.content.model_copy(update={"grasps": (first.model_copy(update=change), second)})
    with pytest.raises(ConfigError, match=said):
        make_shape(dataclasses.replace(part, content=content))


def test_part_wider_than_the_hand_opens_is_refused():
    part = load_part("cap")
    lying = {"opening": (1.0, 0.0, 0.0), "position_mm": (0.0, 0.0, 1.0)}
    along = [g.model_copy(update=lying) for g in part.content.grasps]
    shape = part.content.shape.model_validate({"class": part.content.shape.path, "length_mm": 100.0})
    content = part.content.model_copy(update={"grasps": tuple(along), "shape": shape})
    with pytest.raises(ConfigError, match=r"GP1: it is wider there than the hand opens \(80 mm\)"):
        make_shape(dataclasses.replace(part, content=content))
