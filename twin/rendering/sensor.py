"""From light behind the lens to grey values: distortion, vignetting, noise and digits."""

from __future__ import annotations

import numpy as np
from numba import prange
from numpy.typing import NDArray
from scipy.special import ndtri

from cell.interfaces import Intrinsics
from cell.projection import rays_of
from detection.kernels import kernel, parallel_kernel

# Where the light comes from is worked out at every 16th pixel and runs straight in between: within 0.001 pixels.
_GRID = 16
_N_NORMALS = 1 << 13
_normals = ndtri((np.arange(_N_NORMALS) + 0.5) / _N_NORMALS)
_NORMALS = (_normals / _normals.std()).astype(np.float32)


def bend(light: NDArray[np.float32], straight: Intrinsics, k: Intrinsics) -> NDArray[np.float32]:
    """Return a picture (C, H, W) without distortion as a lens draws it; light beyond its edges is that of the edge."""
    if straight == k:
        return light
    out = np.empty((len(light), k.height, k.width), np.float32)
    _bend(light, _sources(straight, k), out)
    return out


def _sources(straight: Intrinsics, k: Intrinsics) -> NDArray[np.float32]:
    """Where the light of each `_GRID`-th pixel of a picture (rows, columns, 2) comes from: x and y, from centres."""
    rows = np.arange(-(-k.height // _GRID) + 1) * _GRID + 0.5
    columns = np.arange(-(-k.width // _GRID) + 1) * _GRID + 0.5
    rays = rays_of(k, np.stack(np.meshgrid(columns, rows), axis=-1))
    return (rays * (straight.fx, straight.fy) + (straight.cx - 0.5, straight.cy - 0.5)).astype(np.float32)


@parallel_kernel
def _bend(light: NDArray[np.float32], sources: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    n_channels, height, width = out.shape
    most_u, most_v = np.float32(light.shape[2] - 1.001), np.float32(light.shape[1] - 1.001)
    zero, one = np.float32(0), np.float32(1)
    for y in prange(height):
        row, down = y // _GRID, np.float32(y % _GRID) / np.float32(_GRID)
        for column in range(sources.shape[1] - 1):
            u0, v0 = sources[row, column]
            u0 += down * (sources[row + 1, column, 0] - u0)
            v0 += down * (sources[row + 1, column, 1] - v0)
            u1, v1 = sources[row, column + 1]
            u1 += down * (sources[row + 1, column + 1, 0] - u1)
            v1 += down * (sources[row + 1, column + 1, 1] - v1)
            for x in range(column * _GRID, min((column + 1) * _GRID, width)):
                along = np.float32(x - column * _GRID) / np.float32(_GRID)
                u = min(max(u0 + along * (u1 - u0), zero), most_u)
                v = min(max(v0 + along * (v1 - v0), zero), most_v)
                i, j = int(v), int(u)
                v, u = v - np.float32(i), u - np.float32(j)
                for c in range(n_channels):
                    upper = light[c, i, j] * (one - u) + light[c, i, j + 1] * u
                    lower = light[c, i + 1, j] * (one - u) + light[c, i + 1, j + 1] * u
                    out[c, y, x] = upper * (one - v) + lower * v


def expose(
    light: NDArray[np.float32],
    k: Intrinsics,
    *,
    exposure: float,
    vignetting: float,
    full_well_e: float,
    read_noise_e: float,
    seed: np.uint64,
) -> NDArray[np.uint8]:
    """Turn light into grey values.

    Parameters
    ----------
    light : (C, H, W) float32
        1 fills the wells on the optical axis.
    exposure : float
        Times the light.
    vignetting : float
        Share of light that the lens's barrel takes at the picture's corners, beside the fourth power of the cosine.
    full_well_e, read_noise_e : float
        Electrons: at white, and the standard deviation of reading.
    seed : uint64
        What the noise follows from.

    Returns
    -------
    (H, W, 3) or (H, W) uint8
        For three channels and for one.

    Notes
    -----
    Photons arrive as a Poisson process, here its normal approximation: good from some 20 electrons on, below which
    read noise is as large. Noise depends on the seed and the pixel alone, not on the order of work.
    """
    n_channels, height, width = light.shape
    image = np.empty((height, width, n_channels), np.uint8)
    corner = ((max(k.cx, width - k.cx) / k.fx) ** 2 + (max(k.cy, height - k.cy) / k.fy) ** 2) ** 0.5
    numbers = [1 / k.fx, 1 / k.fy, k.cx, k.cy, exposure * full_well_e, vignetting / corner**2, read_noise_e**2]
    _expose(light, np.array([*numbers, 255 / full_well_e], np.float32), _NORMALS, seed, image)
    return image if n_channels == 3 else image[..., 0]


@kernel
def _hash(number: np.uint64) -> np.uint64:
    """Mix a counter into 64 even bits (SplitMix64: Steele et al., 2014)."""
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))


@parallel_kernel
def _expose(
    light: NDArray[np.float32],
    numbers: NDArray[np.float32],
    normals: NDArray[np.float32],
    seed: np.uint64,
    image: NDArray[np.uint8],
) -> None:
    n_channels, height, width = light.shape
    one, top = np.float32(1), np.float32(255)
    for y in prange(height):
        ray_y = (y + np.float32(0.5) - numbers[3]) * numbers[1]
        for x in range(width):
            ray_x = (x + np.float32(0.5) - numbers[2]) * numbers[0]
            r2 = ray_x * ray_x + ray_y * ray_y
            cosine2 = one / (one + r2)
            gain = numbers[4] * cosine2 * cosine2 * (one - numbers[5] * r2)
            bits = _hash(seed + np.uint64(y * width + x) * np.uint64(0x9E3779B97F4A7C15))
            for c in range(n_channels):
                electrons = light[c, y, x] * gain
                noise = normals[bits & np.uint64(_N_NORMALS - 1)]
                bits >>= np.uint64(13)
                electrons += noise * np.sqrt(electrons + numbers[6])
                image[y, x, c] = np.uint8(min(max(electrons * numbers[7] + np.float32(0.5), np.float32(0)), top))
