"""3×3 convolutions with a quarter of the multiplications: Winograd's minimal filtering, 4×4 outputs at once."""

from functools import partial
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
_P1, _P2, _P3 = (np.float32(_P**power) for power in (1, 2, 3))
_Q1, _Q2, _Q3 = (np.float32(_Q**power) for power in (1, 2, 3))
_SUM = np.float32(_P**2 + _Q**2)  # P Q = 1, so their product needs no multiplication
# A filter's value at a point is divided by the point's differences from the other points but infinity.
_DIVIDED_P = np.float32(1 / (2 * _P**2 * (_P**2 - _Q**2)))
_DIVIDED_Q = np.float32(1 / (2 * _Q**2 * (_Q**2 - _P**2)))

_VALUES = 36  # of a tile: six points along each axis
_LINES = 36 * (
    256 + BLOCK_COLUMNS
)  # of values, for inputs and outputs of a thread's tiles: 1.5 MB, beside its filters' 0.3 to 1.2 MB


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

    filters: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        assert convolution.bias is not None
        self.register_buffer("filters", _in_blocks(convolution.weight.detach()))
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
            Added to the result, which takes its place where it is channels-last. Must not be `pictures`, whose
            neighbours are still read.
        rectify : bool
            Whether negative sums become 0.

        Returns
        -------
        (B, K, H, W) float32
            Channels-last.
        """
        batch, _, height, width = pictures.shape
        if residual is None:
            out = torch.empty((batch, height, width, len(self.bias)))
        else:
            assert residual.data_ptr() != pictures.data_ptr()
            out = residual.permute(0, 2, 3, 1).contiguous()
        _convolve(
            pictures.permute(0, 2, 3, 1).contiguous().numpy(),
            self.filters.numpy(),
            self.bias.numpy(),
            residual is not None,
            rectify,
            numba.get_num_threads(),
            out.numpy(),
        )
        return out.permute(0, 3, 1, 2)


def _in_blocks(weight: Tensor) -> Tensor:
    """Rearrange filters (K, C, 3, 3) as (K / BLOCK_COLUMNS, 9, C * BLOCK_COLUMNS)."""
    outputs, inputs = weight.shape[:2]
    blocks = weight.reshape(outputs // BLOCK_COLUMNS, BLOCK_COLUMNS, inputs, 9).permute(0, 3, 2, 1)
    return blocks.reshape(len(blocks), 9, inputs * BLOCK_COLUMNS).contiguous()


@kernel
def _values_of_taps(g0: Any, g1: Any, g2: Any) -> Any:
    """Three taps of a filter as values at the points."""
    even_p, odd_p = spread(_DIVIDED_P) * (g0 + spread(_P2) * g2), spread(_DIVIDED_P * _P1) * g1
    even_q, odd_q = spread(_DIVIDED_Q) * (g0 + spread(_Q2) * g2), spread(_DIVIDED_Q * _Q1) * g1
    return g0, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, g2


@kernel
def _transform_filters(filters: Float32, first: int, numbers: int, values: Float32, apart: int, half: Float32) -> None:
    """Write the values, `apart` from each other, of a block of filters, whose 9 taps of `numbers` begin at `first`."""
    for place in range(0, numbers, LANES):
        for j in range(3):
            here = first + j * numbers + place
            v0, v1, v2, v3, v4, v5 = _values_of_taps(
                load(filters, here), load(filters, here + 3 * numbers), load(filters, here + 6 * numbers)
            )
            store(half, j * LANES, v0)
            store(half, (3 + j) * LANES, v1)
            store(half, (6 + j) * LANES, v2)
            store(half, (9 + j) * LANES, v3)
            store(half, (12 + j) * LANES, v4)
            store(half, (15 + j) * LANES, v5)
        for i in range(6):
            v0, v1, v2, v3, v4, v5 = _values_of_taps(
                load(half, 3 * i * LANES), load(half, (3 * i + 1) * LANES), load(half, (3 * i + 2) * LANES)
            )
            here = 6 * i * apart + place
            store(values, here, v0)
            store(values, here + apart, v1)
            store(values, here + 2 * apart, v2)
            store(values, here + 3 * apart, v3)
            store(values, here + 4 * apart, v4)
            store(values, here + 5 * apart, v5)


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
    add: bool,
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
                if add:
                    y = y + load(out, here + j * channels)
                if rectify:
                    y = maximum(y, nothing)
                store(out, here + j * channels, y)


@partial(
    parallel_kernel,
    signatures=[
        "void(float32[:,:,:,::1], float32[:,:,::1], float32[::1], boolean, boolean, int64, float32[:,:,:,::1])",
    ],
)
def _convolve(
    pictures: NDArray[Any],
    filters: NDArray[Any],
    bias: Float32,
    add: bool,
    rectify: bool,
    threads: int,
    out: NDArray[Any],
) -> None:
    batch, height, width, channels = pictures.shape
    blocks = len(filters)
    rows, columns = (height + 3) // 4, (width + 3) // 4
    tiles = batch * rows * columns
    most = max(1, _LINES // (channels + BLOCK_COLUMNS))
    groups = (tiles + most - 1) // most
    if groups > 1:
        groups = min(tiles, (groups + threads - 1) // threads * threads)
    # A small picture has fewer groups of tiles than there are threads: then they share the channels of a group.
    shares = max(1, min(blocks, threads // groups))
    numbers = channels * BLOCK_COLUMNS
    apart = numbers + LANES  # all values of a tap at a power of two would share one place in the processor's cache
    flat, flat_filters, target = pictures.reshape(-1), filters.reshape(-1), out.reshape(-1)
    for item in numba.prange(groups * shares):
        group, share = item // shares, item % shares
        first = tiles * group // groups
        count = tiles * (group + 1) // groups - first
        filled = (count + BLOCK_ROWS - 1) // BLOCK_ROWS * BLOCK_ROWS
        inputs = np.empty(_VALUES * filled * channels, dtype=np.float32)
        products = np.empty(_VALUES * filled * BLOCK_COLUMNS, dtype=np.float32)
        values = np.empty(_VALUES * apart, dtype=np.float32)
        half = np.empty(_VALUES * LANES, dtype=np.float32)
        for tile in range(count):
            place = first + tile
            row, column = 4 * (place // columns % rows), 4 * (place % columns)
            corner = (place // (rows * columns), row, column)
            _transform_tile(flat, pictures.shape, corner, inputs, tile, filled, half)
        for block in range(blocks * share // shares, blocks * (share + 1) // shares):
            # Kept for all groups they would take four times the memory of the filters, and transforming is a 36th of
            # the multiplications that follow.
            _transform_filters(flat_filters, 9 * block * numbers, numbers, values, apart, half)
            for value in range(_VALUES):
                chosen = value * apart
                for line in range(value * filled, (value + 1) * filled, BLOCK_ROWS):
                    left, product = line * channels, line * BLOCK_COLUMNS
                    multiply_block(inputs, left, channels, values, chosen, products, product, channels)
            for tile in range(count):
                place = first + tile
                row, column = 4 * (place // columns % rows), 4 * (place % columns)
                corner = (place // (rows * columns), row, column)
                here = block * BLOCK_COLUMNS
                _restore_tile(products, tile, filled, bias, add, rectify, target, out.shape, corner, here, half)
