from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.spatial.transform import Rotation

from cell.config import load_cell
from cell.interfaces import Intrinsics, Pose
from cell.motion.panda import Q_MAX, Q_MIN, forward
from cell.motion.round import camera_pose
from cell.schema import HandShape
from cell.silhouette import hand_mask

FILE = load_cell("twin").content
WHOLE = FILE.hand.model_copy(update={"palm": True})
HOME = np.array(FILE.motion.home_rad)
SMALL = Intrinsics(150.3, 148.1, 81.2, 58.9, 160, 120)


def block(low, high):
    return {"low_mm": low, "high_mm": high}


def rays_that_hit(block_mm, pose, k):
    """Pixels through whose centre a ray from the camera meets a block: slab by slab (Kay and Kajiya, 1986)."""
    x, y = np.meshgrid(np.arange(k.width) + 0.5, np.arange(k.height) + 0.5)
    ways = np.stack([(x - k.cx) / k.fx, (y - k.cy) / k.fy, np.ones_like(x)], axis=-1)
    ways = ways @ pose.rotation
    start = -pose.position_m @ pose.rotation
    low, high = (np.array(block_mm[key]) / 1000 for key in ("low_mm", "high_mm"))
    with np.errstate(divide="ignore"):
        first, second = (low - start) / ways, (high - start) / ways
    enter = np.minimum(first, second).max(axis=-1)
    leave = np.maximum(first, second).min(axis=-1)
    return (leave >= np.maximum(enter, 0.01)) & (leave > 0.01)


def grown(mask):
    return binary_dilation(mask, np.ones((3, 3)))


def block_and_pose(seed):
    """Some block, and the hand's pose in the camera's frame: before it, behind it, or on both sides."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(-80, 40, 3)
    high = low + rng.uniform(10, 120, 3)
    position_m = rng.normal([0, 0, 0.2 if seed % 2 else 0.03], [0.03, 0.03, 0.1])
    return block(low.tolist(), high.tolist()), Pose(Rotation.random(random_state=seed).as_matrix(), position_m)


def fingers_apart(hand, opening_mm):
    for finger in hand.finger:
        (x0, y0, z0), (x1, y1, z1) = finger.low_mm, finger.high_mm
        half = opening_mm / 2
        yield block((x0, y0 + half, z0), (x1, y1 + half, z1))
        yield block((-x1, -y1 - half, z0), (-x0, -y0 - half, z1))


@pytest.mark.parametrize("seed", range(24))
def test_silhouette_of_blocks_against_rays_through_every_pixel(seed):
    shape, pose = block_and_pose(seed)
    q = np.random.default_rng(seed).uniform(Q_MIN, Q_MAX)
    hand = HandShape(finger=[shape, block((-4.0, 2.0, -3.0), (6.0, 14.0, 30.0))], margin_mm=0.0)
    found = hand_mask(hand, q, 0.02, forward(q) @ pose.inverse(), SMALL)
    expected = np.any([rays_that_hit(each, pose, SMALL) for each in fingers_apart(hand, 20.0)], axis=0)
    assert found.shape == (120, 160) and found.dtype == np.bool_
    assert not (expected & ~found).any()
    # A corner thinner than a pixel is drawn, and hit by no ray.
    assert (found & ~grown(expected)).sum() <= 3


def test_cases_above_are_of_every_sort():
    shares = []
    for shape, pose in map(block_and_pose, range(24)):
        corners = np.stack(np.meshgrid(*zip(shape["low_mm"], shape["high_mm"], strict=True)), -1).reshape(-1, 3)
        shares.append((pose.apply(corners / 1000)[:, 2] > 0.01).mean())
    assert shares.count(0) >= 1 and shares.count(1) >= 6 and len(shares) - shares.count(0) - shares.count(1) >= 5


def test_hand_that_is_behind_the_camera_or_beside_the_picture_masks_nothing():
    camera = camera_pose(FILE.scene.camera)
    away = Pose(camera.rotation @ np.diag([-1.0, 1.0, -1.0]), camera.position_m)
    aside = Pose(camera.rotation @ Rotation.from_euler("y", 80, degrees=True).as_matrix(), camera.position_m)
    k = Intrinsics(1370.0, 1370.0, 320.0, 240.0, 640, 480)
    for pose in (away, aside):
        assert not hand_mask(WHOLE, HOME, 0.004, pose, k).any()


def test_mask_follows_the_joints():
    """Turning the arm's base and the camera together shows the same; turning the arm alone does not."""
    k = Intrinsics(300.0, 300.0, 320.0, 240.0, 640, 480)
    camera = camera_pose(FILE.scene.camera)
    about = forward(HOME).position_m - camera.position_m
    z = about / np.linalg.norm(about)
    x = np.cross(z, [0, 0, 1.0]) / np.linalg.norm(np.cross(z, [0, 0, 1.0]))
    camera = Pose(np.stack([x, np.cross(z, x), z], axis=1), camera.position_m)
    here = hand_mask(WHOLE, HOME, 0.004, camera, k)
    assert 1000 < here.sum() < here.size / 2
    turned = HOME + np.array([0.3, 0, 0, 0, 0, 0, 0])
    with_it = Pose(Rotation.from_euler("z", 0.3).as_matrix(), np.zeros(3)) @ camera
    np.testing.assert_array_equal(hand_mask(WHOLE, turned, 0.004, with_it, k), here)
    alone = hand_mask(WHOLE, turned, 0.004, camera, k)
    assert alone.sum() > 1.2 * here.sum()  # the hand came nearer to the camera


def test_fingers_stand_apart_by_the_opening():
    q = HOME
    hand = HandShape(finger=[block((-5.0, 0.0, -5.0), (5.0, 10.0, 5.0))], margin_mm=0.0)
    # The camera looks along the approach; the opening is its y.
    camera = forward(q) @ Pose(np.eye(3), np.array([0.0, 0.0, -0.5]))
    k = Intrinsics(1000.0, 1000.0, 100.0, 100.0, 200, 200)
    # At the blocks' near face, 0.495 m away, a millimetre is 2.02 pixels.
    for opening_m in (0.0, 0.02):
        rows = np.flatnonzero(hand_mask(hand, q, opening_m, camera, k).any(axis=1))
        half = 1000 * (opening_m / 2 + 0.010) / 0.495
        assert rows[0] == pytest.approx(100 - half, abs=1) and rows[-1] == pytest.approx(100 + half, abs=1)
        gap = np.setdiff1d(np.arange(rows[0], rows[-1]), rows)
        assert len(gap) == pytest.approx(1000 * opening_m / 0.505, abs=2)


def test_margin_widens_every_block():
    wide = block((-21.0, -11.0, -31.0), (21.0, 11.0, -9.0))
    narrow = block((-18.0, -8.0, -28.0), (18.0, 8.0, -12.0))
    camera = forward(HOME) @ Pose(np.eye(3), np.array([0.0, 0.0, -0.3]))
    expected = hand_mask(HandShape(finger=[wide], margin_mm=0.0), HOME, 0.0, camera, SMALL)
    found = hand_mask(HandShape(finger=[narrow], margin_mm=3.0), HOME, 0.0, camera, SMALL)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(12))
def test_silhouette_behind_a_lens_against_rays_that_opencv_straightens(seed):
    """A lens with ten times the distortion of a good one; what it sees beyond the picture must not fold into it."""
    shape, pose = block_and_pose(seed)
    bent = replace(SMALL, k1=-0.3, k2=0.1, p1=1e-3, p2=-2e-3)
    matrix = np.array([[bent.fx, 0, bent.cx], [0, bent.fy, bent.cy], [0, 0, 1]])
    centres = np.stack(np.meshgrid(np.arange(160) + 0.5, np.arange(120) + 0.5), -1).reshape(-1, 1, 2)
    stop = (cv2.TERM_CRITERIA_COUNT, 60, 0)
    straight = cv2.undistortPointsIter(centres, matrix, np.array([-0.3, 0.1, 1e-3, -2e-3]), None, matrix, stop)
    # Where each pixel would be without the lens, in a larger picture, drawn four times finer.
    large = Intrinsics(4 * bent.fx, 4 * bent.fy, 4 * (bent.cx + 40), 4 * (bent.cy + 40), 960, 800)
    drawn = np.any([rays_that_hit(each, pose, large) for each in fingers_apart_blocks(shape)], axis=0)
    x, y = np.floor(4 * (straight[:, 0] + 40)).astype(int).T
    expected = drawn[y, x].reshape(120, 160)
    hand = HandShape(finger=[shape], margin_mm=0.0)
    q = np.random.default_rng(seed).uniform(Q_MIN, Q_MAX)
    found = hand_mask(hand, q, 0.02, forward(q) @ pose.inverse(), bent)
    assert (expected & ~grown(found)).sum() == 0
    assert (found & ~grown(grown(expected))).sum() <= 3 + 0.02 * expected.sum()


def fingers_apart_blocks(shape):
    return list(fingers_apart(HandShape(finger=[shape], margin_mm=0.0), 20.0))
