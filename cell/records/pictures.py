"""Pictures as lossless files that are named by the hash of their bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cell.interfaces import CellError
from cell.records.files import INCOMING, make_folder, write_durably
from detection import PictureError
from detection.pictures import decode_picture

# Of the lossless codings that any tool reads this is the fastest and nearly the smallest: each row minus the one
# above, then runs and Huffman codes, without a search for repetitions, which noise does not have.
_PNG_FAST = [
    cv2.IMWRITE_PNG_COMPRESSION,
    1,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER,
    cv2.IMWRITE_PNG_FILTER_UP,
]


@dataclass(frozen=True)
class StoredPicture:
    """A file of the store: the SHA-256 of its bytes, and how many they are."""

    hash: str
    bytes: int


class PictureStore:
    """A folder of pictures.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Make the folder; raises `OSError`."""
        make_folder(self.folder / INCOMING)

    def path(self, digest: str) -> Path:
        """Return where the picture of that hash lies."""
        return self.folder / digest[:2] / f"{digest}.png"

    def put(self, image: NDArray[np.uint8]) -> StoredPicture:
        """Store a picture, safe from a loss of power when this returns.

        Parameters
        ----------
        image : (H, W, 3) or (H, W) uint8
            RGB or grey.

        Raises
        ------
        OSError
            The disk is full, or the folder cannot be written.
        """
        data = encode(image)
        digest = hashlib.sha256(data).hexdigest()
        write_durably(self.path(digest), data, root=self.folder)
        return StoredPicture(digest, len(data))

    def intact(self, digest: str) -> bool:
        """Whether the file is there and its bytes have the hash that is its name."""
        try:
            with self.path(digest).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == digest
        except OSError:
            return False

    def read(self, digest: str) -> NDArray[np.uint8]:
        """Read a picture back.

        Returns
        -------
        (H, W, 3) or (H, W) uint8
            As it was put.

        Raises
        ------
        CellError
            It is missing or damaged.
        """
        if not self.intact(digest):
            raise CellError(f"{self.path(digest)}: is missing or damaged; restore it from a copy of the pictures")
        data = self.path(digest).read_bytes()
        grey = data[_PNG_COLOUR_TYPE] == 0
        try:
            image = decode_picture(data, name=str(self.path(digest)))
        except PictureError as error:
            raise CellError(str(error)) from error
        return np.ascontiguousarray(image[..., 0]) if grey else image


_PNG_COLOUR_TYPE = 25
"""Where a PNG file says whether it is grey (0) or RGB (2)."""


def encode(image: NDArray[np.uint8]) -> memoryview:
    """Encode a picture, (H, W, 3) or (H, W) uint8, as PNG."""
    stored = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    written, data = cv2.imencode(".png", stored, _PNG_FAST)
    if not written:
        raise OSError("a picture could not be encoded; look for lack of memory")
    return memoryview(np.asarray(data, np.uint8).data).cast("B")
