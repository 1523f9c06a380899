"""Pictures for browsers: small ones, and heatmaps in colour. Made in the process of the pages, never in the line's."""

from __future__ import annotations

import base64
import threading
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np

from cell.interfaces import CellError
from cell.records.marks import ViewMarks
from cell.records.pictures import PictureStore

THUMBNAIL_PX = 640
_KEPT = 1000
_OPAQUE = 0.75


class Thumbnails:
    """Small JPEGs of recorded pictures, the newest used kept in memory.

    Parameters
    ----------
    pictures : Path
        The folder of the pictures.
    """

    def __init__(self, pictures: Path) -> None:
        self._store = PictureStore(pictures)
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._turn = threading.Lock()

    def file(self, digest: str) -> Path:
        """Return where the whole picture lies."""
        return self._store.path(digest)

    def get(self, digest: str) -> bytes:
        """Return the JPEG; one thread at a time makes one, so that pages never take more than one core.

        Raises
        ------
        CellError
            The picture is missing or damaged.
        """
        with self._turn:
            if digest not in self._kept:
                self._kept[digest] = _small(self._store, digest)
            self._kept.move_to_end(digest)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return self._kept[digest]


def _small(store: PictureStore, digest: str) -> bytes:
    image = store.read(digest)
    scale = min(1.0, THUMBNAIL_PX / image.shape[1])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if small.ndim == 3:
        small = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    written, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not written:
        raise CellError("A picture could not be encoded; look for lack of memory")
    return data.tobytes()


def heatmap_url(marks: ViewMarks) -> str:
    """Return a heatmap as a PNG in a data URL: the hotter, the brighter and the less transparent."""
    grey = marks.grey()
    coloured = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)
    alpha = np.clip(grey.astype(np.float32) * (_OPAQUE * 2), 0, 255 * _OPAQUE).astype(np.uint8)
    written, data = cv2.imencode(".png", np.dstack([coloured, alpha]))
    if not written:
        raise CellError("A heatmap could not be encoded; look for lack of memory")
    return f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}"


def frame_size(path: Path) -> tuple[int, int] | None:
    """Return width and height of a PNG from its first bytes, None where the file is gone."""
    try:
        with path.open("rb") as file:
            head = file.read(24)
    except OSError:
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
