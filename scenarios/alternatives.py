"""What could stand where the product has its Gaussians; for comparison alone.

Every alternative learns from features of training pictures of one view, and gives other pictures a distance at each
grid position, as `detection.gaussian.Gaussians` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from detection.moments import shown_often

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

AlternativeName = Literal["ledoit_wolf", "oas", "pooled", "memory_bank"]

_BANK, _FROM = 4096, 65536  # patches that are remembered, chosen from so many that were drawn


class Alternative(Protocol):
    """Learned from good pictures."""

    scored: Mask
    """Positions (P,) bool that have a distance."""

    def squared_distances(self, features: Float32) -> Float32:
        """Squared distances (P,) float32 of a picture's features (P, d) float32."""
        ...


def learned(
    name: AlternativeName, features: Sequence[Float32], masked: Sequence[Mask | None], *, epsilon: float, seed: int
) -> Alternative:
    """Learn an alternative.

    Parameters
    ----------
    name : str
        ``ledoit_wolf``, ``oas``: a Gaussian at each position, its covariance drawn towards a multiple of 1 as far as
        these rules say. ``pooled``: a mean at each position, the covariance of it and its eight neighbours.
        ``memory_bank``: the nearest of many patches of good pictures, wherever they lay.
    features : sequence of (P, d) float32
        Of each training picture.
    masked : sequence of (P,) bool or None
        Positions that they do not show.
    epsilon : float
        Added to the diagonal of ``pooled``, as in the paper.
    seed : int
        Draws the patches that ``memory_bank`` chooses from.
    """
    positions = len(features[0])
    shown = np.array([np.ones(positions, np.bool_) if mask is None else ~mask for mask in masked])
    scored = shown_often(shown.sum(axis=0), len(features))
    if name == "memory_bank":
        return MemoryBank(features, shown, scored, seed=seed)
    stacked = np.stack(features)
    if name == "pooled":
        return _Covariances(stacked, shown, scored, around=1, shrink=lambda _: (0.0, epsilon))
    return _Covariances(stacked, shown, scored, around=0, shrink=_SHRINKAGE[name])


Shrink = Callable[[NDArray[np.float64]], tuple[float, float]]
"""From centred vectors (n, d) to (ρ, μ): the covariance becomes (1 − ρ) S + μ I."""


def ledoit_wolf(centred: NDArray[np.float64]) -> tuple[float, float]:
    """Shrinkage ρ and what is added to the diagonal.

    Parameters
    ----------
    centred : (n, d) float64
        Vectors about their mean.

    Notes
    -----
    Ledoit, Wolf, *A well-conditioned estimator for large-dimensional covariance matrices*, 2004, lemma 3.2 to 3.4, with
    everything from the n × n products of the vectors.
    """
    n, d = centred.shape
    products = centred @ centred.T
    square = float((products**2).sum()) / n**2  # |S|²
    mean = float(np.trace(products)) / (n * d)
    away = square - d * mean**2
    scatter = (float((np.diag(products) ** 2).sum()) / n - square) / n
    rho = min(1.0, max(0.0, scatter / away)) if away > 0 else 1.0
    return rho, rho * mean


def oas(centred: NDArray[np.float64]) -> tuple[float, float]:
    """Shrinkage ρ and what is added to the diagonal, of centred vectors (n, d); oracle-approximating.

    Notes
    -----
    Chen et al., *Shrinkage algorithms for MMSE covariance estimation*, 2010, eq. 23.
    """
    n, d = centred.shape
    products = centred @ centred.T
    square, trace = float((products**2).sum()) / n**2, float(np.trace(products)) / n
    above = (1 - 2 / d) * square + trace**2
    below = (n + 1 - 2 / d) * (square - trace**2 / d)
    rho = min(1.0, above / below) if below > 0 else 1.0
    return rho, rho * trace / d


_SHRINKAGE: Mapping[str, Shrink] = {"ledoit_wolf": ledoit_wolf, "oas": oas}


class _Covariances:
    """A Gaussian at each position, of the vectors there and, with `around` > 0, so far around it."""

    def __init__(self, features: Float32, shown: Mask, scored: Mask, *, around: int, shrink: Shrink) -> None:
        _, positions, dimensions = features.shape
        weights = shown[..., np.newaxis].astype(np.float32)
        self._mean = (features * weights).sum(axis=0) / np.maximum(weights.sum(axis=0), 1)
        spread = (((features - self._mean) * weights) ** 2).sum(axis=(0, 2))
        # Padding is the same in every picture: there is nothing that a rule could shrink.
        self.scored = scored = scored & (spread > np.finfo(np.float32).eps * spread.max(initial=0))
        grid = math.isqrt(positions)
        self._whitening = np.zeros((positions, dimensions, dimensions), dtype=np.float32)
        place = np.arange(positions).reshape(grid, grid)
        for p in np.flatnonzero(scored).tolist():
            row, column = divmod(p, grid)
            near = place[
                max(0, row - around) : row + around + 1, max(0, column - around) : column + around + 1
            ].reshape(-1)
            vectors = np.concatenate([(features[shown[:, q], q] - self._mean[q]) for q in near]).astype(np.float64)
            free = max(1, len(vectors) - len(near))
            rho, more = shrink(vectors)
            sigma = (1 - rho) * (vectors.T @ vectors) / free + more * np.eye(dimensions)
            self._whitening[p] = np.linalg.inv(np.linalg.cholesky(sigma))

    def squared_distances(self, features: Float32) -> Float32:
        """See `Alternative`."""
        deviations = torch.from_numpy(features - self._mean).unsqueeze(-1)
        whitened = (torch.from_numpy(self._whitening) @ deviations).squeeze(-1)
        return np.asarray((whitened**2).sum(dim=1).numpy())


class MemoryBank:
    """Patches of good pictures, few that stand for many; the nearest one says how unlike them a patch is.

    Notes
    -----
    Roth et al., *Towards total recall in industrial anomaly detection* (PatchCore), 2022: features averaged over 3 × 3
    positions, a greedy choice of those that cover the others best. Unlike there, channels are those of the Gaussians,
    the choice is from patches drawn at random, and a picture's score is the nearest distance without its weight.
    """

    def __init__(self, features: Sequence[Float32], shown: Mask, scored: Mask, *, seed: int) -> None:
        self.scored = scored
        rng = np.random.default_rng(seed)
        drawn, owners = [], []
        for owner, (picture, here) in enumerate(zip(features, shown, strict=True)):
            places = np.flatnonzero(here & scored)
            some = rng.choice(places, min(len(places), _FROM // len(features)), replace=False)
            drawn.append(_averaged(picture)[some])
            owners.append(np.full(len(some), owner))
        patches = torch.from_numpy(np.concatenate(drawn))
        chosen = _covering(patches, min(_BANK, len(patches)))
        self._bank, self._owners = patches[chosen], torch.from_numpy(np.concatenate(owners))[chosen]

    def squared_distances(self, features: Float32) -> Float32:
        """See `Alternative`."""
        return _nearest(self._bank, features)

    def squared_distances_without(self, owner: int, features: Float32) -> Float32:
        """Squared distances (P,) float32 to what all training pictures but one taught."""
        return _nearest(self._bank[self._owners != owner], features)


def _nearest(bank: torch.Tensor, features: Float32) -> Float32:
    patches = torch.from_numpy(_averaged(features))
    square = (bank**2).sum(dim=1)
    parts = torch.split(patches, 1024)
    nearest = torch.cat([(square - 2 * some @ bank.T).min(dim=1).values for some in parts])
    return np.asarray(torch.clamp(nearest + (patches**2).sum(dim=1), min=0).numpy())


def _averaged(features: Float32) -> Float32:
    grid = math.isqrt(len(features))
    square = features.reshape(grid, grid, -1)
    planes = [cv2.blur(square[..., i], (3, 3), borderType=cv2.BORDER_REFLECT) for i in range(square.shape[2])]
    return np.asarray(np.stack(planes, axis=-1).reshape(features.shape), dtype=np.float32)


def _covering(patches: torch.Tensor, count: int) -> torch.Tensor:
    """Choose patches one by one, each the farthest from those before."""
    chosen = [0]
    square = (patches**2).sum(dim=1)
    nearest = torch.full((len(patches),), math.inf)
    while len(chosen) < count:
        last = patches[chosen[-1]]
        torch.minimum(nearest, square - 2 * patches @ last + last @ last, out=nearest)
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)
