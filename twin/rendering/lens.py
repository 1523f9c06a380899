"""How sharp a lens draws what is nearer or farther away than the plane it is focused on."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import prange
from numpy.typing import NDArray

from detection.kernels import kernel, parallel_kernel

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
        circle = f / self.f_number * magnified / self.pixel_m * _DISC
        airy = _AIRY * _WAVELENGTH_M * self.f_number * (1 + magnified) / self.pixel_m
        sigma = np.empty_like(depth_m)
        _blur(depth_m, np.array([focus, circle, airy**2 + _SQUARE_PX2], np.float32), sigma)
        return sigma


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
    shrink = max(1, int(float(sigma.max()) / _FAR_PX))
    height, width = before.shape
    planes = np.empty((len(radiance) + 2, -(-height // shrink), -(-width // shrink)), np.float32)
    _reduce(radiance, before, sigma, shrink, planes)
    background, share = _spread(planes[:-2], planes[-2], planes[-1])
    background /= np.maximum(share, np.float32(1e-6))

    out = np.empty_like(radiance)
    x0, y0, wide, high = cv2.boundingRect(before.view(np.uint8))
    margin = int(np.ceil(_REACH * float(sigma[before].max(initial=0.0)))) + 1
    rows = slice(max(0, y0 - margin), min(height, y0 + high + margin))
    columns = slice(max(0, x0 - margin), min(width, x0 + wide + margin))
    weight = before[rows, columns].astype(np.float32)
    spread, weight = _spread(radiance[:, rows, columns], weight, sigma[rows, columns])
    _lay_over(spread, weight, rows.start, columns.start, background, shrink, out)
    return out


@parallel_kernel
def _blur(depth: NDArray[np.float32], numbers: NDArray[np.float32], sigma: NDArray[np.float32]) -> None:
    """Blur by depth; `numbers` are the focus, the circle of what is infinitely far away, and the square of the rest."""
    for y in prange(depth.shape[0]):
        for x in range(depth.shape[1]):
            circle = numbers[1] * (np.float32(1) - numbers[0] / depth[y, x])
            sigma[y, x] = np.sqrt(circle * circle + numbers[2])


@parallel_kernel
def _reduce(
    radiance: NDArray[np.float32],
    before: NDArray[np.bool_],
    sigma: NDArray[np.float32],
    shrink: int,
    planes: NDArray[np.float32],
) -> None:
    """Average the background over squares: its light, its share of the square, and its blur in squares."""
    n_channels, height, width = radiance.shape
    for row in prange(planes.shape[1]):
        for column in range(planes.shape[2]):
            bottom, right = min(height, (row + 1) * shrink), min(width, (column + 1) * shrink)
            n_pixels = (bottom - row * shrink) * (right - column * shrink)
            planes[:, row, column] = 0
            n_behind, blur = 0, np.float32(0)
            for y in range(row * shrink, bottom):
                for x in range(column * shrink, right):
                    if not before[y, x]:
                        n_behind += 1
                        blur += sigma[y, x]
                        for c in range(n_channels):
                            planes[c, row, column] += radiance[c, y, x]
            for c in range(n_channels):
                planes[c, row, column] /= np.float32(n_pixels)
            planes[n_channels, row, column] = np.float32(n_behind) / np.float32(n_pixels)
            planes[n_channels + 1, row, column] = blur / np.float32(max(n_behind, 1) * shrink)


@parallel_kernel
def _lay_over(
    spread: NDArray[np.float32],
    weight: NDArray[np.float32],
    top: int,
    left: int,
    background: NDArray[np.float32],
    shrink: int,
    out: NDArray[np.float32],
) -> None:
    """Lay the foreground, a window of the picture, over the enlarged background."""
    n_channels, height, width = out.shape
    high, wide = background.shape[1:]
    half, zero, one = np.float32(0.5), np.float32(0), np.float32(1)
    for y in prange(height):
        v = min(max((np.float32(y) + half) / np.float32(shrink) - half, zero), np.float32(high - 1))
        i = int(v)
        below, lower = min(i + 1, high - 1), v - np.float32(i)
        row = background[:, i] + lower * (background[:, below] - background[:, i])
        in_rows = 0 <= y - top < weight.shape[0]
        for x in range(width):
            share = weight[y - top, x - left] if in_rows and 0 <= x - left < weight.shape[1] else zero
            u = min(max((np.float32(x) + half) / np.float32(shrink) - half, zero), np.float32(wide - 1))
            j = int(u)
            beside, right = min(j + 1, wide - 1), u - np.float32(j)
            for c in range(n_channels):
                value = (one - share) * (row[c, j] + right * (row[c, beside] - row[c, j]))
                out[c, y, x] = value + spread[c, y - top, x - left] if share > zero else value


def _spread(
    light: NDArray[np.float32], weight: NDArray[np.float32], sigma: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Spread light (C, H, W), and the weight (H, W) of the pixels it comes from, along rows, then along columns."""
    widest = float(sigma[weight > 0].max(initial=1e-3))
    step = np.float32(widest / _LEVELS)
    # Row i of the table is a Gaussian of i steps, cut beyond its reach; row 0, of what is not there, holds nothing.
    sigmas = np.arange(1, _LEVELS + 1) * step
    reaches = np.ceil(_REACH * sigmas).astype(np.int64)
    away = np.arange(-reaches[-1], reaches[-1] + 1)
    taps = np.zeros((_LEVELS + 1, len(away)), np.float32)
    taps[1:] = np.exp(-0.5 * (away / sigmas[:, np.newaxis]) ** 2) * (np.abs(away) <= reaches[:, np.newaxis])
    taps[1:] /= taps[1:].sum(axis=1, keepdims=True)
    levels: NDArray[np.uint8] = np.empty(weight.shape, np.uint8)
    _quantise(sigma, weight, step, levels)
    for _ in range(2):
        out = np.empty((len(light) + 1, weight.shape[1], weight.shape[0]), np.float32)
        turned = np.empty((weight.shape[1], weight.shape[0]), np.uint8)
        _spread_rows(light, weight, levels, taps, reaches, out, turned)
        light, weight, levels = out[:-1], out[-1], turned
    return light, weight


@parallel_kernel
def _quantise(
    sigma: NDArray[np.float32], weight: NDArray[np.float32], step: np.float32, levels: NDArray[np.uint8]
) -> None:
    """Blur in steps, from 1; 0 where nothing is."""
    for y in prange(levels.shape[0]):
        for x in range(levels.shape[1]):
            level = int(sigma[y, x] / step + np.float32(0.5))
            levels[y, x] = min(max(level, 1), _LEVELS) if weight[y, x] > 0 else 0


@parallel_kernel
def _spread_rows(
    light: NDArray[np.float32],
    weight: NDArray[np.float32],
    levels: NDArray[np.uint8],
    taps: NDArray[np.float32],
    reaches: NDArray[np.int64],
    out: NDArray[np.float32],
    out_levels: NDArray[np.uint8],
) -> None:
    """Spread light and weight along rows and turn the picture, so that the columns come next.

    Each pixel gathers by its own blur, so that even light stays even; one that holds nothing, by that of its neighbour.
    """
    n_planes, height, width = out.shape[0], light.shape[1], light.shape[2]
    reach = taps.shape[1] // 2
    for chunk in prange((height + _ROWS - 1) // _ROWS):
        top, bottom = chunk * _ROWS, min((chunk + 1) * _ROWS, height)
        rows = np.empty((bottom - top, n_planes, width), np.float32)
        # Beyond the picture it goes on as it ends.
        padded = np.empty((n_planes, width + 2 * reach), np.float32)
        blur, shares = np.empty(width, np.uint8), np.empty(width, np.float32)
        for y in range(top, bottom):
            for x in range(width + 2 * reach):
                inside = min(max(x - reach, 0), width - 1)
                there = levels[y, inside] > 0
                for plane in range(n_planes - 1):
                    padded[plane, x] = light[plane, y, inside] if there else np.float32(0)
                padded[n_planes - 1, x] = weight[y, inside] if there else np.float32(0)
            _reached(levels[y], reaches, blur)
            rows[y - top] = 0
            for d in range(2 * reach + 1):
                for x in range(width):
                    shares[x] = taps[blur[x], d]
                for plane in range(n_planes):
                    row, source = rows[y - top, plane], padded[plane]
                    for x in range(width):
                        row[x] += shares[x] * source[x + d]
            out_levels[:, y] = blur
        for plane in range(n_planes):
            for x in range(width):
                for y in range(top, bottom):
                    out[plane, x, y] = rows[y - top, plane, x]


@kernel
def _reached(levels: NDArray[np.uint8], reaches: NDArray[np.int64], blur: NDArray[np.uint8]) -> None:
    """Give pixels of a row that hold nothing the largest blur of those beside them that reach them."""
    last, end = np.uint8(0), -1
    for x in range(len(levels)):
        if levels[x]:
            last = levels[x]
            end = x + reaches[last - 1]
        blur[x] = last if x <= end else np.uint8(0)
    last, end = np.uint8(0), len(levels)
    for x in range(len(levels) - 1, -1, -1):
        if levels[x]:
            last = levels[x]
            end = x - reaches[last - 1]
        elif x >= end:
            blur[x] = max(blur[x], last)
