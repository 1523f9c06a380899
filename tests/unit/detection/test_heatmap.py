import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from detection.heatmap import pixels_of, positions_of, smooth_heatmap


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_equals_torch_and_scipy(sigma: float) -> None:
    distances = np.random.default_rng(0).gamma(2, 3, (16, 16)).astype(np.float32)
    enlarged = torch.nn.functional.interpolate(
        torch.from_numpy(distances)[None, None], size=(64, 64), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    expected = gaussian_filter(enlarged.astype(np.float64), sigma, mode="reflect", truncate=4.0)
    heatmap = smooth_heatmap(distances, resolution=64, sigma=sigma)
    assert heatmap.dtype == np.float32
    np.testing.assert_allclose(heatmap, expected, rtol=1e-4, atol=1e-4)


def test_a_constant_stays() -> None:
    heatmap = smooth_heatmap(np.full((8, 8), 2.5, dtype=np.float32), resolution=32)
    np.testing.assert_allclose(heatmap, 2.5, rtol=1e-5)


def test_what_is_hidden_does_not_flow_into_its_neighbours() -> None:
    rng = np.random.default_rng(1)
    distances = rng.gamma(2, 3, (16, 16)).astype(np.float32)
    hidden = np.zeros((16, 16), dtype=np.bool_)
    hidden[4:9, 9:12] = True
    poisoned = np.where(hidden, np.float32(np.inf), distances)
    heatmap = smooth_heatmap(distances, resolution=64, hidden=hidden)
    np.testing.assert_array_equal(smooth_heatmap(poisoned, resolution=64, hidden=hidden), heatmap)
    far = np.ones((64, 64), dtype=np.bool_)
    far[:57, 15:] = False  # within 4σ and a grid position of the hidden ones
    np.testing.assert_allclose(heatmap[far], smooth_heatmap(distances, resolution=64)[far], rtol=1e-5)
    constant = smooth_heatmap(np.full((16, 16), 2.5, dtype=np.float32), resolution=64, hidden=hidden)
    np.testing.assert_allclose(constant[constant > 0], 2.5, rtol=1e-4)


def test_with_everything_hidden_nothing_is_seen() -> None:
    hidden = np.ones((8, 8), dtype=np.bool_)
    assert not smooth_heatmap(np.full((8, 8), 2.5, dtype=np.float32), resolution=32, hidden=hidden).any()


def test_a_position_is_marked_by_any_of_its_pixels() -> None:
    pixels = np.zeros((8, 8), dtype=np.bool_)
    pixels[3, 4] = True
    np.testing.assert_array_equal(positions_of(pixels), [False, True, False, False])
    np.testing.assert_array_equal(np.argwhere(pixels_of(positions_of(pixels), resolution=8)).min(axis=0), [0, 4])
    assert pixels_of(positions_of(pixels), resolution=8).sum() == 16
