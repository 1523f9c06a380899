from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detection import PictureError
from detection.config import PreprocessConfig
from detection.preprocess import Box, Geometry, find_outline, prepare

NO_CROP = PreprocessConfig(crop="none")


def frame(
    *, top: int = 60, left: int = 100, bottom: int = 200, right: int = 300, noise: float = 3.0
) -> NDArray[np.uint8]:
    """A bright rectangle on a dark background, 300×400."""
    picture = np.full((300, 400, 3), 20.0)
    picture[top:bottom, left:right] = 160
    picture[top + 20 : top + 40, left + 20 : right - 20] = 90
    picture += np.random.default_rng(0).normal(0, noise, picture.shape)
    result: NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    return result


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_the_outline_is_the_parts(classes: int, noise: float) -> None:
    assert find_outline(frame(noise=noise), classes=classes, margin=0) == Box(60, 100, 200, 300)


def test_the_outline_follows_the_part() -> None:
    moved = frame(top=70, bottom=210, left=150, right=350)
    assert find_outline(moved, margin=0) == Box(70, 150, 210, 350)


def test_the_margin_is_a_share_of_the_longer_side_within_the_frame() -> None:
    assert find_outline(frame(), margin=0.1) == Box(40, 80, 220, 320)
    assert find_outline(frame(), margin=0.5) == Box(0, 0, 300, 400)


def test_dust_does_not_widen_the_outline() -> None:
    dusty = frame()
    dusty[280:284, 380:384] = 255
    assert find_outline(dusty, margin=0) == Box(60, 100, 200, 300)


def test_a_gradient_in_the_background_is_not_the_part() -> None:
    # Without noise the darkest of three classes is only a part of the background here.
    picture = frame(noise=0)
    ramp = np.linspace(0, 45, 400).astype(np.uint8)[np.newaxis, :, np.newaxis]
    picture = np.where(picture < 50, ramp, picture).astype(np.uint8)
    picture[:2] = 35
    picture[-2:] = 35
    picture[:, :2] = 35
    assert find_outline(picture, classes=4, margin=0) == Box(60, 100, 200, 300)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_constant_picture_has_no_outline(level: int) -> None:
    picture = np.full((300, 400, 3), level, dtype=np.uint8)
    with pytest.raises(PictureError, match=r"view 3: every pixel has the same brightness"):
        prepare(picture, resolution=256, config=PreprocessConfig(), name="view 3")


def test_an_outline_as_large_as_the_frame_is_refused() -> None:
    picture = np.full((300, 400, 3), 200, dtype=np.uint8)
    picture[100:200, 100:300] = 20  # a dark part on a bright background
    with pytest.raises(PictureError, match="as large as the picture"):
        find_outline(picture, classes=2)


def test_large_frames_are_outlined_to_a_few_pixels() -> None:
    large = cv2.resize(frame(), (4000, 3000), interpolation=cv2.INTER_NEAREST)
    box = find_outline(np.asarray(large, dtype=np.uint8), margin=0)
    found, expected = np.array([box.top, box.left, box.bottom, box.right]), np.array([600, 1000, 2000, 3000])
    assert np.abs(found - expected).max() <= 4


def test_whole_pipeline_against_plain_steps() -> None:
    picture = frame(bottom=280)
    prepared = prepare(picture, resolution=256, config=PreprocessConfig(margin=0, pad_value=9), bottom_share=0.2)
    assert prepared.geometry.box == Box(60, 100, 240, 300)  # cut at row 300·0.8
    square = np.full((200, 200, 3), 9, dtype=np.uint8)
    square[10:190] = picture[60:240, 100:300]
    expected = cv2.resize(square, (256, 256), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(prepared.image, expected)
    rows = np.flatnonzero(prepared.valid.any(axis=1))
    assert prepared.valid.any(axis=1).sum() == rows[-1] - rows[0] + 1
    assert (rows[0], rows[-1]) == (13, 242)  # 12.8 … 243.2 of 256 rows, whole ones only
    assert prepared.valid[rows[0] : rows[-1] + 1].all()


def test_bright_rows_that_are_cut_do_not_move_the_outline() -> None:
    picture = frame()
    picture[270:] = 200
    prepared = prepare(picture, resolution=256, config=PreprocessConfig(margin=0), bottom_share=0.1)
    assert prepared.geometry.box == Box(60, 100, 200, 300)


def test_without_a_crop_the_frame_is_padded_in_the_middle() -> None:
    prepared = prepare(frame(), resolution=256, config=NO_CROP)
    assert prepared.geometry.box == Box(0, 0, 300, 400)
    assert prepared.geometry.offset == (50, 0)
    assert not prepared.valid[:32].any() and prepared.valid[32:224].all() and not prepared.valid[224:].any()
    assert (prepared.image[:31] == 0).all()


def test_a_square_of_the_networks_size_is_left_alone() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    prepared = prepare(picture, resolution=256, config=NO_CROP)
    np.testing.assert_array_equal(prepared.image, picture)
    assert prepared.valid.all()


def test_masked_pixels_are_not_valid() -> None:
    mask = np.zeros((300, 400), dtype=np.bool_)
    mask[100:140, 200:240] = True
    prepared = prepare(frame(), resolution=256, config=NO_CROP, mask=mask)
    expected = prepare(frame(), resolution=256, config=NO_CROP).valid & ~prepared.geometry.mask_to_grid(mask)
    np.testing.assert_array_equal(prepared.valid, expected)
    assert (~prepared.valid[32:224]).sum() == pytest.approx(40 * 40 * 0.64**2, rel=0.1)


@pytest.mark.parametrize("config", [NO_CROP, PreprocessConfig(), PreprocessConfig(classes=2, pad_value=200)])
@pytest.mark.parametrize("enlarged", [1, 5])
def test_what_lies_under_a_mask_changes_nothing(config: PreprocessConfig, enlarged: int) -> None:
    mask = np.zeros((300, 400), dtype=np.bool_)
    mask[150:290, 250:390] = True  # over the part's edge, and beside it
    mask = np.kron(mask, np.ones((enlarged, enlarged), dtype=np.bool_))
    plain = np.kron(frame(), np.ones((enlarged, enlarged, 1), dtype=np.uint8))
    other = plain.copy()
    rng = np.random.default_rng(1)
    other[mask] = rng.integers(0, 256, (mask.sum(), 3), dtype=np.uint8)
    before = other.copy()
    one, two = (prepare(p, resolution=256, config=config, mask=mask, bottom_share=0.05) for p in (plain, other))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.valid, two.valid)
    assert one.geometry == two.geometry
    np.testing.assert_array_equal(other, before)


def test_a_bright_gripper_under_the_mask_does_not_move_the_outline() -> None:
    picture, mask = frame(), np.zeros((300, 400), dtype=np.bool_)
    mask[210:, 120:180] = True
    picture[mask] = 180
    assert find_outline(picture, margin=0) != Box(60, 100, 200, 300)
    assert find_outline(picture, mask, margin=0) == Box(60, 100, 200, 300)


def test_a_mask_is_no_class_of_brightness() -> None:
    # Black beside grey would be two of the three classes, and all that is not masked the outline.
    picture, mask = frame(), np.zeros((300, 400), dtype=np.bool_)
    picture[picture < 50] += 45
    mask[:, 310:] = True
    assert find_outline(picture, mask, margin=0) == Box(60, 100, 200, 300)


@pytest.mark.parametrize("config", [NO_CROP, PreprocessConfig()])
def test_a_wholly_masked_picture_is_refused(config: PreprocessConfig) -> None:
    mask = np.ones((300, 400), dtype=np.bool_)
    mask[280:] = False  # in the rows that are cut anyway
    with pytest.raises(PictureError, match="view 3: every pixel is masked"):
        prepare(frame(), resolution=256, config=config, mask=mask, bottom_share=0.1, name="view 3")


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(PictureError, match="the mask is"):
        prepare(frame(), resolution=256, config=NO_CROP, mask=np.zeros((3, 4), dtype=np.bool_))


def test_a_truth_mask_lands_where_the_picture_shows_it() -> None:
    truth = np.zeros((300, 400), dtype=np.bool_)
    truth[150:160, 250:256] = True
    picture = frame()
    picture[truth] = 255
    prepared = prepare(picture, resolution=256, config=PreprocessConfig())
    grid = prepared.geometry.mask_to_grid(truth)
    bright = prepared.image.min(axis=2) > 230
    assert bright.any() and (grid[bright]).all()


def test_a_thin_scratch_survives_a_strong_reduction() -> None:
    truth = np.zeros((3000, 3000), dtype=np.bool_)
    truth[500:2500, 1234] = True
    grid = Geometry((3000, 3000), Box(0, 0, 3000, 3000), 256).mask_to_grid(truth)
    assert grid.any(axis=1).sum() == pytest.approx(2000 * 256 / 3000, abs=2)


@given(
    top=st.integers(0, 250), left=st.integers(0, 350), height=st.integers(1, 50), width=st.integers(1, 50),
    resolution=st.sampled_from([256, 512]), row=st.floats(0, 1), column=st.floats(0, 1),
)  # fmt: skip
def test_a_box_maps_back_to_where_it_came_from(
    top: int, left: int, height: int, width: int, resolution: int, row: float, column: float
) -> None:
    geometry = Geometry((300, 400), Box(top, left, top + height, left + width), resolution)
    y, x = top + int(row * (height - 1)), left + int(column * (width - 1))
    one_pixel = np.zeros((300, 400), dtype=np.bool_)
    one_pixel[y, x] = True
    rows, columns = np.nonzero(geometry.mask_to_grid(one_pixel))
    if rows.size:
        back = geometry.box_in_frame(Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1))
        assert back.top <= y < back.bottom and back.left <= x < back.right
        assert back.height <= 3 and back.width <= 3


def test_grey_and_deep_frames_are_converted() -> None:
    grey = frame(noise=0)[:, :, 0]
    expected = prepare(frame(noise=0), resolution=256, config=PreprocessConfig())
    for picture in (grey, grey.astype(np.uint16) * 257):
        prepared = prepare(picture, resolution=256, config=PreprocessConfig())
        np.testing.assert_array_equal(prepared.image, expected.image)


def test_the_rings_outline(ring: Callable[..., NDArray[np.uint8]]) -> None:
    box = find_outline(ring(seed=0), classes=2, margin=0)
    assert box.height == pytest.approx(82, abs=2) and box.width == pytest.approx(82, abs=2)
