"""From a camera's frame to the square picture that the network sees, and back.

In the paper's order: crop to the part's outline (Multi-Otsu), cut the frame's bottom rows, pad the shorter
side to a square, resize. Normalisation belongs to the backbone.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_multiotsu

from detection.config import PreprocessConfig
from detection.errors import PictureError
from detection.pictures import Image, as_rgb

Mask = NDArray[np.bool_]

_THRESHOLD_SIDE = 512  # longest side of the picture that the thresholds are taken from
_OUTLINE_SIDE = 2048  # longest side of the picture that the outline is taken from
_SMALLEST_PIECE = 0.01  # pieces below this share of the largest one are dust, not part
_WHOLE_FRAME = 0.99  # an outline of at least this share of height and width is no outline


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels, `bottom` and `right` not included."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left


@dataclass(frozen=True)
class Geometry:
    """Which part of the frame a prepared picture shows: a box, centred in a padded square, resized.

    Attributes
    ----------
    frame_shape : (int, int)
        Height and width of the frame in pixels.
    box : Box
        What was kept of the frame.
    resolution : int
        Side R of the prepared picture.
    """

    frame_shape: tuple[int, int]
    box: Box
    resolution: int

    @property
    def side(self) -> int:
        """Side of the padded square, in pixels of the frame."""
        return max(self.box.height, self.box.width)

    @property
    def offset(self) -> tuple[int, int]:
        """Rows above and columns left of the box in the padded square."""
        return (self.side - self.box.height) // 2, (self.side - self.box.width) // 2

    def square(self, frame: NDArray[Any], *, value: int | bool = 0) -> NDArray[Any]:
        """Cut the box out of a frame and pad it.

        Parameters
        ----------
        frame : (H, W) or (H, W, 3)
            Of any type.
        value : int or bool
            What the padding is filled with.

        Returns
        -------
        (side, side) or (side, side, 3)
            Of the frame's type.
        """
        box, (down, across), side = self.box, self.offset, self.side
        square = np.full((side, side, *frame.shape[2:]), value, dtype=frame.dtype)
        square[down : down + box.height, across : across + box.width] = frame[
            box.top : box.bottom, box.left : box.right
        ]
        return square

    def mask_to_grid(self, mask: Mask, *, padding: bool = False) -> Mask:
        """Take a mask of the frame through the same geometry.

        Parameters
        ----------
        mask : (H, W) bool
            Over the whole frame.
        padding : bool
            What the mask is outside of the box.

        Returns
        -------
        (R, R) bool
            True where any marked pixel of the frame falls.
        """
        square = self.square(mask, value=padding).astype(np.float32)
        way = cv2.INTER_NEAREST_EXACT if self.side < self.resolution else cv2.INTER_AREA
        grid: Mask = cv2.resize(square, (self.resolution, self.resolution), interpolation=way) > 0
        return grid

    def box_in_frame(self, box: Box) -> Box:
        """Return the frame's pixels that a box of the prepared picture touches, within what was kept."""
        scale = self.side / self.resolution
        down, right = self.box.top - self.offset[0], self.box.left - self.offset[1]
        return Box(
            max(self.box.top, int(np.floor(box.top * scale)) + down),
            max(self.box.left, int(np.floor(box.left * scale)) + right),
            min(self.box.bottom, int(np.ceil(box.bottom * scale)) + down),
            min(self.box.right, int(np.ceil(box.right * scale)) + right),
        )


@dataclass(frozen=True)
class Prepared:
    """A picture ready for the network.

    Attributes
    ----------
    image : (R, R, 3) uint8
        RGB.
    valid : (R, R) bool
        False on padding and on masked pixels.
    geometry : Geometry
        Where in the frame it lies.
    """

    image: Image
    valid: Mask
    geometry: Geometry


def prepare(
    picture: Image,
    *,
    resolution: int,
    config: PreprocessConfig,
    bottom_share: float = 0.0,
    mask: Mask | None = None,
    name: str = "picture",
) -> Prepared:
    """Blank what is masked, crop, cut, pad and resize a frame.

    Parameters
    ----------
    picture : (H, W, 3) uint8
        RGB; grey, 16-bit and RGBA pictures are converted (see `as_rgb`).
    resolution : int
        Side R of the square result.
    config : PreprocessConfig
        How to crop and pad.
    bottom_share : float
        Share of the frame's height that is cut at the bottom (gripper reflections), 0 ≤ share < 1.
        Bright pixels in these rows do not move the outline.
    mask : (H, W) bool, optional
        True on pixels that are not valid. What they show changes nothing: the outline is found without them, and
        to the network, whose features look far beyond a pixel, they are `pad_value`.
    name : str
        What to call the picture in an error.

    Returns
    -------
    Prepared
        The picture, its valid pixels, and its place in the frame.

    Raises
    ------
    PictureError
        When the picture is unusable, wholly masked, or no outline is found in it.
    """
    frame = as_rgb(picture, name=name)
    height, width = frame.shape[:2]
    if mask is not None and mask.shape != (height, width):
        raise PictureError(f"{name}: the mask is {mask.shape}, the picture {(height, width)} pixels; make them equal")
    kept_rows = height - round(height * bottom_share)
    if not 0 < kept_rows <= height:
        raise PictureError(f"{name}: nothing is left of the frame with a bottom share of {bottom_share}")
    if mask is not None and mask[:kept_rows].all():
        raise PictureError(
            f"{name}: every pixel is masked; check the camera's place and the shape of the hand in the cell file"
        )
    box = Box(0, 0, kept_rows, width)
    if config.crop == "otsu":
        kept_mask = None if mask is None else mask[:kept_rows]
        box = find_outline(frame[:kept_rows], kept_mask, classes=config.classes, margin=config.margin, name=name)
    geometry = Geometry((height, width), box, resolution)
    square = geometry.square(frame, value=config.pad_value)
    if mask is not None:
        square[geometry.square(mask)] = config.pad_value
    way = cv2.INTER_AREA if geometry.side > resolution else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(square, (resolution, resolution), interpolation=way), dtype=np.uint8)
    ignored_frame = np.zeros((height, width), dtype=np.bool_) if mask is None else mask
    valid = ~geometry.mask_to_grid(ignored_frame, padding=True)
    return Prepared(image, valid, geometry)


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
        marked = np.where(mask, np.uint8(255), np.uint8(0))
        small = small[_shrink(_shrink(marked, _OUTLINE_SIDE), _THRESHOLD_SIDE) == 0]
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
