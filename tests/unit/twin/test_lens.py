import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from twin.rendering.lens import Lens, blurred

LENS = Lens(focal_length_m=0.025, f_number=8.0, pixel_m=2.4e-6, focus_m=0.42)


def at(depth_m, shape=(60, 80)):
    return np.full(shape, depth_m, np.float32)


def test_circle_of_confusion_is_the_thin_lens():
    """By similar triangles: two points' sharp images, and the cone of light between them."""
    f, aperture = 0.025, 0.025 / 8
    image_of_focus = 1 / (1 / f - 1 / 0.42)
    for depth in (0.37, 0.40, 0.45, 0.6):
        image = 1 / (1 / f - 1 / depth)
        circle_px = aperture * abs(image - image_of_focus) / image / 2.4e-6
        sharpest = LENS.blur_px(at(0.42))[0, 0]
        expected = np.hypot(circle_px / 4, sharpest)
        assert LENS.blur_px(at(depth))[0, 0] == pytest.approx(expected, rel=1e-4)
    # The Airy disc at f/8, 5.7 µm in radius, is as wide as a Gaussian of 2 µm.
    assert sharpest == pytest.approx(np.hypot(2.0 / 2.4, 12**-0.5), rel=0.05)


@pytest.mark.parametrize("depth", [0.42, 0.395, 0.45])
def test_a_surface_is_blurred_as_scipy_blurs_it(depth):
    light = np.zeros((1, 60, 80), np.float32)
    light[0, 20:40, 30:50] = np.random.default_rng(0).random((20, 20))
    depths = at(depth)
    out = blurred(light, depths, np.ones((60, 80), bool), LENS)
    expected = gaussian_filter(light[0], LENS.blur_px(depths)[0, 0], truncate=4)
    np.testing.assert_allclose(out[0], expected, atol=0.01)
    assert out.sum() == pytest.approx(light.sum(), rel=1e-4)


def test_a_sharp_edge_stays_sharp_before_a_blurred_background():
    before = np.zeros((60, 80), bool)
    before[:, :40] = True
    depths = np.where(before, np.float32(0.42), np.float32(2.0))
    light = np.where(before, np.float32(0.2), np.float32(1.0))[np.newaxis]
    out = blurred(light, depths, before, LENS)[0]
    np.testing.assert_allclose(out[:, :36], 0.2, atol=1e-4)
    np.testing.assert_allclose(out[:, 44:], 1.0, atol=1e-4)
    other = blurred(1.2 - light, depths, before, LENS)[0]
    np.testing.assert_allclose(other[:, 44:], 0.2, atol=1e-4)


def test_even_light_stays_even_whatever_the_depths_are():
    rng = np.random.default_rng(1)
    depths = gaussian_filter(rng.uniform(0.2, 0.7, (60, 80)), 6).astype(np.float32)
    out = blurred(np.full((3, 60, 80), 0.7, np.float32), depths, rng.random((60, 80)) < 0.5, LENS)
    np.testing.assert_allclose(out, 0.7, atol=0.02)
    # A tilted surface shows no seam where its blur goes from one step to the next.
    tilted = np.broadcast_to(np.linspace(0.37, 0.47, 60, dtype=np.float32)[:, np.newaxis], (60, 80)).copy()
    out = blurred(np.full((1, 60, 80), 0.7, np.float32), tilted, np.ones((60, 80), bool), LENS)
    np.testing.assert_allclose(out, 0.7, rtol=1e-5)
