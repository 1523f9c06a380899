"""Where in a picture a bright part on a dark background lies."""

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_multiotsu

from detection.errors import PictureError
from detection.geometry import Box, Mask
from detection.pictures import Image

_THRESHOLD_SIDE = 512  # longest side of the picture that the thresholds are taken from
_OUTLINE_SIDE = 2048  # longest side of the picture that the outline is taken from
_SMALLEST_PIECE = 0.01  # pieces below this share of the largest one are dust, not part
_WHOLE_FRAME = 0.99  # an outline of at least this share of height and width is no outline


def find_outline(
    picture: Image,
    mask: Mask | None = None,
    *,
    classes: int = 3,
    margin: float = 0.02,
    name: str = "picture",
) -> Box:
    """Bounding box of a bright part on a dark background.

    Parameters
    ----------
    picture : (H, W, 3) uint8
        RGB.
    mask : (H, W) bool, optional
        True on pixels that belong neither to the part nor to its background.
    classes : int
        Brightness classes for Multi-Otsu, ≥ 2.
    margin : float
        Added on every side, as a share of the box's longer side.
    name : str
        What to call the picture in an error.

    Returns
    -------
    Box
        Within the picture.

    Raises
    ------
    PictureError
        When the picture is constant, or the outline is empty or the whole picture.

    Notes
    -----
    Thresholds come from a picture of at most 512 pixels, the outline from one of at most 2048: what lies
    above the first threshold, without pieces smaller than a hundredth of the largest. Where that is the whole
    picture (noise-free backgrounds with a gradient make the first class too dark) the next threshold is
    tried.
    Liao, Chen, Chung, *A fast algorithm for multilevel thresholding*, 2001.
    """
    height, width = picture.shape[:2]
    full = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    if mask is not None:
        # A masked pixel must not brighten its neighbours where the picture is made smaller.
        full[mask] = 0
    shades = _shrink(full, _OUTLINE_SIDE)
    small = _shrink(shades, _THRESHOLD_SIDE)
    if mask is not None:
        marked = _shrink(_shrink(mask.astype(np.uint8) * np.uint8(255), _OUTLINE_SIDE), _THRESHOLD_SIDE)
        small = small[marked == 0]
    brightness_levels = len(np.unique(small))
    if brightness_levels < 2:
        raise PictureError(f"{name}: every pixel has the same brightness; check the light, exposure and lens cap")
    thresholds = threshold_multiotsu(small, classes=min(classes, brightness_levels))
    grey = cv2.medianBlur(shades, 3)
    found = "no outline"
    for threshold in thresholds:
        box = _box_of_large_pieces((grey > threshold).astype(np.uint8))
        if box is None:
            continue
        if box.height >= _WHOLE_FRAME * grey.shape[0] and box.width >= _WHOLE_FRAME * grey.shape[1]:
            found = "an outline as large as the picture"
            continue
        down, across = height / grey.shape[0], width / grey.shape[1]
        rim = margin * max(box.height * down, box.width * across)
        return Box(
            max(0, int(np.floor(box.top * down - rim))),
            max(0, int(np.floor(box.left * across - rim))),
            min(height, int(np.ceil(box.bottom * down + rim))),
            min(width, int(np.ceil(box.right * across + rim))),
        )
    raise PictureError(
        f"{name}: {found} was found where a bright part on a dark background is expected; check that the "
        "part is there and the background dark, or set preprocess.crop to none"
    )


def _box_of_large_pieces(foreground: NDArray[np.uint8]) -> Box | None:
    pieces, _, stats, _ = cv2.connectedComponentsWithStats(foreground, connectivity=8)
    if pieces < 2:
        return None
    parts = stats[1:]
    parts = parts[parts[:, cv2.CC_STAT_AREA] >= _SMALLEST_PIECE * parts[:, cv2.CC_STAT_AREA].max()]
    left, top = parts[:, cv2.CC_STAT_LEFT], parts[:, cv2.CC_STAT_TOP]
    bottom, right = top + parts[:, cv2.CC_STAT_HEIGHT], left + parts[:, cv2.CC_STAT_WIDTH]
    return Box(int(top.min()), int(left.min()), int(bottom.max()), int(right.max()))


def _shrink(picture: Image, longest: int) -> Image:
    scale = longest / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
