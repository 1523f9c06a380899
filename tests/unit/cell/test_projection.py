import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.interfaces import Intrinsics
from cell.projection import field_of_view, pixels_of, rays_of

BENT = Intrinsics(1400.0, 1390.0, 330.0, 236.0, 640, 480, -0.12, 0.05, 4e-4, -7e-4)


def opencv(k):
    # OpenCV counts from the middle of the first pixel.
    matrix = np.array([[k.fx, 0, k.cx - 0.5], [0, k.fy, k.cy - 0.5], [0, 0, 1]])
    return matrix, np.array([k.k1, k.k2, k.p1, k.p2])


def test_pixels_are_those_that_opencv_projects_to():
    points = np.random.default_rng(0).uniform([-0.2, -0.15, 0.9], [0.2, 0.15, 1.1], (200, 3))
    expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), *opencv(BENT))
    np.testing.assert_allclose(pixels_of(BENT, points[:, :2] / points[:, 2:]), expected[:, 0] + 0.5, atol=1e-9)


@given(
    k1=st.floats(-0.2, 0.2),
    k2=st.floats(-0.1, 0.1),
    p=st.tuples(st.floats(-0.002, 0.002), st.floats(-0.002, 0.002)),
    u=st.floats(0, 640),
    v=st.floats(0, 480),
)
def test_rays_lead_back_to_their_pixels(k1, k2, p, u, v):
    k = Intrinsics(1400.0, 1390.0, 330.0, 236.0, 640, 480, k1, k2, *p)
    np.testing.assert_allclose(pixels_of(k, rays_of(k, np.array([u, v]))), [u, v], atol=1e-6)


def test_field_of_view_holds_every_pixel_and_not_much_more():
    every = np.stack(np.meshgrid(np.linspace(0, 640, 161), np.linspace(0, 480, 121)), -1).reshape(-1, 2)
    rays = rays_of(BENT, every)
    left, top, right, bottom = field_of_view(BENT)
    assert (rays >= np.array([left, top]) - 1e-5).all() and (rays <= np.array([right, bottom]) + 1e-5).all()
    np.testing.assert_allclose([left, top], rays.min(axis=0), atol=1e-4)
    # A barrel sees more than a pinhole does.
    assert right - left > 640 / 1400 and bottom - top > 480 / 1390


def test_without_distortion_it_is_a_pinhole():
    k = Intrinsics(1400.0, 1390.0, 330.0, 236.0, 640, 480)
    assert pixels_of(k, np.array([0.1, -0.05])).tolist() == pytest.approx([470.0, 166.5])
