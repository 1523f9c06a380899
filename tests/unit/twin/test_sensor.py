import cv2
import numpy as np
import pytest

from cell.interfaces import Intrinsics, Pose
from twin.rendering.pinhole import Pinhole
from twin.rendering.sensor import bend, expose

K = Intrinsics(2740.0, 2740.0, 320.0, 240.0, 640, 480)
PLAIN = {"exposure": 1.0, "vignetting": 0.0, "full_well_e": 15000.0, "read_noise_e": 3.0, "seed": np.uint64(5)}


def test_noise_grows_with_light_as_photons_do():
    """The photon transfer curve (EMVA 1288): variance = signal / electrons per grey level + read noise + rounding."""
    for level in (0.1, 0.3, 0.6, 0.9):
        grey = expose(np.full((1, 480, 640), level, np.float32), Intrinsics(1e9, 1e9, 320.0, 240.0, 640, 480), **PLAIN)
        gain = 255 / 15000
        expected = level * 15000 * gain**2 + (3 * gain) ** 2 + 1 / 12
        assert grey.mean() == pytest.approx(255 * level, abs=0.02)
        assert grey.var() == pytest.approx(expected, rel=0.02)


def test_noise_is_white_normal_and_different_in_each_channel():
    grey = expose(np.full((3, 480, 640), 0.5, np.float32), Intrinsics(1e9, 1e9, 320.0, 240.0, 640, 480), **PLAIN)
    noise = grey.astype(float) - grey.mean()
    for first, second in (
        (noise[..., 0], noise[..., 1]),
        (noise[..., 1], noise[..., 2]),
        (noise[:, 1:], noise[:, :-1]),
    ):
        assert abs((first * second).mean()) / noise.var() < 0.01
    assert (noise**4).mean() / noise.var() ** 2 == pytest.approx(3, abs=0.1)


def test_corners_get_less_light_by_the_fourth_power_of_the_cosine_and_the_barrel():
    quiet = PLAIN | {"full_well_e": 1e12, "read_noise_e": 0.0, "vignetting": 0.2}
    wide = Intrinsics(800.0, 800.0, 320.0, 240.0, 640, 480)
    grey = expose(np.full((1, 480, 640), 0.9, np.float32), wide, **quiet)
    tangent = np.hypot(319.5, 239.5) / 800
    assert grey[240, 320] == pytest.approx(0.9 * 255, abs=1)
    assert grey[0, 0] == pytest.approx(0.9 * 255 * 0.8 * np.cos(np.arctan(tangent)) ** 4, abs=1)


def test_full_wells_are_white():
    assert (expose(np.full((3, 8, 8), 1.5, np.float32), K, **PLAIN) == 255).all()


def test_lens_bends_a_picture_as_opencv_straightens_it_back():
    bent = Intrinsics(700.0, 690.0, 322.0, 236.0, 640, 480, -0.15, 0.05, 1e-3, -2e-3)
    straight = Pinhole(Pose(np.eye(3), np.zeros(3)), bent).undistorted().intrinsics
    assert straight.width > 640 and straight.height > 480
    y, x = np.mgrid[: straight.height, : straight.width].astype(np.float32)
    smooth = 0.5 + 0.3 * np.sin((x + 0.5 - straight.cx) / 31) * np.cos((y + 0.5 - straight.cy) / 23)
    drawn = bend(smooth[np.newaxis].astype(np.float32), straight, bent)[0]
    matrix = np.array([[700.0, 0, 321.5], [0, 690.0, 235.5], [0, 0, 1]])
    back = cv2.undistort(drawn, matrix, np.array([-0.15, 0.05, 1e-3, -2e-3]))
    y, x = np.mgrid[:480, :640]
    expected = 0.5 + 0.3 * np.sin((x - 321.5) / 31) * np.cos((y - 235.5) / 23)
    # Two linear interpolations lose a little of a wave.
    assert np.abs(back - expected)[20:-20, 20:-20].max() < 0.003
