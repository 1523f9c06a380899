"""3×3 convolutions with a quarter of the multiplications: Winograd's minimal filtering, 4×4 outputs at once."""

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detection.kernels import kernel, parallel_kernel
from detection.vectors import BLOCK_COLUMNS, BLOCK_ROWS, LANES, load, maximum, multiply_block, spread, store

Float32 = NDArray[np.float32]

# Four outputs of a filter with three taps are a product of polynomials, known from its values at six points: 0, ±P,
# ±Q and infinity. These make the rounding errors smallest.
_P, _Q = np.sqrt(0.5), np.sqrt(2.0)
_POINTS = (0.0, _P, -_P, _Q, -_Q)
_P1, _P2, _P3 = (np.float32(_P**power) for power in (1, 2, 3))
_Q1, _Q2, _Q3 = (np.float32(_Q**power) for power in (1, 2, 3))
_SUM = np.float32(_P**2 + _Q**2)  # P Q = 1, so their product needs no multiplication

_VALUES = 36  # of a tile: six points along each axis
_TILES = 36  # that a thread works on at once: with up to 256 channels their values stay in its cache of 2 MB


class WinogradConvolution(nn.Module):
    """A 3×3 convolution of stride 1 and padding 1 in float32 on the processor, and what mostly follows it.

    Parameters
    ----------
    convolution : Conv2d
        One that `fits`; with a bias.

    Notes
    -----
    Each output is computed in the same way whatever the batch and the number of threads: same bits.
    Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, 2016.
    """

    values: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        assert convolution.bias is not None
        self.register_buffer("values", _filter_values(convolution.weight.detach()))
        self.register_buffer("bias", convolution.bias.detach().clone())

    @staticmethod
    def fits(convolution: nn.Conv2d) -> bool:
        """Return whether a convolution is one that this computes."""
        return (
            convolution.kernel_size == (3, 3)
            and (convolution.stride, convolution.padding, convolution.dilation) == ((1, 1), (1, 1), (1, 1))
            and convolution.padding_mode == "zeros"
            and convolution.groups == 1
            and convolution.in_channels % LANES == convolution.out_channels % BLOCK_COLUMNS == 0
        )

    def forward(self, pictures: Tensor, *, residual: Tensor | None = None, rectify: bool = False) -> Tensor:
        """Convolve.

        Parameters
        ----------
        pictures : (B, C, H, W) float32
            Channels-last.
        residual : (B, K, H, W) float32, optional
            Added to the result; channels-last.
        rectify : bool
            Whether negative sums become 0.

        Returns
        -------
        (B, K, H, W) float32
            Channels-last.
        """
        batch, _, height, width = pictures.shape
        out = torch.empty((batch, height, width, len(self.bias)))
        added = out[:0] if residual is None else residual.permute(0, 2, 3, 1)
        _convolve(
            pictures.permute(0, 2, 3, 1).contiguous().numpy(),
            self.values.numpy(),
            self.bias.numpy(),
            added.contiguous().numpy(),
            rectify,
            numba.get_num_threads(),
            out.numpy(),
        )
        return out.permute(0, 3, 1, 2)


def _filter_values(weight: Tensor) -> Tensor:
    """Values of the filters (K, C, 3, 3) at the points, as (K / BLOCK_COLUMNS, 36, C * BLOCK_COLUMNS)."""
    matrix = np.zeros((6, 3))
    for row, point in zip(matrix, _POINTS, strict=False):
        others = np.prod([point - other for other in _POINTS if other != point])
        row[:] = np.array([1.0, point, point**2]) / others
    matrix[5, 2] = 1.0
    filters = weight.numpy().astype(np.float64)
    values = np.empty((len(filters) // BLOCK_COLUMNS, _VALUES, filters.shape[1], BLOCK_COLUMNS), dtype=np.float32)
    for block, chosen in zip(values, np.split(filters, len(values)), strict=True):
        block[:] = (matrix @ chosen @ matrix.T).transpose(2, 3, 1, 0).reshape(block.shape)
    return torch.from_numpy(values.reshape(*values.shape[:2], -1))


@kernel
def _values_of_inputs(x0: Any, x1: Any, x2: Any, x3: Any, x4: Any, x5: Any) -> Any:
    """Six neighbouring inputs as values at the points."""
    even_p, odd_p = x4 - spread(_Q2) * x2, spread(_P1) * (x3 - spread(_Q2) * x1)
    even_q, odd_q = x4 - spread(_P2) * x2, spread(_Q1) * (x3 - spread(_P2) * x1)
    first, last = x4 - spread(_SUM) * x2 + x0, x5 - spread(_SUM) * x3 + x1
    return first, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, last


@kernel
def _outputs_of_values(v0: Any, v1: Any, v2: Any, v3: Any, v4: Any, v5: Any) -> Any:
    """Four neighbouring outputs from values at the points."""
    even_p, odd_p, even_q, odd_q = v1 + v2, v1 - v2, v3 + v4, v3 - v4
    return (
        v0 + even_p + even_q,
        spread(_P1) * odd_p + spread(_Q1) * odd_q,
        spread(_P2) * even_p + spread(_Q2) * even_q,
        spread(_P3) * odd_p + spread(_Q3) * odd_q + v5,
    )


@kernel
def _transform_tile(
    pictures: Float32, shape: Any, corner: Any, values: Float32, tile: int, tiles: int, half: Float32
) -> None:
    """Write the values (36, tiles, C) of a tile's 6×6 inputs; `corner` is where its outputs begin."""
    _, height, width, channels = shape
    batch, row, column = corner
    apart = tiles * channels
    nothing = spread(np.float32(0.0))
    for channel in range(0, channels, LANES):
        for i in range(6):
            y = row - 1 + i
            x0 = x1 = x2 = x3 = x4 = x5 = nothing
            if 0 <= y < height:
                here = ((batch * height + y) * width + column) * channels + channel
                if column > 0:
                    x0 = load(pictures, here - channels)
                x1 = load(pictures, here)
                if column + 1 < width:
                    x2 = load(pictures, here + channels)
                if column + 2 < width:
                    x3 = load(pictures, here + 2 * channels)
                if column + 3 < width:
                    x4 = load(pictures, here + 3 * channels)
                if column + 4 < width:
                    x5 = load(pictures, here + 4 * channels)
            v0, v1, v2, v3, v4, v5 = _values_of_inputs(x0, x1, x2, x3, x4, x5)
            store(half, (6 * i + 0) * LANES, v0)
            store(half, (6 * i + 1) * LANES, v1)
            store(half, (6 * i + 2) * LANES, v2)
            store(half, (6 * i + 3) * LANES, v3)
            store(half, (6 * i + 4) * LANES, v4)
            store(half, (6 * i + 5) * LANES, v5)
        for j in range(6):
            v0, v1, v2, v3, v4, v5 = _values_of_inputs(
                load(half, j * LANES),
                load(half, (6 + j) * LANES),
                load(half, (12 + j) * LANES),
                load(half, (18 + j) * LANES),
                load(half, (24 + j) * LANES),
                load(half, (30 + j) * LANES),
            )
            here = j * apart + tile * channels + channel
            store(values, here, v0)
            store(values, here + 6 * apart, v1)
            store(values, here + 12 * apart, v2)
            store(values, here + 18 * apart, v3)
            store(values, here + 24 * apart, v4)
            store(values, here + 30 * apart, v5)


@kernel
def _restore_tile(
    values: Float32,
    tile: int,
    tiles: int,
    bias: Float32,
    residual: Float32,
    rectify: bool,
    out: Float32,
    shape: Any,
    corner: Any,
    first: int,
    half: Float32,
) -> None:
    """Write up to 4×4 outputs of BLOCK_COLUMNS channels, `first` and on, from values (36, tiles, BLOCK_COLUMNS)."""
    _, height, width, channels = shape
    batch, row, column = corner
    apart = tiles * BLOCK_COLUMNS
    nothing = spread(np.float32(0.0))
    for channel in range(0, BLOCK_COLUMNS, LANES):
        for j in range(6):
            here = j * apart + tile * BLOCK_COLUMNS + channel
            y0, y1, y2, y3 = _outputs_of_values(
                load(values, here),
                load(values, here + 6 * apart),
                load(values, here + 12 * apart),
                load(values, here + 18 * apart),
                load(values, here + 24 * apart),
                load(values, here + 30 * apart),
            )
            store(half, j * LANES, y0)
            store(half, (6 + j) * LANES, y1)
            store(half, (12 + j) * LANES, y2)
            store(half, (18 + j) * LANES, y3)
        offset = load(bias, first + channel)
        for i in range(min(4, height - row)):
            y0, y1, y2, y3 = _outputs_of_values(
                load(half, 6 * i * LANES),
                load(half, (6 * i + 1) * LANES),
                load(half, (6 * i + 2) * LANES),
                load(half, (6 * i + 3) * LANES),
                load(half, (6 * i + 4) * LANES),
                load(half, (6 * i + 5) * LANES),
            )
            store(half, 6 * i * LANES, y0)
            store(half, (6 * i + 1) * LANES, y1)
            store(half, (6 * i + 2) * LANES, y2)
            store(half, (6 * i + 3) * LANES, y3)
            here = ((batch * height + row + i) * width + column) * channels + first + channel
            for j in range(min(4, width - column)):
                y = load(half, (6 * i + j) * LANES) + offset
                if len(residual) > 0:
                    y = y + load(residual, here + j * channels)
                if rectify:
                    y = maximum(y, nothing)
                store(out, here + j * channels, y)


@parallel_kernel
def _convolve(
    pictures: NDArray[Any],
    filters: NDArray[Any],
    bias: Float32,
    residual: NDArray[Any],
    rectify: bool,
    threads: int,
    out: NDArray[Any],
) -> None:
    batch, height, width, channels = pictures.shape
    blocks = len(filters)
    rows, columns = (height + 3) // 4, (width + 3) // 4
    tiles = batch * rows * columns
    groups = (tiles + _TILES - 1) // _TILES
    # A small picture has fewer groups of tiles than there are threads: then they share the channels of a group.
    shares = max(1, min(blocks, threads // groups))
    flat, flat_filters, added, target = pictures.reshape(-1), filters.reshape(-1), residual.reshape(-1), out.reshape(-1)
    for item in numba.prange(groups * shares):
        group, share = item // shares, item % shares
        first = group * _TILES
        count = min(_TILES, tiles - first)
        filled = (count + BLOCK_ROWS - 1) // BLOCK_ROWS * BLOCK_ROWS
        inputs = np.empty(_VALUES * filled * channels, dtype=np.float32)
        products = np.empty(_VALUES * filled * BLOCK_COLUMNS, dtype=np.float32)
        half = np.empty(_VALUES * LANES, dtype=np.float32)
        for tile in range(count):
            place = first + tile
            row, column = 4 * (place // columns % rows), 4 * (place % columns)
            corner = (place // (rows * columns), row, column)
            _transform_tile(flat, pictures.shape, corner, inputs, tile, filled, half)
        for block in range(blocks * share // shares, blocks * (share + 1) // shares):
            for value in range(_VALUES):
                chosen = (block * _VALUES + value) * channels * BLOCK_COLUMNS
                for line in range(value * filled, (value + 1) * filled, BLOCK_ROWS):
                    left, product = line * channels, line * BLOCK_COLUMNS
                    multiply_block(inputs, left, channels, flat_filters, chosen, products, product, channels)
            for tile in range(count):
                place = first + tile
                row, column = 4 * (place // columns % rows), 4 * (place % columns)
                corner = (place // (rows * columns), row, column)
                here = block * BLOCK_COLUMNS
                _restore_tile(products, tile, filled, bias, added, rectify, target, out.shape, corner, here, half)
