"""How well heatmaps mark the pixels of defects: pixel AUROC and per-region overlap."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.intervals import Estimate, mean_interval

PRO_LIMIT = 0.3
"""False positive rate up to which the per-region overlap is integrated."""

_SHIFT = 12  # bits of a float32 that a fine bin leaves out
_COARSE = 128  # fine bins in a coarse one


class PixelCounts:
    """Heatmap pixels counted one picture at a time: pixel AUROC and PRO, with intervals.

    Distances are counted in 2¹⁹ bins, each 2⁻¹¹ (0.05 %) of its value wide; pixels in one bin count as ties.
    They are not negative, so the upper bits of a float32 order as the numbers do. This takes 12 MB however many
    pictures there are. Coarser bins (6 %), for the intervals alone, take 50 kB more for each part.

    Parameters
    ----------
    parts : int
        Number of parts that pictures will come from.
    """

    def __init__(self, parts: int) -> None:
        bins = 1 << (31 - _SHIFT)
        self._negative = np.zeros(bins, dtype=np.int64)
        self._positive = np.zeros(bins, dtype=np.int64)
        self._covered = np.zeros(bins)
        self._regions = np.zeros(parts, dtype=np.int64)
        self._negative_of = np.zeros((parts, bins // _COARSE), dtype=np.int32)
        self._positive_of = np.zeros_like(self._negative_of)
        self._covered_of = np.zeros((parts, bins // _COARSE), dtype=np.float32)

    def add(
        self, heatmap: NDArray[np.float32], defects: NDArray[np.bool_], valid: NDArray[np.bool_], *, part: int
    ) -> None:
        """Count a picture.

        Parameters
        ----------
        heatmap : (R, R) float32
            Distances, ≥ 0 and finite.
        defects : (R, R) bool
            True where a defect is. Each 8-connected component is a region, also where `valid` cuts it in two.
        valid : (R, R) bool
            Pixels that count. Of a region, the share of these; a region without any does not count.
        part : int
            Which part it shows, from 0.
        """
        bins = (heatmap[valid] + np.float32(0)).view(np.uint32) >> _SHIFT  # adding 0 turns −0 into 0
        marked = defects[valid]
        negative = np.bincount(bins[~marked], minlength=len(self._negative))
        self._negative += negative
        self._negative_of[part] += negative.reshape(-1, _COARSE).sum(axis=1)
        if not marked.any():
            return
        _, labels = cv2.connectedComponents(defects.astype(np.uint8), connectivity=8)
        region = np.asarray(labels)[valid][marked]
        areas = np.bincount(region)
        positive = np.bincount(bins[marked], minlength=len(self._positive))
        covered = np.bincount(bins[marked], weights=1 / areas[region], minlength=len(self._covered))
        self._positive += positive
        self._positive_of[part] += positive.reshape(-1, _COARSE).sum(axis=1)
        self._covered += covered
        self._covered_of[part] += covered.reshape(-1, _COARSE).sum(axis=1)
        self._regions[part] += np.count_nonzero(areas)

    def auroc(self) -> Estimate | None:
        """Return the area under the pixels' ROC curve; None when a class is missing."""
        return self._estimate(_histogram_auroc, self._positive, self._positive_of)

    def pro(self) -> Estimate | None:
        """Per-region overlap: how much of each defect the heatmap marks.

        Returns
        -------
        Estimate or None
            Mean over all regions of the share that is ≥ T, integrated over the false positive rate (the share
            of valid pixels without a defect that are ≥ T) from 0 to 0.3 and divided by 0.3. 1 is best, and
            0.15 what chance gives. None without a region, or without a pixel that is not in one.

        Notes
        -----
        Bergmann et al., *The MVTec anomaly detection dataset*, IJCV 2021. As there, regions are 8-connected and
        the curve is straight between two thresholds.
        """
        return self._estimate(_histogram_pro, self._covered, self._covered_of)

    def _estimate(
        self,
        figure: Callable[[NDArray[np.int64], NDArray[Any]], float | None],
        found: NDArray[Any],
        found_of: NDArray[Any],
    ) -> Estimate | None:
        value = figure(self._negative, found)
        if value is None:
            return None
        negative, total = self._negative_of.sum(axis=0, dtype=np.int64), found_of.sum(axis=0, dtype=found.dtype)
        defective = self._regions > 0
        # What is left of a sum of shares after the last region is rounding, not a region.
        without = [
            figure(negative - self._negative_of[i], total - found_of[i])
            if self._regions.sum() > self._regions[i]
            else None
            for i in range(len(self._regions))
        ]
        return Estimate(value, *mean_interval(value, without, defective))


def _histogram_auroc(negative: NDArray[np.int64], positive: NDArray[np.int64]) -> float | None:
    """Area under the ROC curve of counts in rising bins (K,), ties counted half."""
    pairs = float(negative.sum()) * float(positive.sum())
    if pairs == 0:
        return None
    below = np.cumsum(negative) - negative
    return float((positive * (below + 0.5 * negative)).sum() / pairs)


def _histogram_pro(negative: NDArray[np.int64], covered: NDArray[np.float64]) -> float | None:
    """Normalised area under the overlap up to `PRO_LIMIT`, from rising bins (K,) of pixels and shares of regions."""
    outside, regions = int(negative.sum()), float(covered.sum())
    if outside == 0 or regions == 0:
        return None
    # From the highest threshold down.
    step, gain = negative[::-1] / outside, covered[::-1] / regions
    start, overlap = np.cumsum(step) - step, np.cumsum(gain) - gain
    width = np.clip(PRO_LIMIT - start, 0, step)
    part = np.divide(width, step, out=np.zeros_like(width), where=step > 0)
    # Sums of shares of a region can be a rounding error above 1.
    return min(1.0, float((width * (overlap + part * gain / 2)).sum() / PRO_LIMIT))
