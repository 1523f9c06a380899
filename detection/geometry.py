"""Where in a frame a prepared picture lies, and the way between their pixels."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from detection.registration import Motion

Mask = NDArray[np.bool_]

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
