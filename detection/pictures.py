"""Pictures as files and arrays: whatever a camera or an editor wrote becomes H×W×3 uint8 RGB, or an error."""

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.errors import PictureError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})

Image = NDArray[np.uint8]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


def as_rgb(picture: NDArray[Any], *, name: str = "picture") -> Image:
    """Bring a picture to three 8-bit channels.

    Parameters
    ----------
    picture : (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8 or uint16
        Grey, RGB or RGBA. Grey is repeated over the channels, alpha is dropped, 16 bit are divided by 257
        (so that 65535 becomes 255) and rounded.
    name : str
        What to call the picture in an error.

    Returns
    -------
    (H, W, 3) uint8
        RGB; `picture` itself where nothing had to change.

    Raises
    ------
    PictureError
        For any other shape or type, and for a picture without pixels.
    """
    if not isinstance(picture, np.ndarray):
        raise PictureError(f"{name}: is a {type(picture).__name__}, expected an array of pixels; read the file first")
    if picture.dtype not in (np.uint8, np.uint16):
        raise PictureError(f"{name}: pixels are {picture.dtype}, expected uint8 or uint16; convert it first")
    if not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] in (1, 3, 4))):
        raise PictureError(f"{name}: shape is {picture.shape}, expected H×W, H×W×1, H×W×3 or H×W×4")
    if picture.size == 0:
        raise PictureError(f"{name}: shape is {picture.shape}, there are no pixels; capture it again")
    if picture.dtype == np.uint16:
        picture = ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if picture.ndim == 2:
        picture = picture[:, :, np.newaxis]
    if picture.shape[2] == 1:
        return np.repeat(picture, 3, axis=2)
    return np.ascontiguousarray(picture[:, :, :3])


def decode_picture(data: bytes, *, name: str) -> Image:
    """Decode a picture file's bytes.

    Parameters
    ----------
    data : bytes
        PNG, JPEG, BMP or TIFF.
    name : str
        File name, for errors.

    Returns
    -------
    (H, W, 3) uint8
        RGB.

    Raises
    ------
    PictureError
        When the data are no picture, or an incomplete one.

    Notes
    -----
    A PNG carries checksums, so any damage is found. A JPEG does not: wrong bytes in its middle are wrong pixels.
    """
    if not data:
        raise PictureError(f"{name}: the file is empty; copy or capture it again")
    # OpenCV fills what is missing of a truncated file with grey or black and says nothing, so check first.
    if data.startswith(_PNG_SIGNATURE) and not _png_is_whole(data):
        raise PictureError(f"{name}: the PNG is truncated or damaged; copy or capture it again")
    if data.startswith(_JPEG_START) and _JPEG_END not in data[-1024:]:
        raise PictureError(f"{name}: the JPEG is truncated; copy or capture it again")
    try:
        decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise PictureError(f"{name}: not a readable picture ({error.err}); copy or capture it again") from error
    if decoded is None:
        raise PictureError(f"{name}: not a picture that OpenCV can read; use PNG, JPEG, BMP or TIFF")
    pixels: NDArray[Any] = np.asarray(decoded)
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        way = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGB
        pixels = np.asarray(cv2.cvtColor(pixels, way))
    return as_rgb(pixels, name=name)


def read_bytes(path: Path) -> bytes:
    """Read a picture file whole; `PictureError` names it when that fails."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise PictureError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error


def read_picture(path: Path) -> Image:
    """Read a picture file; see `read_bytes` and `decode_picture`."""
    return decode_picture(read_bytes(path), name=str(path))


def read_mask(path: Path, *, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read a mask picture.

    Parameters
    ----------
    path : Path
        Picture in which everything but black is marked.
    shape : (int, int)
        Height and width that the mask must have, those of the picture it belongs to.

    Returns
    -------
    (H, W) bool
        True where marked.

    Raises
    ------
    PictureError
        When the file cannot be read or has another size.
    """
    mask: NDArray[np.bool_] = np.any(read_picture(path) > 0, axis=2)
    if mask.shape != shape:
        raise PictureError(f"{path}: the mask is {mask.shape}, its picture {shape} pixels; export it again")
    return mask


def read_ignored(path: Path | None, *, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Read the pixels to ignore in a picture (see `read_mask`); None where no file names any."""
    return None if path is None else read_mask(path, shape=(shape[0], shape[1]))


def _png_is_whole(data: bytes) -> bool:
    """Whether every chunk up to IEND is there with its right checksum."""
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length
        if end > len(data):
            return False
        kind_and_body = memoryview(data)[position + 4 : end - 4]
        if zlib.crc32(kind_and_body) != struct.unpack_from(">I", data, end - 4)[0]:
            return False
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position = end
    return False
