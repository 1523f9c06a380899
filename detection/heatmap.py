"""From a grid of distances to a smooth heatmap of the picture."""

import cv2
import numpy as np
from numpy.typing import NDArray


def smooth_heatmap(distances: NDArray[np.float32], *, resolution: int, sigma: float = 4.0) -> NDArray[np.float32]:
    """Enlarge distances to the picture's size and smooth them.

    Parameters
    ----------
    distances : (g, g) float32
        Mahalanobis distance of each grid position.
    resolution : int
        Side R of the picture.
    sigma : float
        Standard deviation of the Gaussian filter in pixels of the picture, > 0.

    Returns
    -------
    (R, R) float32
        Bilinear between the centres of the grid's cells, then filtered, cut off at 4σ and mirrored at the rim
        (the edge pixel twice, SciPy's "reflect").
    """
    enlarged = cv2.resize(distances, (resolution, resolution), interpolation=cv2.INTER_LINEAR)
    width = 2 * int(4 * sigma + 0.5) + 1
    smooth = cv2.GaussianBlur(enlarged, (width, width), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(smooth, dtype=np.float32)
