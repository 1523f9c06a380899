"""A calibration board: a plate with a printed ChArUco pattern, and a block on its back for the hand."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cell.calibration.board import CharucoPattern
from cell.schema import FileModel, Length
from twin.parts.shape import Shape
from twin.parts.skin import Skin
from twin.parts.surface import PROUD_MM

# Printed black on white reflects about a twentieth of what the paper does.
_BLACK = 0.05
_MARGIN_SQUARES = 0.25


class BoardConfig(FileModel):
    """Its pattern and sizes."""

    pattern: CharucoPattern
    thickness_mm: float = Field(gt=0, le=20)
    block_mm: tuple[Length, Length, Length] = Field(description="of the block: along x and y, and its height")

    @model_validator(mode="after")
    def _block_fits(self) -> Self:
        if self.block_mm[0] >= self.pattern.columns * self.pattern.square_mm:
            raise ValueError("the block is wider than the board")
        return self


class Board:
    """Maker of the board. It lies with its pattern down; the part's frame is in the middle of the pattern, z up."""

    Config = BoardConfig

    def __init__(self, config: BoardConfig) -> None:
        self._config = config

    def make(self, folder: Path = Path()) -> Shape:
        """Build plate, block and print; see `ShapeMaker`."""
        c = self._config
        margin = 2 * _MARGIN_SQUARES * c.pattern.square_mm
        size = np.array([c.pattern.columns, c.pattern.rows]) * c.pattern.square_mm + margin
        plate = trimesh.creation.box((*size, c.thickness_mm))
        plate.apply_translation((0, 0, c.thickness_mm / 2))
        width, depth, height = c.block_mm
        block = trimesh.creation.box((width, depth, height + 1))
        block.apply_translation((0, 0, c.thickness_mm + (height - 1) / 2))
        mesh = trimesh.boolean.union([plate, block], engine="manifold")
        hulls = tuple(np.asarray(body.vertices) for body in (plate, block))
        return Shape(mesh, hulls, (), skins=(Skin(_print(c.pattern), _BLACK, defect=False),))


def _print(pattern: CharucoPattern) -> trimesh.Trimesh:
    """Return all that is black, as rectangles just below the plate; the board's frame is the part's, but its origin."""
    board, square = pattern.board(), pattern.square_mm
    places = np.argwhere(np.add.outer(np.arange(pattern.rows), np.arange(pattern.columns)) % 2 == 0)
    black = [(column * square, row * square, square) for row, column in places.tolist()]
    cells = board.getDictionary().markerSize + 2
    size = pattern.marker_mm / cells
    for number, corners in zip(board.getIds().ravel(), board.getObjPoints(), strict=True):
        left, top, _ = corners[0]
        picture = cv2.aruco.generateImageMarker(board.getDictionary(), int(number), cells)
        black += [(left + column * size, top + row * size, size) for row, column in np.argwhere(picture == 0).tolist()]
    low, edge = np.array(black)[:, :2], np.array(black)[:, 2, np.newaxis, np.newaxis]
    low = low - np.array([pattern.columns, pattern.rows]) * square / 2
    flat = low[:, np.newaxis] + edge * np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    vertices: NDArray[np.float64] = np.concatenate([flat, np.full((*flat.shape[:2], 1), -PROUD_MM)], axis=2)
    faces = 4 * np.arange(len(flat))[:, np.newaxis, np.newaxis] + np.array([[0, 2, 1], [0, 3, 2]])
    return trimesh.Trimesh(vertices.reshape(-1, 3), faces.reshape(-1, 3), process=False)
