"""One Gaussian for each grid position, and distances to them."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.config import Precision
from detection.heatmap import heatmap_of
from detection.mahalanobis import squared_mahalanobis
from detection.moments import Float32, Moments
from detection.whitening import whitening_factors


class Gaussians(ABC):
    """What training learned of a view: Gaussians on a grid of positions.

    Attributes
    ----------
    pictures : int
        Number of training pictures, ≥ 2.
    """

    pictures: int

    @property
    @abstractmethod
    def scored(self) -> NDArray[np.bool_]:
        """The positions (P,) that have a Gaussian."""

    @abstractmethod
    def squared_distances(self, features: Float32) -> Float32:
        """Squared Mahalanobis distances (P,) float32 of a picture's features (P, d)."""

    @abstractmethod
    def heatmap_of(self, squared: Float32, hidden: NDArray[np.bool_], *, sigma: float) -> Float32:
        """Smooth heatmap (R, R) float32 of squared distances (P,), of which some positions are hidden.

        `sigma` is of the Gaussian filter in pixels, where the Gaussians have none of their own.
        """

    def heatmap(self, features: Float32, *, sigma: float, unseen: NDArray[np.bool_] | None = None) -> Float32:
        """Smooth heatmap of one picture.

        Parameters
        ----------
        features : (P, d) float32
            The picture's.
        sigma : float
            See `heatmap_of`.
        unseen : (P',) bool, optional
            Positions of the finest grid that the picture does not show.

        Returns
        -------
        (R, R) float32
            Enlarged to the network's input.
        """
        return self.heatmap_of(self.squared_distances(features), self.hidden(unseen), sigma=sigma)

    def hidden(self, unseen: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        """Return the positions (P,) of which nothing is known in a picture; `unseen` is of the finest grid."""
        return hidden_on(self.scored, unseen)


def hidden_on(scored: NDArray[np.bool_], unseen: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Return which positions (P,) of a grid have no Gaussian or are not seen; `unseen` is of the finest grid."""
    here = coarser(unseen, len(scored))
    return ~scored if here is None else ~scored | here


def coarser(unseen: NDArray[np.bool_] | None, positions: int) -> NDArray[np.bool_] | None:
    """Return which positions (P,) of a grid are not seen, since half or more of it (P',) on the finest grid is not."""
    if unseen is None:
        return None
    grid, fine = math.isqrt(positions), math.isqrt(len(unseen))
    within = fine // grid
    share: NDArray[np.float64] = unseen.reshape(grid, within, grid, within).mean(axis=(1, 3))
    return share.reshape(-1) >= 0.5


@dataclass(frozen=True)
class PositionGaussians(Gaussians):
    """One grid of Gaussians, as in the paper.

    Attributes
    ----------
    pictures : int
        Number of training pictures, ≥ 2.
    mean : (P, d) float32
        Mean feature of each grid position.
    factors : (P, d(d+1)/2) float32 or uint16
        Packed whitening factors; uint16 holds bfloat16.
    known : (P,) bool
        False where too few pictures showed the position to know anything about it.
    """

    pictures: int
    mean: NDArray[np.float32]
    factors: NDArray[np.float32] | NDArray[np.uint16]
    known: NDArray[np.bool_]

    @property
    def scored(self) -> NDArray[np.bool_]:
        """See `Gaussians`."""
        return self.known

    @classmethod
    def from_moments(
        cls, moments: Moments, *, epsilon: float, precision: Precision, prior: float = 0.0, keep_moments: bool = False
    ) -> "PositionGaussians":
        """Factorise moments.

        Parameters
        ----------
        moments : Moments
            Of at least two pictures.
        epsilon : float
            Added to the covariance's diagonal.
        precision : str
            "float32" or "bfloat16", for the factors.
        prior : float
            See `whitening_factors`.
        keep_moments : bool
            Whether the moments are needed afterwards; else the factors take their memory.

        Returns
        -------
        Gaussians
            Ready to score.

        Raises
        ------
        ModelError
            With fewer than two pictures.
        """
        factors = whitening_factors(
            moments, epsilon=epsilon, prior=prior, precision=precision, keep_moments=keep_moments
        )
        return cls(moments.pictures, moments.mean.astype(np.float32), factors, moments.scored())

    def squared_distances(self, features: Float32) -> Float32:
        """See `Gaussians`."""
        (squared,) = self.squared(features[np.newaxis])
        return np.asarray(squared, dtype=np.float32)

    def squared(self, features: Float32) -> Float32:
        """Squared Mahalanobis distances (B, P) float32 of the features (B, P, d) float32 of some pictures.

        The factors are read once for all of them, which is most of the time for one.
        """
        squared = np.empty(features.shape[:2], dtype=np.float32)
        squared_mahalanobis(features, self.mean, self.factors, out=squared)
        return squared

    def heatmap_of(self, squared: Float32, hidden: NDArray[np.bool_], *, sigma: float) -> Float32:
        """See `Gaussians`."""
        return heatmap_of(squared, sigma=sigma, hidden=hidden)
