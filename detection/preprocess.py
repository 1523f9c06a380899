"""From a camera's frame to the square picture that the network sees, and back.

In the paper's order: crop to the part's outline (Multi-Otsu), cut the frame's bottom rows, pad the shorter
side to a square, resize. Normalisation belongs to the backbone. With a reference picture of the view the crop is
the reference's, moved and turned to where the part lies in this picture.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.config import PreprocessConfig
from detection.errors import ModelError, PictureError
from detection.geometry import Box, Geometry, Mask
from detection.heatmap import STRIDE
from detection.outline import find_outline
from detection.pictures import Image, as_rgb
from detection.registration import Motion, register
from detection.storage import read_tensors, write_tensors

REFERENCE_SIDE = 256
"""Side in pixels of the reduced pictures that are registered."""

_SURROUNDINGS = 0.05  # of the box's longer side, on every side of it: what is registered beyond the box


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
    if STRIDE * geometry.side > resolution * min(geometry.box.height, geometry.box.width):
        raise PictureError(
            f"{name}: {geometry.box.height} by {geometry.box.width} pixels are so elongated that nothing is left of "
            f"the short side at {resolution}²; cut the picture"
        )
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
