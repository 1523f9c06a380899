"""The clear part. What needs Mitsuba runs where it is installed."""

import importlib.util
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import trimesh

from cell.config import load_cell, load_part
from cell.interfaces import ConfigError, Intrinsics, Pose
from cell.motion.panda import forward
from cell.motion.round import grasp_pose
from cell.motion.stored import planned_round
from twin.camera import TwinCameraConfig, picture
from twin.conditions import Conditions
from twin.parts.ring import Ring, RingConfig
from twin.parts.skin import Skin
from twin.rendering import photoreal
from twin.rendering.geometry import ARM, BOXES, FINGER, NOTHING, PAN, PART
from twin.rendering.photoreal import N_POLYCARBONATE, SAMPLES, PhotorealScene
from twin.rendering.pinhole import Pinhole
from twin.rendering.shading import Lamp, Materials
from twin.snapshot import PartBody, Snapshot

FILE, RING = load_cell("twin").content, load_part("ring")
HOME = np.array(FILE.motion.home_rad)
N_KINDS = BOXES + len(FILE.scene.boxes)
# Far from the arm, looking away from it; the arm is behind the camera.
EYE = Pose(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([3.0, 0.0, 1.5]))
CAMERA = Pinhole(EYE, Intrinsics(700.0, 700.0, 32.0, 24.0, 64, 48))
# Without a ring light what is seen is the room and the panel alone.
ROOM, PANEL = 0.5, 0.1
AROUND = Lamp(np.array([[0.05, 0.0]], np.float32), 1.0, 0.42, ROOM)


@pytest.fixture(scope="module")
def clear():
    """A function that traces a part before the camera and returns its light (H, W)."""
    if importlib.util.find_spec("mitsuba") is None:
        pytest.skip("Mitsuba is not here: pip install mitsuba")
    try:
        with PhotorealScene(
            TwinCameraConfig(renderer="tiny").scene(FILE.scene, 0.13), FILE.scene, pan_m=0.13, samples=64
        ) as scene:

            def trace(part, pose=None, *, camera=CAMERA, lamp=AROUND, albedo=None, seed=1, joints=HOME):
                snapshot = Snapshot(joints, np.full(2, 0.02), part, pose, 0)
                table = np.zeros((N_KINDS, 1), np.float32)
                table[NOTHING] = PANEL
                for kind, value in (albedo or {}).items():
                    table[kind] = value
                zeros = np.zeros(N_KINDS, np.float32)
                materials = Materials(table, zeros, zeros + 1, zeros + 1)
                everywhere = np.ones((camera.intrinsics.height, camera.intrinsics.width), bool)
                return scene.trace(snapshot, camera, lamp, materials, everywhere, seed=seed)[0]

            trace.scene = scene
            yield trace
    except ConfigError as error:
        pytest.skip(str(error))


def plate(turn_deg: float) -> Pose:
    """A pose 0.42 m before the camera, turned about the vertical."""
    angle = np.radians(turn_deg)
    turned = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return EYE @ Pose(turned, np.array([0, 0, 0.42]))


@pytest.mark.parametrize("turn_deg", [0, 30, 60])
def test_a_plate_lets_through_and_mirrors_what_fresnel_says(clear, body, turn_deg):
    """In closed form: both faces mirror R, so all the ways to and fro together mirror 2 R / (1 + R)."""
    seen = clear(body(trimesh.creation.box((80, 60, 2.0))), plate(turn_deg))[18:30, 24:40]
    cosine = np.cos(np.radians(turn_deg))
    inside = np.sqrt(1 - (np.sin(np.radians(turn_deg)) / N_POLYCARBONATE) ** 2)
    across = (cosine - N_POLYCARBONATE * inside) / (cosine + N_POLYCARBONATE * inside)
    along = (N_POLYCARBONATE * cosine - inside) / (N_POLYCARBONATE * cosine + inside)
    reflectance = (across**2 + along**2) / 2
    mirrored = 2 * reflectance / (1 + reflectance)
    assert seen.mean() == pytest.approx(mirrored * ROOM + (1 - mirrored) * PANEL, rel=0.03)


def test_a_part_mirrors_as_much_as_its_gloss_says(clear, body):
    """In closed form, as above, with all that is mirrored halved each time."""
    seen = clear(replace(body(trimesh.creation.box((80, 60, 2.0))), gloss=0.5), plate(0))[18:30, 24:40]
    r = ((N_POLYCARBONATE - 1) / (N_POLYCARBONATE + 1)) ** 2
    through = (1 - r) ** 2 / (1 - (r / 2) ** 2)
    assert seen.mean() == pytest.approx((r / 2 + r / 2 * through) * ROOM + through * PANEL, rel=0.01)


def test_glints_are_found_by_few_paths_and_shine_as_by_many(clear, body, monkeypatch):
    """A ball of glass, in which the ring is mirrored in less than a pixel."""
    ball = body(trimesh.creation.icosphere(subdivisions=4, radius=5.0))
    ring = Lamp(np.array([[0.1, 0.0]], np.float32), 1.0, 0.42, 0.0)

    def light(seed, *, samples):
        monkeypatch.setattr(clear.scene, "samples", samples)
        return clear(ball, plate(0), lamp=ring, seed=seed)

    seeds = range(8)
    many = np.mean([light(seed, samples=2025) for seed in (100, 101)], axis=0)
    few = np.array([light(seed, samples=SAMPLES) for seed in seeds])
    monkeypatch.setattr(photoreal, "_GLINT", np.inf)
    fewer = np.array([light(seed, samples=SAMPLES) for seed in seeds])
    assert many.max() > 1
    error = few.sum(axis=(1, 2)).std() / np.sqrt(len(seeds))
    assert few.sum(axis=(1, 2)).mean() == pytest.approx(many.sum(), abs=4 * error, rel=0.02)
    assert np.sqrt(((few - many) ** 2).mean()) < 0.5 * np.sqrt(((fewer - many) ** 2).mean())


def test_without_a_part_the_panel_is_dark_and_fills_the_picture(clear):
    np.testing.assert_allclose(clear(None), PANEL, rtol=1e-4)


def square(z_mm: float) -> trimesh.Trimesh:
    """A skin of 10 mm across a plate, at a height above its middle."""
    return trimesh.Trimesh([[-5, -5, z_mm], [5, -5, z_mm], [5, 5, z_mm], [-5, 5, z_mm]], [[0, 1, 2], [0, 2, 3]])


def test_a_skin_before_the_glass_is_left_to_be_laid_on(clear, body):
    """The camera is on the side of -z; the plate is turned so that it does not mirror the ring in the skin's back."""
    glass, pose, dim = trimesh.creation.box((80, 60, 2.0)), plate(30), replace(AROUND, ambient=0.0)
    bare = clear(body(glass), pose, lamp=dim)
    covered = clear(body(glass, skins=[Skin(square(-1.02), 0.0, 0.9)]), pose, lamp=dim)
    assert covered[18:30, 28:36].mean() == pytest.approx(bare[18:30, 28:36].mean(), rel=0.01)


def test_a_skin_behind_the_glass_hides_what_its_opacity_says_and_shines_itself(clear, body):
    """On the far side of a plate; the one before it is laid on later."""
    far = square(1.02)
    glass, pose = trimesh.creation.box((80, 60, 2.0)), plate(0)
    r = ((N_POLYCARBONATE - 1) / (N_POLYCARBONATE + 1)) ** 2
    mirrored = 2 * r / (1 + r)
    soot = clear(body(glass, skins=[Skin(far, 0.0, 0.6)]), pose, lamp=replace(AROUND, ambient=0.0))
    dark, ring = {NOTHING: 0.0, PART: 0.8}, replace(AROUND, ambient=0.0)
    fluff = clear(body(glass, skins=[Skin(far, 0.5)]), pose, lamp=ring, albedo=dark)
    assert soot[22:26, 30:34].mean() == pytest.approx(0.4 * (1 - mirrored) * PANEL, rel=0.03)
    # It hides a half, and of the light on that scatters half of the part's 0.8, from where the ring's light is white.
    assert fluff[22:26, 30:34].mean() == pytest.approx((1 - mirrored) * 0.5 * 0.4, rel=0.05)


def test_things_lie_where_the_truth_says(clear):
    """The light of the arm and the fingers against the renderer that the truth comes from."""
    config = TwinCameraConfig(width=320, height=240)
    k = config.pinhole(FILE.scene.camera).intrinsics
    off_centre = Intrinsics(k.fx, k.fy, k.cx + 60, k.cy - 40, k.width, k.height)
    camera = Pinhole(config.pinhole(FILE.scene.camera).pose, off_centre)
    joints = planned_round(FILE, RING.content, RING.path.parent).views[0]["GP1-V2"].q
    snapshot = Snapshot(joints, np.full(2, 0.02), None, None, 0)
    drawn = clear.scene.render(snapshot, camera).surface
    white = np.zeros((N_KINDS, 1), np.float32)
    white[[FINGER, ARM]] = 1
    zeros = np.zeros(N_KINDS, np.float32)
    light = clear.scene.trace(
        snapshot,
        camera,
        Lamp(AROUND.positions_m, 1.0, 0.42, 0.2),
        Materials(white, zeros, zeros + 1, zeros + 1),
        np.zeros(drawn.shape, bool),
        seed=1,
    )[0]
    arm, shines = np.isin(drawn, (ARM, FINGER)), light > 0.1
    assert 10_000 < arm.sum() < 60_000
    assert (arm & shines).sum() / (arm | shines).sum() > 0.98
    assert PAN not in drawn[shines]


def test_every_light_is_a_number(clear):
    """On slivers of the hand's meshes Mitsuba has none."""
    config = TwinCameraConfig(width=640, height=480)
    camera = config.pinhole(FILE.scene.camera)
    grasp, stops = RING.content.grasps[0], planned_round(FILE, RING.content, RING.path.parent).views[0]
    joints = stops["GP1-V3"].q
    part = PartBody("ring", Ring(RingConfig()).make().mesh, (), 23.0, (), (), (), 1.0, Conditions(), (0, 0))
    pose = forward(joints) @ grasp_pose(grasp).inverse()
    lamp = Lamp.ring(0.1, lamps=8, white=1.0, distance_m=0.42, ambient=1.0)
    shining = dict.fromkeys((ARM, FINGER, PAN), 1.0)
    light = clear(part, pose, camera=camera, lamp=lamp, albedo=shining, joints=joints)
    assert np.isfinite(light).all()


def test_the_same_seed_gives_the_same_bytes(clear, body):
    part, pose = body(trimesh.creation.icosphere(3, 8.0)), plate(0)
    one, again = (clear(part, pose, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, clear(part, pose, seed=6))


def test_a_grey_and_a_colour_picture_have_their_shapes(clear, body):
    for pixel_format, shape in (("Mono8", (48, 64)), ("RGB8", (48, 64, 3))):
        config = TwinCameraConfig(renderer="photoreal", pixel_format=pixel_format)
        snapshot = Snapshot(HOME, np.full(2, 0.02), body(trimesh.creation.icosphere(2, 9.0)), plate(0), 0)
        image, _ = picture(config, clear.scene, FILE.scene, snapshot, CAMERA, np.random.default_rng(0))
        assert image.shape == shape and image.dtype == np.uint8


def _enter() -> None:
    with PhotorealScene(TwinCameraConfig(renderer="tiny").scene(FILE.scene, 0.13), FILE.scene, pan_m=0.13):
        pass


def test_without_mitsuba_it_names_the_line_that_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install mitsuba"):
        _enter()


@pytest.mark.parametrize("version", [None, (15, 0, 6)])
def test_without_a_new_llvm_it_names_the_line_that_installs_it(monkeypatch, version):
    mitsuba, drjit = ModuleType("mitsuba"), ModuleType("drjit")

    def set_variant(name):
        if version is None:
            raise ImportError("the LLVM backend is inactive")

    mitsuba.set_variant = set_variant
    drjit.detail = SimpleNamespace(llvm_version=lambda: version)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "mitsuba", mitsuba)
    monkeypatch.setitem(sys.modules, "drjit", drjit)
    with pytest.raises(ConfigError, match="apt-get install libllvm19"):
        _enter()


def test_a_clear_part_has_light_from_all_around_unless_told_otherwise():
    assert TwinCameraConfig(renderer="photoreal").light_around == 1.0
    assert TwinCameraConfig(renderer="tiny").light_around == 0.06
    assert TwinCameraConfig(renderer="photoreal", ambient=0.3).light_around == 0.3
