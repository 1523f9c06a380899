"""From a camera's frame to the square picture that the network sees, and back.

In the paper's order: crop to the part's outline (Multi-Otsu), cut the frame's bottom rows, pad the shorter
side to a square, resize. Normalisation belongs to the backbone. With a reference picture of the view the crop is
the reference's, moved and turned to where the part lies in this picture.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.filters import threshold_multiotsu

from detection.config import PreprocessConfig
from detection.errors import ModelError, PictureError
from detection.pictures import Image, as_rgb
from detection.registration import Motion, register
from detection.storage import read_tensors, write_tensors

Mask = NDArray[np.bool_]

REFERENCE_SIDE = 256
"""Side in pixels of the reduced pictures that are registered."""

_THRESHOLD_SIDE = 512  # longest side of the picture that the thresholds are taken from
_OUTLINE_SIDE = 2048  # longest side of the picture that the outline is taken from
_SMALLEST_PIECE = 0.01  # pieces below this share of the largest one are dust, not part
_WHOLE_FRAME = 0.99  # an outline of at least this share of height and width is no outline
_SURROUNDINGS = 0.05  # of the box's longer side, on every side of it: what is registered beyond the box
_FINE_REDUCTION = 2.5  # above this, a linear interpolation's blur is lost in the reduction that follows


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
        What was kept of the frame; of the reference's frame where there is a motion.
    resolution : int
        Side R of the prepared picture.
    motion : Motion, optional
        From the reference's frame to this one; without, the box lies in this frame.
    kept_rows : int, optional
        Rows of the frame above the cut; all of them by default.
    """

    frame_shape: tuple[int, int]
    box: Box
    resolution: int
    motion: Motion | None = None
    kept_rows: int | None = None

    @property
    def side(self) -> int:
        """Side of the padded square, in pixels of the frame."""
        return max(self.box.height, self.box.width)

    @property
    def offset(self) -> tuple[int, int]:
        """Rows above and columns left of the box in the padded square."""
        return (self.side - self.box.height) // 2, (self.side - self.box.width) // 2

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Matrix (2, 3) that takes (x, y, 1), a pixel's centre in the prepared picture, to (x, y) in the frame."""
        scale = self.side / self.resolution
        down, across = self.offset
        left, top = self.box.left - across + (scale - 1) / 2, self.box.top - down + (scale - 1) / 2
        return self._moved(np.array([[scale, 0, left], [0, scale, top]]))

    def square(self, frame: NDArray[Any], *, value: int | bool = 0) -> NDArray[Any]:
        """Cut the box out of a frame and pad it.

        Parameters
        ----------
        frame : (H, W) or (H, W, 3)
            uint8 or float32; of any type where there is no motion.
        value : int or bool
            What the padding is filled with.

        Returns
        -------
        (side, side) or (side, side, 3)
            Of the frame's type. With a motion, what the box covers beyond the frame's edge or below the cut
            repeats the nearest pixel.
        """
        if self.motion is not None:
            way = cv2.INTER_CUBIC if self.side < _FINE_REDUCTION * self.resolution else cv2.INTER_LINEAR
            return self._moved_square(frame, way=way, edge=cv2.BORDER_REPLICATE, value=value)
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
            What the mask is outside of the box, and beyond the frame's edge or below the cut.

        Returns
        -------
        (R, R) bool
            True where any marked pixel of the frame falls.
        """
        if self.motion is None:
            marked = self.square(mask, value=padding)
        else:
            # Two unit squares overlap exactly where linear interpolation gives one a share of the other.
            white = 255 * padding
            marked = self._moved_square(
                mask.view(np.uint8) * np.uint8(255), way=cv2.INTER_LINEAR, edge=cv2.BORDER_CONSTANT, value=white
            )
        square = marked.astype(np.float32)
        way = cv2.INTER_NEAREST_EXACT if self.side < self.resolution else cv2.INTER_AREA
        grid: Mask = cv2.resize(square, (self.resolution, self.resolution), interpolation=way) > 0
        return grid

    def to_frame(self, points: ArrayLike) -> NDArray[np.float64]:
        """Where points of the prepared picture lie in the frame.

        Parameters
        ----------
        points : (N, 2) float
            x to the right and y down, in pixels of the prepared picture; whole numbers are pixels' centres, as
            in OpenCV, so the picture reaches from −½ to R − ½.

        Returns
        -------
        (N, 2) float64
            The same in pixels of the frame; outside of what was kept for points on the padding.
        """
        matrix = self.matrix
        moved: NDArray[np.float64] = np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]
        return moved

    @property
    def kept(self) -> Box:
        """What of the frame the prepared picture can show: the box or, with a motion, all rows above the cut."""
        return self.box if self.motion is None else Box(0, 0, self._rows, self.frame_shape[1])

    @property
    def _rows(self) -> int:
        return self.frame_shape[0] if self.kept_rows is None else self.kept_rows

    def _moved(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a matrix to the reference's frame followed by the motion to this one."""
        if self.motion is None:
            return matrix
        motion = np.array(self.motion)
        moved: NDArray[np.float64] = motion[:, :2] @ matrix
        moved[:, 2] += motion[:, 2]
        return moved

    def _moved_square(self, frame: NDArray[Any], *, way: int, edge: int, value: int) -> NDArray[Any]:
        """Return the padded square after the motion; `value` also stands beyond the edge when that is constant."""
        box, (down, across), side = self.box, self.offset, self.side
        square: NDArray[Any] = cv2.warpAffine(
            frame[: self._rows],
            self._moved(np.array([[1.0, 0, box.left - across], [0, 1, box.top - down]])),
            (side, side),
            flags=way | cv2.WARP_INVERSE_MAP,
            borderMode=edge,
            borderValue=(value,) * 4,
        )
        for outside in (np.s_[:down], np.s_[down + box.height :]):
            square[outside] = value
        for outside in (np.s_[:across], np.s_[across + box.width :]):
            square[:, outside] = value
        return square


@dataclass(frozen=True, eq=False)
class Reference:
    """A view's reference: where its crop lies, and what it looks like there.

    Attributes
    ----------
    frame_shape : (int, int)
        Height and width of the frame in pixels.
    box : Box
        What every prepared picture of the view shows, in this frame.
    shades : (256, 256) uint8
        Box and surroundings, padded to a square, reduced, grey.
    valid : (256, 256) bool
        False on padding and on masked pixels.
    """

    frame_shape: tuple[int, int]
    box: Box
    shades: NDArray[np.uint8]
    valid: Mask

    def write(self, path: Path) -> None:
        """Write it as safetensors."""
        box = np.array([self.box.top, self.box.left, self.box.bottom, self.box.right])
        frame_shape = np.array(self.frame_shape)
        valid = self.valid.astype(np.uint8)
        write_tensors(path, {"frame_shape": frame_shape, "box": box, "shades": self.shades, "valid": valid})

    @classmethod
    def read(cls, path: Path) -> "Reference":
        """Read what `write` wrote; `ModelError` when the file is missing, damaged or something else."""
        square = (REFERENCE_SIDE, REFERENCE_SIDE)
        tensors = read_tensors(
            path,
            {
                "frame_shape": ((2,), np.int64),
                "box": ((4,), np.int64),
                "shades": (square, np.uint8),
                "valid": (square, np.uint8),
            },
        )
        height, width = tensors["frame_shape"].tolist()
        box = Box(*tensors["box"].tolist())
        if not (0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width):
            raise ModelError(f"{path}: {box} is no box of a frame of {(height, width)} pixels; train the model again")
        return cls((height, width), box, tensors["shades"], tensors["valid"] > 0)


@dataclass(frozen=True)
class Prepared:
    """A picture ready for the network.

    Attributes
    ----------
    image : (R, R, 3) uint8
        RGB.
    valid : (R, R) bool
        False on padding and on masked pixels.
    masked : (R, R) bool or None
        True on masked pixels; None without a mask.
    geometry : Geometry
        Where in the frame it lies.
    quality : float, optional
        Correlation with the reference, 1 at best; None without a reference.
    """

    image: Image
    valid: Mask
    masked: Mask | None
    geometry: Geometry
    quality: float | None = None


def prepare(
    picture: Image,
    *,
    resolution: int,
    config: PreprocessConfig,
    bottom_share: float = 0.0,
    mask: Mask | None = None,
    reference: Reference | None = None,
    name: str = "picture",
) -> Prepared:
    """Blank what is masked, crop or register, cut, pad and resize a frame.

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
        True on pixels that are not valid. What they show changes nothing: the outline is found and the picture
        registered without them, and to the network, whose features look far beyond a pixel, they are `pad_value`.
    reference : Reference, optional
        Of this view (see `make_reference`): its crop is laid where the part is, and no outline is looked for.
    name : str
        What to call the picture in an error.

    Returns
    -------
    Prepared
        The picture, its valid pixels, and its place in the frame.

    Raises
    ------
    PictureError
        When the picture is unusable, wholly masked, no outline is found in it, or it cannot be registered.
    """
    frame, kept_rows = _kept(picture, mask, bottom_share=bottom_share, blank=config.pad_value, name=name)
    shape = frame.shape[0], frame.shape[1]
    ignored_frame = np.zeros(shape, dtype=np.bool_) if mask is None else mask
    quality = None
    if reference is None:
        geometry = Geometry(shape, _crop(frame, kept_rows, mask, config=config, name=name), resolution)
    else:
        if shape != reference.frame_shape:
            raise PictureError(
                f"{name}: {shape} pixels, the view's reference has {reference.frame_shape}; set the camera back "
                "or train again"
            )
        window = _window(reference.box, shape, kept_rows)
        hidden = window.mask_to_grid(ignored_frame)
        motion, quality = register(
            reference.shades,
            _shades(frame, window),
            reference_valid=reference.valid,
            picture_valid=reference.valid & ~hidden,
            min_quality=config.registration_quality,
            name=name,
        )
        geometry = Geometry(shape, reference.box, resolution, _in_frame(motion, window), kept_rows)
    square = geometry.square(frame, value=config.pad_value)
    way = cv2.INTER_AREA if geometry.side > resolution else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(square, (resolution, resolution), interpolation=way), dtype=np.uint8)
    valid = ~geometry.mask_to_grid(ignored_frame, padding=True)
    masked = None if mask is None else geometry.mask_to_grid(mask)
    return Prepared(image, valid, masked, geometry, quality)


def make_reference(
    picture: Image,
    *,
    config: PreprocessConfig,
    bottom_share: float = 0.0,
    mask: Mask | None = None,
    name: str = "picture",
) -> Reference:
    """Make a view's reference from one picture of a good part.

    Parameters
    ----------
    picture : (H, W, 3) uint8
        RGB, or what `prepare` converts.
    config : PreprocessConfig
        How to crop.
    bottom_share : float
        Share of the frame's height that is cut at the bottom, 0 ≤ share < 1.
    mask : (H, W) bool, optional
        True on pixels that are neither outlined nor registered to.
    name : str
        What to call the picture in an error.

    Returns
    -------
    Reference
        Its box fixes place and scale of every crop of this view.

    Raises
    ------
    PictureError
        When the picture is unusable, or no outline is found in it.
    """
    frame, kept_rows = _kept(picture, mask, bottom_share=bottom_share, blank=config.pad_value, name=name)
    shape = frame.shape[0], frame.shape[1]
    box = _crop(frame, kept_rows, mask, config=config, name=name)
    window = _window(box, shape, kept_rows)
    outside = window.mask_to_grid(np.zeros(shape, dtype=np.bool_) if mask is None else mask, padding=True)
    return Reference(shape, box, _shades(frame, window), ~outside)


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


def _kept(picture: Image, mask: Mask | None, *, bottom_share: float, blank: int, name: str) -> tuple[Image, int]:
    """Return the frame as RGB, blank where it is masked, and how many of its rows are above the cut."""
    frame = as_rgb(picture, name=name)
    rows = len(frame) - round(len(frame) * bottom_share)
    if not 0 < rows <= len(frame):
        raise PictureError(f"{name}: nothing is left of the frame with a bottom share of {bottom_share}")
    if mask is None:
        return frame, rows
    if mask.shape != frame.shape[:2]:
        raise PictureError(f"{name}: the mask is {mask.shape}, the picture {frame.shape[:2]} pixels; make them equal")
    if mask[:rows].all():
        raise PictureError(
            f"{name}: every pixel is masked; check that the part, not what is masked, is before the camera"
        )
    # Before anything is interpolated, so that nothing of it reaches the pixels beside it.
    blanked = np.full_like(frame, blank)
    cv2.copyTo(frame, (~mask).view(np.uint8), blanked)
    return blanked, rows


def _crop(frame: Image, kept_rows: int, mask: Mask | None, *, config: PreprocessConfig, name: str) -> Box:
    if config.crop == "otsu":
        kept = None if mask is None else mask[:kept_rows]
        return find_outline(frame[:kept_rows], kept, classes=config.classes, margin=config.margin, name=name)
    return Box(0, 0, kept_rows, frame.shape[1])


def _window(box: Box, frame_shape: tuple[int, int], kept_rows: int) -> Geometry:
    """Return what is registered: the box and its surroundings, as far as the frame goes, reduced."""
    rim = round(_SURROUNDINGS * max(box.height, box.width))
    window = Box(
        max(0, box.top - rim),
        max(0, box.left - rim),
        min(kept_rows, box.bottom + rim),
        min(frame_shape[1], box.right + rim),
    )
    return Geometry(frame_shape, window, REFERENCE_SIDE)


def _shades(frame: Image, window: Geometry) -> NDArray[np.uint8]:
    box = window.box
    grey = cv2.cvtColor(frame[box.top : box.bottom, box.left : box.right], cv2.COLOR_RGB2GRAY)
    square = Geometry(grey.shape, Box(0, 0, *grey.shape), window.resolution).square(grey)
    size = (window.resolution, window.resolution)
    return np.asarray(cv2.resize(square, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _in_frame(motion: Motion, window: Geometry) -> Motion:
    """Return a motion between reduced pictures as one between frames."""
    to_frame = np.vstack([window.matrix, [0, 0, 1]])
    (a, b, x), (c, d, y), _ = (to_frame @ np.vstack([motion, [0, 0, 1]]) @ np.linalg.inv(to_frame)).tolist()
    return (a, b, x), (c, d, y)
