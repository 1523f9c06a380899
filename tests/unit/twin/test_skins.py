import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.interfaces import Intrinsics
from twin.parts.skin import Skin
from twin.rendering.geometry import NOTHING
from twin.rendering.skins import lay_skins

# At 0.5 m a pixel is 0.1 mm wide.
K = Intrinsics(5000.0, 5000.0, 30.0, 20.0, 60, 40)
BARE = np.array([0.2], np.float32)


def lay(there, part, light=None):
    radiance = np.ones((1, 40, 60), np.float32) if light is None else light
    seen = lay_skins(radiance, there.geometry, there.snapshot(part), there.camera.pose, K, bare=BARE)
    return radiance[0], seen


@given(x=st.floats(-1, 1), y=st.floats(-1, 1), size=st.floats(0.05, 0.9))
def test_a_speck_takes_the_light_of_its_area_wherever_it_lies_between_pixels(wall, sheet_mm, body, x, y, size):
    there = wall(K, depth_m=0.5)
    part = body(sheet_mm(50, 50), skins=[Skin(sheet_mm(size, size, x, y), 0.25, 0.5, defect=False)])
    light, seen = lay(there, part)
    taken = (1 - light).sum() * 0.1**2
    # Sixteen points a pixel: each edge is off by at most half of their distance.
    assert taken == pytest.approx(0.5 * 0.75 * size**2, abs=0.5 * 0.75 * (2 * size * 0.025 + 0.025**2))
    assert seen.share.max() == 0 and seen.area_mm2 == 0


@pytest.mark.parametrize("turn_deg", [0, 40, -70])
def test_area_is_measured_on_the_surface(wall, sheet_mm, body, turn_deg):
    there = wall(K, depth_m=0.5, turn_deg=turn_deg)
    part = body(sheet_mm(50, 50), skins=[Skin(sheet_mm(1.5, 2.0), 0.5)])
    light, seen = lay(there, part)
    assert seen.area_mm2 == pytest.approx(3.0, rel=0.05)
    assert seen.share.sum() * 0.01 == pytest.approx(3.0 * np.cos(np.radians(turn_deg)), rel=0.06)
    np.testing.assert_allclose(light, 1 - 0.5 * seen.share, atol=1e-6)


def test_what_lies_behind_a_surface_is_neither_seen_nor_drawn(wall, sheet_mm, body):
    there = wall(K, depth_m=0.5)
    hidden = [sheet_mm(1, 1, z=1.0)]
    part = body(sheet_mm(50, 50), skins=[Skin(hidden[0], 0.0)], altered=hidden)
    light, seen = lay(there, part)
    assert (light == 1).all() and seen.share.max() == 0 and seen.area_mm2 == 0
    # The camera is on the other side of a skin that stands proud.
    light, seen = lay(there, body(sheet_mm(50, 50), skins=[Skin(sheet_mm(1, 1, z=-1.0), 0.0)]))
    assert light.min() == 0 and seen.share.max() == 1


def test_two_triangles_in_one_place_are_one_layer_and_two_skins_are_two(wall, sheet_mm, body):
    there = wall(K, depth_m=0.5)
    one = sheet_mm(1, 1)
    doubled = one.copy()
    doubled.faces = np.concatenate([one.faces, one.faces[:, ::-1]])
    assert lay(there, body(one, skins=[Skin(doubled, 0.5)]))[0].min() == pytest.approx(0.5)
    light, seen = lay(there, body(one, skins=[Skin(one, 0.5), Skin(one, 0.5)]))
    assert light.min() == pytest.approx(0.25) and seen.share.max() == 1


def test_defects_in_geometry_are_truth_and_change_no_light(wall, sheet_mm, body):
    import trimesh

    there = wall(K, depth_m=0.5)
    missing = trimesh.creation.box((1.0, 1.0, 0.5))
    missing.apply_translation((0.5, 0, -0.25))
    for part in (body(sheet_mm(50, 50), altered=[sheet_mm(1, 1)]), body(sheet_mm(50, 50), removed=[missing])):
        light, seen = lay(there, part)
        assert (light == 1).all()
        assert seen.share.sum() * 0.01 == pytest.approx(1.0, rel=0.06)
        assert seen.area_mm2 == pytest.approx(1.0, rel=0.06)


def test_a_strand_before_nothing_is_lit_as_the_part_would_be(wall, sheet_mm, body):
    there = wall(K, depth_m=0.5)
    there.geometry.surface[:] = NOTHING
    part = body(sheet_mm(50, 50), skins=[Skin(sheet_mm(1, 1), 2.0, 0.5, defect=False)])
    light, _ = lay(there, part, np.zeros((1, 40, 60), np.float32))
    # Reflectance 2, opacity ½, faced squarely at half a metre, where light is four times that at a metre.
    assert light.max() == pytest.approx(0.5 * 2 * 0.2 / 0.5**2, rel=1e-3)


def test_only_skins_of_the_moments_grasp_are_there(wall, sheet_mm, body):
    there = wall(K, depth_m=0.5)
    part = body(sheet_mm(50, 50), skins=[Skin(sheet_mm(1, 1), 0.0, grasps=(1,))])
    assert lay(there, part)[1].share.max() == 0


def test_on_a_clear_part_a_skin_hides_and_scatters_by_how_much_matter_it_is(wall, sheet_mm, body):
    there = wall(K, depth_m=0.5)
    light = np.full((1, 40, 60), 0.1, np.float32)
    part = body(sheet_mm(50, 50), skins=[Skin(sheet_mm(2, 2), 0.25, 0.8)])
    around = np.array([0.3], np.float32)
    lay_skins(light, there.geometry, there.snapshot(part), there.camera.pose, K, bare=BARE, around=around)
    hides = 0.8 * 0.75
    # The bare material has 0.2 at 1 m, so 0.8 at 0.5 m, and 0.3 from all around.
    assert light[0, 20, 30] == pytest.approx((1 - hides) * 0.1 + hides * 0.25 * (0.8 + 0.3), rel=1e-3)
    assert light[0, 2, 2] == np.float32(0.1)
