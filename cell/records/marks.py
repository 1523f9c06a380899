"""Where on its pictures a part was found anomalous: what a person wants to see beside a verdict.

A file an inspection, beside the pictures; the inspection's ending names its hash, so that a change shows. Only parts
that are not ok have marks, and their pictures no rule removes: the marks stay with them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from cell.interfaces import CellError
from cell.records.files import INCOMING, make_folder, write_durably
from cell.results import Evidence
from detection.locations import locate

_FOLDER = "marks"
_A_FOLDER = 1000
_SIDE = 256
_FULL = 2.0


class ViewMarks(BaseModel):
    """The marks of one view.

    Attributes
    ----------
    matrix : ((a, c, e), (b, d, f))
        Takes (x, y, 1), a pixel's centre in the heatmap, to pixels of the frame.
    heatmap : str
        Grey PNG in base64, at most 256 pixels wide: 255 is twice the threshold or more, invalid pixels are 0.
    contours : list
        Outlines of the regions that reach the threshold, x and y in pixels of the frame; the largest peak first.
    peaks : list of float
        The largest distance in each of them.
    """

    model_config = ConfigDict(frozen=True)

    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]
    heatmap: str
    contours: list[list[tuple[float, float]]]
    peaks: list[float]

    def grey(self) -> NDArray[np.uint8]:
        """Return the heatmap, (S, S) uint8."""
        data = np.frombuffer(base64.b64decode(self.heatmap), np.uint8)
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


class Marks(BaseModel):
    """The marks of an inspection by view: of the views that reached the threshold, where the part is not ok."""

    model_config = ConfigDict(frozen=True)

    threshold: float
    views: dict[str, ViewMarks]


class MarkStore:
    """The marks beside a folder of pictures.

    Parameters
    ----------
    pictures : Path
        See `cell.records.address.Address`.
    """

    def __init__(self, pictures: Path) -> None:
        self._pictures = pictures
        self._folder = pictures / _FOLDER

    def create(self) -> None:
        """Make the folders; raises `OSError`."""
        make_folder(self._folder)
        make_folder(self._pictures / INCOMING)

    def put(self, inspection: int, evidence: Sequence[Evidence], *, threshold: float) -> str | None:
        """Keep the marks of an inspection, whose entry names the file, safe from a loss of power.

        Returns
        -------
        str or None
            SHA-256 of the file's bytes; None where there is nothing to mark.

        Raises
        ------
        OSError
            The disk is full, or the folder cannot be written.
        """
        if not evidence:
            return None
        marks = Marks(threshold=threshold, views={e.score.view: _marks(e, threshold) for e in evidence})
        data = marks.model_dump_json().encode()
        write_durably(self._path(inspection), data, root=self._pictures)
        return hashlib.sha256(data).hexdigest()

    def intact(self, inspection: int, digest: str) -> bool:
        """Whether the marks of an inspection are there and have that hash."""
        try:
            return hashlib.sha256(self._path(inspection).read_bytes()).hexdigest() == digest
        except OSError:
            return False

    def read(self, inspection: int) -> Marks | None:
        """Return the marks of an inspection; None where there are none.

        Raises
        ------
        CellError
            The file is damaged.
        """
        path = self._path(inspection)
        try:
            return Marks.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            raise CellError(f"{path}: cannot be read; remove it, the pictures show the part without it") from error

    def _path(self, inspection: int) -> Path:
        return self._folder / str(inspection // _A_FOLDER) / f"{inspection}.json"


def _marks(evidence: Evidence, threshold: float) -> ViewMarks:
    score = evidence.score
    found = locate(score.heatmap, score.valid, threshold=threshold, geometry=score.geometry)
    side = min(_SIDE, len(score.heatmap))
    heat = np.where(score.valid, np.clip(score.heatmap * (255 / (_FULL * threshold)), 0, 255), 0).astype(np.uint8)
    small = np.asarray(cv2.resize(heat, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    written, data = cv2.imencode(".png", small)
    if not written:
        raise OSError("a heatmap could not be encoded; look for lack of memory")
    # A pixel's centre in the smaller heatmap is at (x + ½)·f − ½ in the whole one.
    factor = len(score.heatmap) / side
    matrix = score.geometry.matrix @ np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]])
    return ViewMarks(
        matrix=tuple(tuple(float(value) for value in row) for row in matrix),
        heatmap=base64.b64encode(data.tobytes()).decode(),
        contours=[[(round(float(x), 1), round(float(y), 1)) for x, y in place.contour] for place in found],
        peaks=[place.peak for place in found],
    )
