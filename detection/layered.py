"""Every layer of the network by itself, on its own grid: the finest where parts lie alike, else the most surprised."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.config import Precision
from detection.gaussian import Features, Gaussians, PositionGaussians, coarser
from detection.heatmap import STRIDE, enlarged
from detection.moments import Moments

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

PRIOR = 30.0
"""Pictures with the layer's common covariance that each position is taken to have seen beside its own."""

_SMOOTHING = (0.0, 0.5, 1.0)  # by layer, finest first: of a Gaussian filter, in positions of its own grid
_USUAL = 0.9  # share of good pictures whose highest distance lies below the unit of a layer's distances
_ALIKE = 0.75  # share of the finest layer's variance that lies between positions, from which it decides alone


@dataclass
class LayeredMoments:
    """Moments of each layer's features, updated in place.

    Attributes
    ----------
    layers : tuple of Moments
        Finest first.
    """

    layers: tuple[Moments, ...]

    @classmethod
    def empty(cls, shapes: Sequence[tuple[int, int]]) -> LayeredMoments:
        """Return the moments of no picture: of each layer how many positions and how many channels."""
        return cls(tuple(Moments.empty(positions=p, dimensions=d) for p, d in shapes))

    @property
    def pictures(self) -> int:
        """Number of pictures seen."""
        return self.layers[0].pictures

    def finest(self, count: int) -> LayeredMoments:
        """Return so many of the layers, which are not copied."""
        return LayeredMoments(self.layers[:count])

    def copy(self) -> LayeredMoments:
        """Return the same moments in memory of their own."""
        return LayeredMoments(tuple(layer.copy() for layer in self.layers))

    def update_each(self, pictures: Iterable[tuple[Features, Mask | None]]) -> None:
        """Add pictures one by one: features (P, d) float32 of each layer, and the finest's unseen positions."""
        for features, unseen in pictures:
            for layer, one in zip(self.layers, features, strict=True):
                hidden = None if unseen is None else coarser(unseen, len(one))[np.newaxis]
                layer.update(one[np.newaxis], masked=hidden)


@dataclass(frozen=True)
class LayeredGaussians(Gaussians):
    """Gaussians of each layer on the layer's own grid.

    Attributes
    ----------
    pictures : int
        Number of training pictures, ≥ 2.
    layers : tuple of PositionGaussians
        Those that decide, finest first; see `deciding_layers`. Features of others are not looked at.
    units : (L,) float32
        What a layer's distances are counted in.

    Notes
    -----
    In one Gaussian of all layers a scratch that the finest layer sees in 24 channels drowns in what 152 coarser ones
    scatter. Here each layer is measured by itself, smoothed over what its own cells see, and divided by its unit: where
    pictures were held out, what nine of ten stay below. The heatmap is the largest of all layers. A layer
    that says little of this part, as the finest does of one that is never in the same place, has a large unit.
    Where parts lie alike, as registered ones do, coarser layers find nothing more, but alarms of their own.
    The finest layer's cells are a few pixels wide: what it sees is measured by the Gaussians of nine cells, and the
    least surprised of them counts, so that an edge may lie a cell beside where it was.
    """

    pictures: int
    layers: tuple[PositionGaussians, ...]
    units: Float32

    @classmethod
    def from_moments(
        cls,
        moments: LayeredMoments,
        *,
        epsilon: float,
        precision: Precision,
        units: Float32 | None = None,
        keep_moments: bool = False,
    ) -> LayeredGaussians:
        """Factorise moments of as many layers as have a unit; see `PositionGaussians.from_moments` and `units_of`."""
        units = units_of(moments.finest(deciding_layers(moments))) if units is None else units
        layers = tuple(
            PositionGaussians.from_moments(
                layer, epsilon=epsilon, precision=precision, prior=PRIOR, keep_moments=keep_moments
            )
            for layer in moments.finest(len(units)).layers
        )
        return cls(moments.pictures, layers, units)

    @property
    def scored(self) -> tuple[Mask, ...]:
        """See `Gaussians`."""
        return tuple(layer.known for layer in self.layers)

    def squared_distances(self, features: Features) -> Features:
        """See `Gaussians`."""
        finest = nearest_neighbour(self.layers[0], features[0])
        coarser = zip(self.layers[1:], features[1:], strict=False)
        return finest, *(layer.squared(one[np.newaxis])[0] for layer, one in coarser)

    def heatmap_of(self, squared: Features, hidden: Sequence[Mask], *, sigma: float) -> Float32:
        """See `Gaussians`; `sigma` is not used, as each layer has its own."""
        del sigma
        return layered_heatmap(squared, hidden, self.units)


def deciding_layers(moments: LayeredMoments) -> int:
    """Return how many layers decide: the finest alone where parts lie alike, else all."""
    return 1 if correlation_ratio(moments.layers[0]) >= _ALIKE else len(moments.layers)


def units_of(moments: LayeredMoments, usual: Float32 | None = None) -> Float32:
    """Return the units (L,) of layers.

    Parameters
    ----------
    moments : LayeredMoments
    usual : (L,) float32, optional
        Of each layer what most good pictures stay below; 0 where nothing could be measured. Without it, and there,
        units are √d of d channels: what the distance of a good position is in the mean.
    """
    roots = np.sqrt([layer.mean.shape[1] for layer in moments.layers]).astype(np.float32)
    return roots if usual is None else np.where(usual > 0, usual, roots)


def correlation_ratio(moments: Moments) -> float:
    """Share of the features' variance that lies between positions, estimated without bias.

    1 where all pictures agree, and 0 where no position is shown twice: then nothing is known.

    Notes
    -----
    ε² of T. L. Kelley, *An unbiased correlation ratio measure*, 1935. A part that a robot holds before the camera and
    that is registered has .93 to .97 in the finest layer of EfficientNet-Lite0, one that is strewn anyhow some .3.
    """
    shown, dimensions = moments.count > 0, np.arange(1, moments.mean.shape[1] + 1)
    count, mean = moments.count[shown], moments.mean[shown]
    seen = int(count.sum())
    if seen == len(count):
        return 0.0
    within = float(moments.comoment[:, dimensions * (dimensions + 1) // 2 - 1].sum(dtype=np.float64))
    between = float(count @ ((mean - np.average(mean, axis=0, weights=count)) ** 2).sum(axis=1))
    if within + between == 0:
        return 1.0
    return 1 - within / (within + between) * (seen - 1) / (seen - len(count))


def nearest_neighbour(gaussians: PositionGaussians, features: Float32) -> Float32:
    """Squared distances (P,) float32 of features (P, d) to the nearest of the Gaussians there and of its neighbours."""
    grid = math.isqrt(len(features))
    padded = np.pad(features.reshape(grid, grid, -1), ((1, 1), (1, 1), (0, 0)), mode="edge")
    windows = [np.s_[row : row + grid, column : column + grid] for row, column in np.ndindex(3, 3)]
    moved = np.stack([padded[window].reshape(features.shape) for window in windows])
    squared = np.where(gaussians.known, gaussians.squared(moved), np.float32(np.inf)).reshape(-1, grid, grid)
    nearest = np.full((grid + 2, grid + 2), np.inf, dtype=np.float32)
    for window, one in zip(windows, squared, strict=True):
        np.minimum(nearest[window], one, out=nearest[window])
    inside = nearest[1:-1, 1:-1].reshape(-1)
    return np.where(np.isfinite(inside), inside, np.float32(0))


def layered_heatmap(squared: Features, hidden: Sequence[Mask], units: Float32) -> Float32:
    """Return the largest of the layers' heatmaps (R, R) float32, each in its unit.

    Parameters
    ----------
    squared : tuple of (P, d) float32
        Squared distances of each layer.
    hidden : sequence of (P,) bool
        Positions of each layer of which nothing is known.
    units : (L,) float32
    """
    resolution = STRIDE * math.isqrt(len(squared[0]))
    largest = np.zeros((resolution, resolution), dtype=np.float32)
    for layer, (one, nothing, unit) in enumerate(zip(squared, hidden, units.tolist(), strict=True)):
        grid = math.isqrt(len(one))
        distances = np.sqrt(one).reshape(grid, grid) * np.float32(1 / unit)
        smooth = enlarged(distances, resolution=resolution, sigma=_SMOOTHING[layer], hidden=nothing.reshape(grid, grid))
        np.maximum(largest, smooth, out=largest)
    return largest


def usual_height(heights: Sequence[float]) -> float:
    """Return the unit of a layer from the highest distances of good pictures by models that have not seen them."""
    return float(np.quantile(heights, _USUAL))


def layer_height(squared: Float32, hidden: Mask, *, layer: int, valid: Mask) -> float:
    """Highest valid pixel of one layer's heatmap by itself, not in units; 0 where none is valid."""
    resolution, grid = len(valid), math.isqrt(len(squared))
    smooth = enlarged(
        np.sqrt(squared).reshape(grid, grid),
        resolution=resolution,
        sigma=_SMOOTHING[layer],
        hidden=hidden.reshape(grid, grid),
    )
    return float(smooth[valid].max(initial=0))
