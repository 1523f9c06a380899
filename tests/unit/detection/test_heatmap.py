import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from detection.heatmap import smooth_heatmap


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
