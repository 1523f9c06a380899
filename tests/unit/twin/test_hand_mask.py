"""The mask of the hand, which knows joints and declared blocks alone, against what the renderer draws."""

import numpy as np
import pybullet as p
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from cell.config import load_cell, load_part
from cell.interfaces import Intrinsics, Pose
from cell.motion.panda import forward
from cell.motion.round import camera_pose, grasp_pose
from cell.motion.stored import planned_round
from cell.schema import HandShape
from cell.silhouette import hand_mask
from twin.camera import TwinCameraConfig
from twin.conditions import Conditions
from twin.parts.ring import Ring, RingConfig
from twin.snapshot import PartBody, Snapshot
from twin.world import ARM_JOINTS, FINGER_JOINTS, HAND_LINK, panda_urdf

FILE, PART, FOLDER = load_cell("twin").content, load_part("ring").content, load_part("ring").path.parent
CAMERA = camera_pose(FILE.scene.camera)
PICTURE = Intrinsics(1370.0, 1370.0, 320.0, 240.0, 640, 480)
VIEW = p.computeViewMatrix(
    CAMERA.position_m.tolist(), (CAMERA.position_m + CAMERA.rotation[:, 2]).tolist(), (-CAMERA.rotation[:, 1]).tolist()
)
PROJECTION = p.computeProjectionMatrixFOV(2 * np.degrees(np.arctan(240 / 1370)), 640 / 480, 0.1, 2.5)
PLANNED = planned_round(FILE, PART, FOLDER)
STOPS = [
    pytest.param(stop.q, grasp.width_mm / 1000, id=name)
    for grasp, views in zip(PART.grasps, PLANNED.views, strict=True)
    for name, stop in views.items()
]


@pytest.fixture
def client():
    connected = p.connect(p.DIRECT)
    yield connected
    p.disconnect(connected)


@pytest.mark.parametrize("q, opening_m", STOPS)
def test_mask_covers_the_hand_and_not_much_more(client, q, opening_m):
    robot = p.loadURDF(str(panda_urdf()), useFixedBase=True, physicsClientId=client)
    for joints, values in ((ARM_JOINTS, q), (FINGER_JOINTS, [opening_m / 2] * 2)):
        for joint, value in zip(joints, values, strict=True):
            p.resetJointState(robot, joint, value, physicsClientId=client)
    *_, drawn = p.getCameraImage(
        PICTURE.width,
        PICTURE.height,
        VIEW,
        PROJECTION,
        flags=p.ER_SEGMENTATION_MASK_OBJECT_AND_LINKINDEX,
        renderer=p.ER_TINY_RENDERER,
        physicsClientId=client,
    )
    bodies = np.reshape(drawn, (PICTURE.height, PICTURE.width))
    links = np.where(bodies < 0, -1, (bodies >> 24) - 1)
    fingers, hand = np.isin(links, FINGER_JOINTS), np.isin(links, (HAND_LINK, *FINGER_JOINTS))
    assert fingers.sum() > 100 and hand.sum() > 20_000
    assert hand_mask(FILE.hand, q, opening_m, CAMERA, PICTURE)[fingers].mean() >= 0.995
    whole = hand_mask(FILE.hand.model_copy(update={"palm": True}), q, opening_m, CAMERA, PICTURE)
    assert whole[hand].mean() >= 0.995
    assert whole.sum() <= 1.5 * hand.sum()


def test_with_a_calibration_that_is_off_the_mask_is_still_the_hands_silhouette(client):
    """Half a millimetre and 0.1° off, in random directions, against what a renderer draws of the hand alone."""
    robot = p.loadURDF(str(panda_urdf()), useFixedBase=True, physicsClientId=client)
    for link in range(-1, HAND_LINK):
        p.changeVisualShape(robot, link, rgbaColor=(0, 0, 0, 0), physicsClientId=client)
    near, k, rng = 0.1, PICTURE, np.random.default_rng(0)
    # TinyRenderer draws half a pixel too far right and up.
    x, y = np.array([0.5 - k.cx, 0.5 + k.cx]) / k.fx, np.array([k.cy + 0.5 - k.height, k.cy + 0.5]) / k.fy
    projection = p.computeProjectionMatrix(*(near * x), *(near * y), near, 2.5)
    shape = HandShape(palm=True, margin_mm=0.0)
    views_overlaps = []
    for grasp, views in zip(PART.grasps, PLANNED.views, strict=True):
        for stop in views.values():
            for joints, values in ((ARM_JOINTS, stop.q), (FINGER_JOINTS, [grasp.width_mm / 2000] * 2)):
                for joint, value in zip(joints, values, strict=True):
                    p.resetJointState(robot, joint, value, physicsClientId=client)
            *_, drawn = p.getCameraImage(
                k.width, k.height, VIEW, projection, renderer=p.ER_TINY_RENDERER, physicsClientId=client
            )
            hand = np.reshape(drawn, (k.height, k.width)) >= 0
            overlaps = []
            for _ in range(5):
                shift, turn = rng.normal(size=(2, 3))
                turn *= np.radians(0.1) / np.linalg.norm(turn)
                off = Pose(Rotation.from_rotvec(turn).as_matrix(), 0.0005 * shift / np.linalg.norm(shift))
                mask = hand_mask(shape, stop.q, grasp.width_mm / 1000, CAMERA @ off, k)
                overlaps.append((mask & hand).sum() / (mask | hand).sum())
            views_overlaps.append(np.mean(overlaps))
            # The hand's own silhouette, as much off, overlaps by 0.94 at the least.
            assert min(overlaps) >= 0.925
    assert min(views_overlaps) >= 0.95


def test_what_the_mask_hides_at_one_grasp_point_is_seen_at_the_other():
    """Points of the ring's surface that a camera sees, not flatter than 10°, with and without masks."""
    config = TwinCameraConfig(width=640, height=480)
    camera, shape = config.pinhole(FILE.scene.camera), Ring(RingConfig()).make()
    ring = PartBody("ring", shape.mesh, (), 23.0, (), (), (), 1.0, Conditions(), (0, 0))
    points, faces = trimesh.sample.sample_surface(shape.mesh, 5000, seed=0)
    seen, unmasked = [], []
    with TwinCameraConfig(renderer="tiny").scene(FILE.scene, 0.13) as scene:
        for grasp, views in zip(PART.grasps, PLANNED.views, strict=True):
            for stop in views.values():
                pose = forward(stop.q) @ grasp_pose(grasp).inverse()
                depth = scene.render(Snapshot(stop.q, np.full(2, grasp.width_mm / 2000), ring, pose), camera).depth_m
                place, normals = pose.apply(points / 1000), shape.mesh.face_normals[faces] @ pose.rotation.T
                way = CAMERA.position_m - place
                pixels, z = camera.project(place)
                x, y = np.clip(np.floor(pixels).astype(int), 0, [[639, 479]]).T
                facing = (way * normals).sum(axis=1) > np.sin(np.radians(10)) * np.linalg.norm(way, axis=1)
                seen.append(facing & (z < depth[y, x] + 0.001))
                mask = hand_mask(FILE.hand, stop.q, grasp.width_mm / 1000, camera.pose, camera.intrinsics)
                unmasked.append(seen[-1] & ~mask[y, x])
    without, with_masks = np.sum(seen, axis=0), np.sum(unmasked, axis=0)
    assert (without >= 1).mean() > 0.98
    assert (with_masks >= 1)[without >= 1].mean() > 0.998
    assert (with_masks >= 2)[without >= 2].mean() > 0.97
