from dataclasses import replace

import numpy as np
import pytest
import trimesh

from cell.config import load_cell, load_part
from cell.interfaces import Pose
from cell.motion.panda import forward
from cell.motion.round import grasp_pose
from cell.motion.stored import planned_round
from cell.schema import Box
from twin.camera import TwinCameraConfig, _say_that_egl_is_missing, picture
from twin.parts.ring import Ring, RingConfig
from twin.parts.skin import Skin
from twin.rendering.composed import ComposedScene
from twin.rendering.egl import EglSurroundings
from twin.rendering.geometry import ARM, BOXES, FAR_M, FINGER, NOTHING, PART
from twin.rendering.tiny import TinySurroundings
from twin.snapshot import Snapshot
from twin.world import panda_urdf

FILE, RING = load_cell("twin").content, load_part("ring").content
HOME = np.array(FILE.motion.home_rad)
# Far from the arm, looking away from it.
EYE = Pose(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([3.0, 0.0, 1.5]))
BENT = (-0.08, 0.02, 3e-4, -2e-4)


@pytest.fixture(params=["tiny", "egl"])
def scene(request):
    if request.param == "egl":
        request.getfixturevalue("needs_egl")
    with TwinCameraConfig(renderer=request.param).scene(FILE.scene, 0.13) as connected:
        yield connected


@pytest.fixture(scope="module")
def ring_in_view(body):
    """The ring in the hand at the second view, where the camera sees the arm, the fingers and the ring."""
    grasp, views = RING.grasps[0], planned_round(FILE, RING, load_part("ring").path.parent).views[0]
    q = views["GP1-V2"].q
    part = body(Ring(RingConfig()).make().mesh)
    return Snapshot(q, np.full(2, grasp.width_mm / 2000), part, forward(q) @ grasp_pose(grasp).inverse())


@pytest.mark.parametrize("width, height", [(160, 120), (201, 151)])
def test_pictures_lie_where_the_intrinsics_say_to_a_fraction_of_a_pixel(scene, body, width, height):
    """A plate that faces the camera, at many places: its pixels' centre is where its centre is projected."""
    camera = TwinCameraConfig(width=width, height=height).pinhole(FILE.scene.camera)
    part = body(trimesh.creation.box((30.0, 24.0, 0.2)))
    away = []
    for x, y in np.random.default_rng(0).uniform(-0.02, 0.02, (40, 2)):
        pose = camera.pose @ Pose(np.eye(3), np.array([x, y, 0.42]))
        drawn = scene.render(Snapshot(HOME, np.full(2, 0.04), part, pose), camera)
        ((u, v),), _ = camera.project(pose.apply(np.array([[0, 0, -0.0001]])))
        rows, columns = np.nonzero(drawn.surface == PART)
        away.append((columns.mean() + 0.5 - u, rows.mean() + 0.5 - v))
        assert drawn.depth_m[drawn.surface == PART] == pytest.approx(0.4199, abs=1e-5)
    assert np.abs(away).max() < 0.75
    np.testing.assert_allclose(np.mean(away, axis=0), 0, atol=0.15)


@pytest.fixture(params=["tiny", "egl"])
def before_a_box(request):
    """The surroundings of a scene whose one box stands across the way to +x, far from the arm."""
    if request.param == "egl":
        request.getfixturevalue("needs_egl")
    box = Box(name="box", size_m=(0.02, 0.05, 0.04), position_m=(3.43, 0.012, 1.507))
    around = {"tiny": TinySurroundings, "egl": EglSurroundings}[request.param]
    with around(FILE.scene.model_copy(update={"boxes": (box,)}), pan_m=0.13) as surroundings:
        yield surroundings


@pytest.mark.parametrize("width, height", [(160, 120), (201, 151), (1290, 970)])
def test_boxes_lie_where_the_intrinsics_say(before_a_box, width, height):
    """A box whose front is 0.42 m away; the largest picture is larger than OpenGL's buffer."""
    camera = TwinCameraConfig(width=width, height=height).pinhole(FILE.scene.camera)
    camera = replace(camera, pose=EYE)
    drawn = before_a_box.render(Snapshot(HOME, np.full(2, 0.04), None, None), camera)
    corners = np.array([[3.42, 0.012 + y, 1.507 + z] for y in (-0.025, 0.025) for z in (-0.02, 0.02)])
    pixels, _ = camera.project(corners)
    (left, top), (right, bottom) = pixels.min(axis=0), pixels.max(axis=0)
    rows, columns = np.nonzero(drawn.surface == BOXES)
    assert (columns.min(), columns.max() + 1) == pytest.approx((left, right), abs=0.75)
    assert (rows.min(), rows.max() + 1) == pytest.approx((top, bottom), abs=0.75)
    assert len(rows) == pytest.approx((right - left) * (bottom - top), rel=0.03)
    assert drawn.depth_m[drawn.surface == BOXES] == pytest.approx(0.42, abs=1e-4)
    assert set(np.unique(drawn.surface)) == {BOXES, NOTHING}


@pytest.mark.parametrize("width, height", [(320, 240), (321, 241)])
@pytest.mark.parametrize("away_m", [0.38, 0.46])
def test_what_is_nearer_hides_what_is_behind_it(before_a_box, body, away_m, width, height):
    """A plate, wider than the box and half as high, before it and behind it."""
    camera = replace(TwinCameraConfig(width=width, height=height).pinhole(FILE.scene.camera), pose=EYE)
    pose = EYE @ Pose(np.eye(3), np.array([-0.012, -0.007, away_m + 1e-4]))
    part = body(trimesh.creation.box((80.0, 20.0, 0.2)))
    drawn = ComposedScene(before_a_box).render(Snapshot(HOME, np.full(2, 0.04), part, pose), camera)
    plate, box = drawn.surface == PART, drawn.surface == BOXES
    per_m = camera.intrinsics.fx
    whole, front = 0.08 * 0.02 * (per_m / away_m) ** 2, 0.05 * 0.04 * (per_m / 0.42) ** 2
    both = min(0.05 / 0.42, 0.08 / away_m) * min(0.04 / 0.42, 0.02 / away_m) * per_m**2
    # The box is drawn at half size: its rim may be off by a pixel.
    rim = 0.75 * 2 * 0.09 / 0.42 * per_m
    assert plate.sum() == pytest.approx(whole - both * (away_m > 0.42), abs=rim)
    assert box.sum() == pytest.approx(front - both * (away_m < 0.42), abs=rim)
    ((left, top), (right, bottom)), _ = camera.project(np.array([[3.42, 0.037, 1.527], [3.42, -0.013, 1.487]]))
    rows, columns = np.nonzero(box)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == pytest.approx(
        (left, right, top, bottom), abs=1.5
    )
    assert drawn.depth_m[plate] == pytest.approx(away_m, abs=1e-5)
    # At its rim too it is as far away as it is.
    assert drawn.depth_m[box] == pytest.approx(0.42, abs=1e-3)


@pytest.mark.parametrize("width, height", [(640, 480), (1290, 970)])
def test_part_and_hand_lie_where_rays_meet_their_triangles(scene, ring_in_view, width, height):
    """Against trimesh's ray casting, at pixels drawn by chance."""
    camera = TwinCameraConfig(width=width, height=height).pinhole(FILE.scene.camera)
    drawn, k = scene.render(ring_in_view, camera), camera.intrinsics
    hand, opening = forward(ring_in_view.joints), ring_in_view.fingers_m[0]
    things = {PART: (ring_in_view.part_pose, ring_in_view.part.mesh.triangles / 1000)}
    meshes = panda_urdf().parent / "meshes" / "visual"
    finger, palm = (trimesh.load_mesh(meshes / name).triangles for name in ("finger.obj", "hand.obj"))
    for sign in (1, -1):
        turned = Pose(np.diag([sign, sign, 1.0]), np.array([0, sign * opening, 0.0584 - 0.1034]))
        things[FINGER, sign] = hand @ turned, finger
    things[ARM] = hand, palm - (0, 0, 0.1034)
    rows, columns = np.divmod(np.arange(0, width * height, 307), width)
    rays = np.stack([(columns + 0.5 - k.cx) / k.fx, (rows + 0.5 - k.cy) / k.fy, np.ones(len(rows))], axis=-1)
    depth, what = np.full(len(rays), FAR_M), np.full(len(rays), NOTHING)
    for kind, (pose, triangles) in things.items():
        corners = (camera.pose.inverse() @ pose).apply(np.asarray(triangles))
        mesh = trimesh.Trimesh(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3), process=False)
        places, ray, _ = mesh.ray.intersects_location(np.zeros_like(rays), rays)
        nearest = np.full(len(rays), FAR_M)
        np.minimum.at(nearest, ray, places[:, 2])
        what[nearest < depth] = kind[0] if isinstance(kind, tuple) else kind
        depth = np.minimum(depth, nearest)
    # The rest of the arm, which stands behind, is drawn where nothing else is.
    shown = np.where((what == NOTHING) & (drawn.surface[rows, columns] == ARM), NOTHING, drawn.surface[rows, columns])
    same = shown == what
    assert same.mean() > 0.998 and np.isin([PART, FINGER, ARM, NOTHING], what).all()
    met = same & (what != NOTHING)
    np.testing.assert_allclose(drawn.depth_m[rows, columns][met], depth[met], rtol=1e-4)


def test_the_face_that_is_known_to_be_seen_is_the_one_that_is_seen(scene, ring_in_view):
    camera = TwinCameraConfig(width=640, height=480).pinhole(FILE.scene.camera)
    drawn, k = scene.render(ring_in_view, camera), camera.intrinsics
    assert ((drawn.faces >= 0) == (drawn.surface == PART)).all()
    rows, columns = np.nonzero(drawn.faces >= 0)
    points = np.stack([(columns + 0.5 - k.cx) / k.fx, (rows + 0.5 - k.cy) / k.fy, np.ones(len(rows))], axis=-1)
    points = (ring_in_view.part_pose.inverse() @ camera.pose).apply(points * drawn.depth_m[rows, columns, np.newaxis])
    mesh = ring_in_view.part.mesh
    faces = drawn.faces[rows, columns]
    away = ((points * 1000 - mesh.triangles[faces, 0]) * mesh.face_normals[faces]).sum(axis=1)
    assert np.abs(away).max() < 0.01


def test_twenty_megapixels_are_no_enlarged_copy(needs_egl, body):
    """An edge that leans by 32 columns over 60 rows stands in as many different columns; so do rows the other way."""
    camera = TwinCameraConfig(width=5472, height=3648).pinhole(FILE.scene.camera)
    square = trimesh.creation.box((60.0, 60.0, 0.2))
    angle = np.arctan(32 / 60)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    pose = camera.pose @ Pose(turn, np.array([0, 0, 0.42]))
    with ComposedScene(EglSurroundings(FILE.scene, pan_m=0.13)) as scene:
        seen = scene.render(Snapshot(HOME, np.full(2, 0.04), body(square), pose), camera).surface == PART
    assert seen.shape == (3648, 5472)
    columns = seen[1800:1860].argmax(axis=1)
    rows = seen[:, 2700:2760].argmax(axis=0)
    assert len(np.unique(columns)) >= 31 and len(np.unique(rows)) >= 31


def test_camera_says_once_that_it_draws_without_egl(monkeypatch, caplog):
    monkeypatch.setattr("twin.camera.egl_found", lambda: False)
    _say_that_egl_is_missing.cache_clear()
    for _ in range(2):
        assert isinstance(TwinCameraConfig().scene(FILE.scene, 0.13).around, TinySurroundings)
    assert [record.message for record in caplog.records] == [
        "EGL was not found: pictures are drawn with TinyRenderer, slower (apt-get install libegl1 libegl-mesa0)"
    ]
    monkeypatch.setattr("twin.camera.egl_found", lambda: True)
    assert isinstance(TwinCameraConfig().scene(FILE.scene, 0.13).around, EglSurroundings)
    assert isinstance(TwinCameraConfig(renderer="tiny").scene(FILE.scene, 0.13).around, TinySurroundings)
    assert len(caplog.records) == 1


def test_both_renderers_lead_to_the_same_picture(needs_egl, ring_in_view):
    config = TwinCameraConfig(width=640, height=480, distortion=BENT, read_noise_e=0, full_well_e=1e12)
    images = []
    for around in (TinySurroundings, EglSurroundings):
        with ComposedScene(around(FILE.scene, pan_m=0.13)) as scene:
            camera = config.pinhole(FILE.scene.camera)
            image, _ = picture(config, scene, FILE.scene, ring_in_view, camera, np.random.default_rng(0))
            images.append(image.astype(int))
    # Outlines of the arm differ.
    different = np.abs(images[0] - images[1]).max(axis=-1)
    assert (different > 2).mean() < 0.01 and different.mean() < 0.1


@pytest.mark.parametrize("pixel_format, shape", [("RGB8", (240, 320, 3)), ("Mono8", (240, 320))])
def test_same_seed_same_bytes(scene, ring_in_view, pixel_format, shape):
    config = TwinCameraConfig(width=320, height=240, pixel_format=pixel_format, distortion=BENT)
    camera = config.pinhole(FILE.scene.camera)
    first, again, other = (
        picture(config, scene, FILE.scene, ring_in_view, camera, np.random.default_rng(seed))[0] for seed in (1, 1, 2)
    )
    assert first.shape == shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_is_seen_lies_where_the_calibration_with_its_distortion_says(body, sheet_mm):
    """A dark spot, far from the middle: in picture and truth it is where `Pinhole.project` puts it."""
    plate = trimesh.creation.box((120.0, 100.0, 1.0))
    spot = sheet_mm(2.0, 2.0, 45.0, 35.0, -0.5)
    config = TwinCameraConfig(width=640, height=480, distortion=(-0.3, 0.1, 1e-3, -2e-3))
    camera = config.pinhole(FILE.scene.camera)
    pose = camera.pose @ Pose(np.eye(3), np.array([0, 0, 0.42]))
    part = body(plate, skins=[Skin(spot, 0.0)])
    with TwinCameraConfig(renderer="tiny").scene(FILE.scene, 0.13) as scene:
        snapshot = Snapshot(HOME, np.full(2, 0.04), part, pose)
        image, seen = picture(config, scene, FILE.scene, snapshot, camera, np.random.default_rng(0))
    ((u, v),), _ = camera.project(pose.apply(np.array([[0.045, 0.035, -0.0005]])))
    k = camera.intrinsics
    bent = np.hypot(u - (k.fx * 0.045 / 0.4195 + k.cx), v - (k.fy * 0.035 / 0.4195 + k.cy))
    assert bent > 1
    y, x = np.mgrid[:480, :640] + 0.5
    place = (x * seen.share).sum() / seen.share.sum(), (y * seen.share).sum() / seen.share.sum()
    assert place == pytest.approx((u, v), abs=0.1)
    box = image[int(v) - 8 : int(v) + 9, int(u) - 8 : int(u) + 9, 1].astype(float)
    dark = box.max() - box
    dark[dark < 0.3 * dark.max()] = 0
    y, x = np.mgrid[int(v) - 8 : int(v) + 9, int(u) - 8 : int(u) + 9] + 0.5
    assert ((x * dark).sum() / dark.sum(), (y * dark).sum() / dark.sum()) == pytest.approx((u, v), abs=0.3)
