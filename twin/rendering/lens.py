"""How sharp a lens draws what is nearer or farther away than the plane it is focused on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import prange
from numpy.typing import NDArray

from cell.interfaces import Intrinsics
from detection.kernels import parallel_kernel

_WAVELENGTH_M = 550e-9
# A Gaussian is as wide as the core of the Airy pattern with this times wavelength × f-number (Zhang et al., 2007).
_AIRY = 0.42
# A disc of light of diameter 1 has this standard deviation along each axis.
_DISC = 0.25
# A pixel gathers the light of its square.
_SQUARE_PX2 = 1 / 12
# The background is drawn in pixels so large that it is blurred by no more than about as many of them.
_FAR_PX = 1.5
_LEVELS = 64
_REACH = 3.0
# Rows that are spread together, so that the turned picture is written in pieces as long as a cache line.
_ROWS = 16


@dataclass(frozen=True)
class Lens:
    """A thin lens, focused on a plane.

    Attributes
    ----------
    focal_length_m, f_number, pixel_m : float
        Pixels of the picture as it is delivered, on the sensor.
    focus_m : float
        Depth of the plane of sharpness.
    """

    focal_length_m: float
    f_number: float
    pixel_m: float
    focus_m: float

    def blur_px(self, depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the standard deviation (H, W) of the blur, pixels: pixel, diffraction, and circle of confusion."""
        f, focus = self.focal_length_m, self.focus_m
        magnified = f / (focus - f)
        circle = np.float32(f / self.f_number * magnified / self.pixel_m * _DISC)
        airy = np.float32((_AIRY * _WAVELENGTH_M * self.f_number * (1 + magnified) / self.pixel_m) ** 2 + _SQUARE_PX2)
        blur = 1 - np.float32(focus) / depth_m
        blur *= circle
        np.square(blur, out=blur)
        blur += airy
        return np.sqrt(blur, out=blur)


def blurred(
    radiance: NDArray[np.float32], depth_m: NDArray[np.float32], before: NDArray[np.bool_], lens: Lens
) -> NDArray[np.float32]:
    """Blur a picture as the depth of its pixels asks for.

    Parameters
    ----------
    radiance : (C, H, W) float32
    depth_m : (H, W) float32
    before : (H, W) bool
        What stands in the foreground, about in focus. It is laid over the rest: a blurred background does not shine
        through a sharp edge before it, nor does the edge's light spread over it by more than its own blur.
    lens : Lens

    Notes
    -----
    Each point's light is spread as a Gaussian, first along rows, then along columns. Exact where the blur does not
    change; where it does, as over a tilted surface, a point's blur differs little from that of its neighbours. The
    background is drawn in larger pixels where it is blurred over many.
    """
    sigma = lens.blur_px(depth_m)
    weight = before.astype(np.float32)
    spread, weight = _spread(radiance, weight, sigma)
    height, width = before.shape
    behind = (~before).astype(np.float32)
    shrink = max(1, int(float(sigma.max()) / _FAR_PX))
    small = (-(-width // shrink), -(-height // shrink))
    planes = [_reduced(plane, small) for plane in (*(radiance * behind), behind, sigma / np.float32(shrink))]
    background, share = _spread(np.stack(planes[:-2]), planes[-2], planes[-1])
    background /= np.maximum(share, np.float32(1e-6))
    gap = 1 - weight
    for plane, smooth in zip(spread, background, strict=True):
        plane += gap * cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    return spread


def _reduced(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)


def _spread(
    light: NDArray[np.float32], weight: NDArray[np.float32], sigma: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Spread light (C, H, W), and the weight (H, W) of the pixels it comes from, first along rows, then along columns."""
    widest = float(sigma[weight > 0].max(initial=1e-3))
    step = np.float32(widest / _LEVELS)
    # Row i of the table is a Gaussian of (i + 1) steps; beyond its reach it is cut.
    sigmas = np.arange(1, _LEVELS + 1) * step
    reaches = np.ceil(_REACH * sigmas).astype(np.int64)
    away = np.arange(-reaches[-1], reaches[-1] + 1)
    taps = np.exp(-0.5 * (away / sigmas[:, np.newaxis]) ** 2) * (np.abs(away) <= reaches[:, np.newaxis])
    taps = (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)
    levels = np.clip(np.rint(sigma / step), 1, _LEVELS).astype(np.uint8)
    levels[weight == 0] = 0
    stack = np.concatenate([light, weight[np.newaxis]])
    for _ in range(2):
        out = np.empty((len(stack), stack.shape[2], stack.shape[1]), np.float32)
        turned = np.empty((levels.shape[1], levels.shape[0]), np.uint8)
        _spread_rows(stack, levels, taps, reaches, out, turned)
        stack, levels = out, turned
    return stack[:-1], stack[-1]


@parallel_kernel
def _spread_rows(
    light: NDArray[np.float32],
    levels: NDArray[np.uint8],
    taps: NDArray[np.float32],
    reaches: NDArray[np.int64],
    out: NDArray[np.float32],
    out_levels: NDArray[np.uint8],
) -> None:
    """Spread along rows and turn the picture, so that the columns come next. Light takes its blur along."""
    n_planes, height, width = light.shape
    middle = taps.shape[1] // 2
    for chunk in prange(height // _ROWS + 1):
        top, bottom = chunk * _ROWS, min((chunk + 1) * _ROWS, height)
        if top >= bottom:
            continue
        rows = np.zeros((bottom - top, width + 2 * middle), np.float32)
        for plane in range(n_planes):
            rows[:] = 0
            for y in range(top, bottom):
                row = rows[y - top]
                for x in range(width):
                    level = levels[y, x]
                    if level == 0:
                        continue
                    reach, value = reaches[level - 1], light[plane, y, x]
                    for d in range(middle - reach, middle + reach + 1):
                        row[x + d] += taps[level - 1, d] * value
            for x in range(width):
                for y in range(top, bottom):
                    out[plane, x, y] = rows[y - top, x + middle]
        reached = np.zeros((bottom - top, width + 2 * middle), np.uint8)
        for y in range(top, bottom):
            for x in range(width):
                level = levels[y, x]
                if level:
                    reach = reaches[level - 1]
                    for d in range(middle - reach, middle + reach + 1):
                        reached[y - top, x + d] = max(reached[y - top, x + d], level)
        for x in range(width):
            for y in range(top, bottom):
                out_levels[x, y] = reached[y - top, x + middle]
