"""Every layer of the network by itself: Gaussians on its own grid, and the one that is most surprised decides."""

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

    def copy(self) -> LayeredMoments:
        """Return the same moments in memory of their own."""
        return LayeredMoments(tuple(layer.copy() for layer in self.layers))

    def update_each(self, pictures: Iterable[tuple[Features, Mask | None]]) -> None:
        """Add pictures one by one: features (P, d) float32 of each layer, and the finest's masked positions."""
        for features, masked in pictures:
            for layer, one in zip(self.layers, features, strict=True):
                hidden = None if masked is None else coarser(masked, len(one))[np.newaxis]
                layer.update(one[np.newaxis], masked=hidden)


@dataclass(frozen=True)
class LayeredGaussians(Gaussians):
    """Gaussians of each layer on the layer's own grid.

    Attributes
    ----------
    pictures : int
        Number of training pictures, ≥ 2.
    layers : tuple of PositionGaussians
        Finest first.
    units : (L,) float32
        What a layer's distances are counted in.

    Notes
    -----
    In one Gaussian of all layers a scratch that the finest layer sees in 24 channels drowns in what 152 coarser ones
    scatter. Here each layer is measured by itself, smoothed over what its own cells see, and divided by its unit: where
    pictures were held out, what nine of ten stay below. The heatmap is the largest of all layers. A layer
    that says little of this part, as the finest does of one that is never in the same place, has a large unit.
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
        """Factorise moments; see `PositionGaussians.from_moments`.

        Without `units` they are √d of d channels: what the distance of a good position is in the mean. So is that of a
        layer in which nothing could be measured, whose unit is 0.
        """
        layers = tuple(
            PositionGaussians.from_moments(
                layer, epsilon=epsilon, precision=precision, prior=PRIOR, keep_moments=keep_moments
            )
            for layer in moments.layers
        )
        roots = np.sqrt([layer.mean.shape[1] for layer in layers]).astype(np.float32)
        return cls(moments.pictures, layers, roots if units is None else np.where(units > 0, units, roots))

    @property
    def scored(self) -> tuple[Mask, ...]:
        """See `Gaussians`."""
        return tuple(layer.known for layer in self.layers)

    def squared_distances(self, features: Features) -> Features:
        """See `Gaussians`."""
        finest = nearest_neighbour(self.layers[0], features[0])
        coarser = zip(self.layers[1:], features[1:], strict=True)
        return finest, *(layer.squared(one[np.newaxis])[0] for layer, one in coarser)

    def heatmap_of(self, squared: Features, hidden: Sequence[Mask], *, sigma: float) -> Float32:
        """See `Gaussians`; `sigma` is not used, as each layer has its own."""
        del sigma
        return layered_heatmap(squared, hidden, self.units)


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
