"""The ChArUco board: what is printed on it, and where its corners are in a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cell.schema import FileModel

_LEAST_CORNERS = 12


class CharucoPattern(FileModel):
    """A ChArUco pattern as OpenCV generates it (since 4.6): the first square is black."""

    columns: int = Field(ge=4, le=40)
    rows: int = Field(ge=4, le=40)
    square_mm: float = Field(gt=0, description="measured on the print: all lengths of the calibration follow from it")
    marker_mm: float = Field(gt=0)
    dictionary: Literal["4X4_50", "4X4_100", "4X4_250", "5X5_100", "5X5_250"] = "4X4_50"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.marker_mm >= self.square_mm:
            raise ValueError("marker_mm must be less than square_mm")
        markers = int(self.dictionary.split("_")[1])
        if self.columns * self.rows // 2 > markers:
            raise ValueError(f"{self.columns} × {self.rows} squares hold more markers than the dictionary has")
        return self

    def board(self) -> Any:
        """Return OpenCV's board; its unit is a millimetre."""
        name = getattr(cv2.aruco, f"DICT_{self.dictionary}")
        dictionary = cv2.aruco.getPredefinedDictionary(name)
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_mm, self.marker_mm, dictionary)


@dataclass(frozen=True)
class Corners:
    """Corners of the board that were found in a picture.

    Attributes
    ----------
    points_m : (N, 3) float64
        In the board's frame: x along its rows, y down its columns, z into the board.
    pixels : (N, 2) float64
        Counted from the outer corner of the first pixel, as `cell.interfaces.Intrinsics` does.
    """

    points_m: NDArray[np.float64]
    pixels: NDArray[np.float64]


def find_corners(image: NDArray[np.uint8], pattern: CharucoPattern) -> Corners | None:
    """Find the board's corners in a grey or RGB picture to a fraction of a pixel, or None where too few are seen."""
    grey = image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    board = pattern.board()
    markers = cv2.aruco.DetectorParameters()
    markers.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    pixels, numbers, _, _ = cv2.aruco.CharucoDetector(board, detectorParams=markers).detectBoard(grey)
    if numbers is None or len(numbers) < _LEAST_CORNERS:
        return None
    numbers = numbers.ravel()
    points_m = np.asarray(board.getChessboardCorners(), np.float64)[numbers] / 1000
    # OpenCV counts from the centre of the first pixel.
    return Corners(points_m, _refined(grey, np.asarray(pixels, np.float64).reshape(-1, 2), pattern) + 0.5)


def _refined(grey: NDArray[np.uint8], pixels: NDArray[np.float64], pattern: CharucoPattern) -> NDArray[np.float64]:
    """Place corners anew in a window that ends before the markers, whose edges would draw them aside.

    Where the margin around the markers is less than three pixels, it does not.
    """
    apart = np.linalg.norm(pixels[:, np.newaxis] - pixels[np.newaxis], axis=-1)
    np.fill_diagonal(apart, np.inf)
    margin = (pattern.square_mm - pattern.marker_mm) / 2 / pattern.square_mm
    half = max(3, min(int(0.8 * margin * float(apart.min())), 12))
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 50, 1e-3)
    found = cv2.cornerSubPix(grey, pixels.astype(np.float32).reshape(-1, 1, 2), (half, half), (-1, -1), stop)
    return np.asarray(found, np.float64).reshape(-1, 2)
