from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detection import PictureError, read_picture
from detection.pictures import as_rgb, decode_picture, read_mask

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def written(path: Path, pixels: NDArray[np.generic]) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def test_rgb_stays() -> None:
    np.testing.assert_array_equal(as_rgb(RGB), RGB)


def test_grey_is_repeated_and_alpha_dropped() -> None:
    grey = RGB[:, :, 0]
    for picture in (grey, grey[:, :, np.newaxis]):
        np.testing.assert_array_equal(as_rgb(picture), np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(as_rgb(np.concatenate([RGB, RGB[:, :, :1]], axis=2)), RGB)


def test_sixteen_bits_are_divided_by_257() -> None:
    deep = np.array([[0, 128, 129, 257, 65535]], dtype=np.uint16)
    np.testing.assert_array_equal(as_rgb(deep)[0, :, 0], [0, 0, 1, 1, 255])
    np.testing.assert_array_equal(as_rgb(RGB.astype(np.uint16) * 257), RGB)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (RGB.astype(np.float32), "pixels are float32"),
        (RGB > 3, "pixels are bool"),
        (RGB[:, :, :2], "shape is"),
        (RGB[np.newaxis], "shape is"),
        (RGB[:0], "no pixels"),
    ],
)
def test_anything_else_is_refused_by_name(picture: NDArray[np.generic], message: str) -> None:
    with pytest.raises(PictureError, match=f"front.png: .*{message}"):
        as_rgb(picture, name="front.png")


def test_files_are_read_as_rgb(tmp_path: Path) -> None:
    bgr = RGB[:, :, ::-1]
    np.testing.assert_array_equal(read_picture(written(tmp_path / "colour.png", bgr)), RGB)
    with_alpha = np.concatenate([bgr, np.full((20, 30, 1), 7, np.uint8)], axis=2)
    np.testing.assert_array_equal(read_picture(written(tmp_path / "alpha.png", with_alpha)), RGB)
    deep = bgr.astype(np.uint16) * 257
    np.testing.assert_array_equal(read_picture(written(tmp_path / "deep.png", deep)), RGB)
    grey = read_picture(written(tmp_path / "grey.png", RGB[:, :, 0]))
    np.testing.assert_array_equal(grey, np.stack([RGB[:, :, 0]] * 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.97])
def test_truncated_files_are_refused_by_name(tmp_path: Path, suffix: str, kept: float) -> None:
    whole = written(tmp_path / f"whole.{suffix}", RGB).read_bytes()
    broken = tmp_path / f"broken.{suffix}"
    broken.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(PictureError, match=f"broken.{suffix}"):
        read_picture(broken)


def test_a_png_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    data = bytearray(written(tmp_path / "a.png", RGB).read_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(PictureError, match=r"x\.png: the PNG is truncated or damaged"):
        decode_picture(bytes(data), name="x.png")


def test_foreign_and_missing_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(PictureError, match=r"text\.png: not a picture"):
        read_picture(tmp_path / "text.png")
    with pytest.raises(PictureError, match=r"none\.png: cannot be read"):
        read_picture(tmp_path / "none.png")


def test_a_mask_must_have_its_pictures_size(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30), dtype=np.uint8)
    pixels[2, 3] = 255
    path = written(tmp_path / "mask.png", pixels)
    np.testing.assert_array_equal(read_mask(path, shape=(20, 30)), pixels > 0)
    with pytest.raises(PictureError, match=r"mask\.png"):
        read_mask(path, shape=(30, 20))
