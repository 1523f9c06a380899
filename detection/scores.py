"""What a scored picture says. Whoever receives scores from another process need not load the network for it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.geometry import Geometry, Mask


@dataclass(frozen=True)
class ViewScore:
    """What one picture says.

    Attributes
    ----------
    view : str
        Name of the view.
    score : float
        To be compared with the threshold.
    heatmap : (R, R) float32
        Distances over the prepared picture.
    valid : (R, R) bool
        Pixels that counted.
    geometry : Geometry
        Where in the frame the heatmap lies.
    quality : float or None
        How well the picture agrees with the view's reference, 1 at best; None without registration.
    """

    view: str
    score: float
    heatmap: NDArray[np.float32]
    valid: Mask
    geometry: Geometry
    quality: float | None = None
