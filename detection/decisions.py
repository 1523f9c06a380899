"""From heatmaps to verdicts: one score for a picture, one statistic for a part.

A score, a statistic or a pixel *reaches* a threshold T when it is ≥ T. That is anomalous, everywhere.
"""

import math
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.config import ScoreConfig
from detection.errors import DecisionError, PictureError

Heatmap = NDArray[np.float32]
Mask = NDArray[np.bool_]


def reaches(score: float, threshold: float) -> bool:
    """Whether a score is anomalous: score ≥ threshold."""
    return score >= threshold


def max_score(heatmap: Heatmap, valid: Mask) -> float:
    """Return the largest valid pixel of an (R, R) heatmap; `PictureError` where there is none."""
    return float(_valid_pixels(heatmap, valid).max())


def percentile_score(heatmap: Heatmap, valid: Mask, *, percentile: float = 99.99) -> float:
    """Percentile of the valid pixels.

    Parameters
    ----------
    heatmap : (R, R) float32
        Distances.
    valid : (R, R) bool
        Pixels that count; padding and masked pixels do not dilute the percentile.
    percentile : float
        In percent, interpolated linearly between pixels.

    Returns
    -------
    float
        Distance.

    Raises
    ------
    PictureError
        When no pixel is valid.
    """
    return float(np.percentile(_valid_pixels(heatmap, valid), percentile))


def cluster_score(heatmap: Heatmap, valid: Mask, *, area_px: float) -> float:
    """Largest threshold that some cluster of at least a given area reaches.

    Parameters
    ----------
    heatmap : (R, R) float32
        Distances.
    valid : (R, R) bool
        Pixels that can belong to a cluster.
    area_px : float
        Smallest area S, in pixels.

    Returns
    -------
    float
        Largest T for which the valid pixels ≥ T have an 8-connected component of at least S pixels; exact. So
        "the picture has a cluster at T" and "this score reaches T" are the same.

    Raises
    ------
    PictureError
        When no pixel is valid, or no connected valid region is as large as S.

    Notes
    -----
    The same as the maximum after an area opening (Vincent, *Grayscale area openings and closings*, 1993). It
    is found by bisection over the heatmap's own values: a cluster at one value is part of one at every lower
    value.
    """
    falling = np.sort(_valid_pixels(heatmap, valid))[::-1]
    smallest = max(1, math.ceil(area_px))

    def has_cluster(rank: int) -> bool:
        above = ((heatmap >= falling[rank]) & valid).astype(np.uint8)
        pieces, _, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
        return pieces > 1 and int(stats[1:, cv2.CC_STAT_AREA].max()) >= smallest

    # Below rank S − 1 there are too few pixels. Double the rank until there is a cluster, then bisect.
    low, high, last = smallest - 2, smallest - 1, len(falling) - 1
    while high > last or not has_cluster(high):
        if high >= last:
            raise PictureError(
                f"no connected region of {smallest} valid pixels is left in the picture; check the mask and the crop"
            )
        low, high = high, min(2 * high + 1, last)
    while high - low > 1:
        middle = (low + high) // 2
        if has_cluster(middle):
            high = middle
        else:
            low = middle
    return float(falling[high])


def cluster_area_px(*, smallest_defect_mm: float, resolution: int, picture_width_mm: float, sigma: float) -> float:
    """Area of the smallest defect in a smoothed heatmap.

    Parameters
    ----------
    smallest_defect_mm : float
        Diameter d of the smallest defect.
    resolution : int
        Side of the heatmap in pixels.
    picture_width_mm : float
        What that side shows, in millimetres at the part.
    sigma : float
        Smoothing in pixels; it widens the defect by k = 2σ.

    Returns
    -------
    float
        S = π/4·(d + k)² in pixels; the paper's 131, 86 and 67 at 1024², 512² and 256².
    """
    diameter_px = smallest_defect_mm * resolution / picture_width_mm
    return math.pi / 4 * (diameter_px + 2 * sigma) ** 2


def image_score(
    heatmap: Heatmap,
    valid: Mask,
    *,
    config: ScoreConfig,
    picture_width_mm: float | None,
    name: str = "picture",
) -> float:
    """Score of a picture by the configured method.

    Parameters
    ----------
    heatmap : (R, R) float32
        Distances.
    valid : (R, R) bool
        Pixels that count.
    config : ScoreConfig
        Method and its parameters.
    picture_width_mm : float or None
        What the heatmap's side shows, in millimetres; needed by `cluster` only.
    name : str
        What to call the picture in an error.

    Returns
    -------
    float
        A distance, to be compared with a threshold.

    Raises
    ------
    PictureError
        When too few pixels are valid.
    DecisionError
        When `cluster` does not know the scale.
    """
    try:
        if config.method == "max":
            return max_score(heatmap, valid)
        if config.method == "percentile":
            return percentile_score(heatmap, valid, percentile=config.percentile)
        if picture_width_mm is None:
            raise DecisionError(
                "the score method `cluster` needs the picture's width in millimetres, and this dataset has "
                "none; choose `max` or `percentile`"
            )
        area_px = cluster_area_px(
            smallest_defect_mm=config.smallest_defect_mm,
            resolution=heatmap.shape[0],
            picture_width_mm=picture_width_mm,
            sigma=config.smoothing_sigma,
        )
        return cluster_score(heatmap, valid, area_px=area_px)
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from error


def part_statistic(view_scores: Iterable[float], *, k: int) -> float:
    """k-th largest view score: at least k views reach T exactly when this reaches T.

    Parameters
    ----------
    view_scores : iterable of float
        One score for each view of the part.
    k : int
        Votes needed, ≥ 1.

    Returns
    -------
    float
        The part's statistic.

    Raises
    ------
    DecisionError
        With fewer than k views, or a score that is not finite.
    """
    scores = sorted(view_scores, reverse=True)
    if len(scores) < k:
        raise DecisionError(f"{len(scores)} view(s) cannot give {k} votes; set vote.k to the number of views or less")
    if not all(math.isfinite(score) for score in scores):
        raise DecisionError(f"view scores must be finite, got {scores}; inspect the part again")
    return scores[k - 1]


def _valid_pixels(heatmap: Heatmap, valid: Mask) -> Heatmap:
    pixels = heatmap[valid]
    if pixels.size == 0:
        raise PictureError("no valid pixel is left in the picture; check the mask, the crop and the bottom share")
    if not np.isfinite(pixels).all():
        raise PictureError(
            "the heatmap holds numbers that are not finite; the model is damaged, copy or train it again"
        )
    return pixels
