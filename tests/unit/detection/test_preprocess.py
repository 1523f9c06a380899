from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detection import ModelError, PictureError
from detection.config import PreprocessConfig
from detection.geometry import Box, Geometry
from detection.outline import find_outline
from detection.preprocess import Reference, make_reference, prepare
from detection.registration import Motion

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


@pytest.mark.parametrize("enlarged", [1, 5])
def test_what_lies_under_a_mask_does_not_move_what_is_registered(enlarged: int) -> None:
    mask = np.zeros((300, 400), dtype=np.bool_)
    mask[150:290, 250:390] = True
    mask = np.kron(mask, np.ones((enlarged, enlarged), dtype=np.bool_))
    rng = np.random.default_rng(1)
    found = []
    for _ in range(2):
        pictures = []
        for down in (0, 2):
            picture = np.kron(frame(top=60 + down), np.ones((enlarged, enlarged, 1), dtype=np.uint8))
            picture[mask] = rng.integers(0, 256, (mask.sum(), 3), dtype=np.uint8)
            pictures.append(picture)
        config = PreprocessConfig()
        reference = make_reference(pictures[0], config=config, mask=mask)
        found.append(prepare(pictures[1], resolution=256, config=config, mask=mask, reference=reference))
        assert not reference.valid.all() and not (reference.shades > 170).any()
    one, two = found
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.valid, two.valid)
    assert (one.geometry, one.quality) == (two.geometry, two.quality)


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
def test_a_pixel_maps_back_to_where_it_came_from(
    top: int, left: int, height: int, width: int, resolution: int, row: float, column: float
) -> None:
    geometry = Geometry((300, 400), Box(top, left, top + height, left + width), resolution)
    y, x = top + int(row * (height - 1)), left + int(column * (width - 1))
    one_pixel = np.zeros((300, 400), dtype=np.bool_)
    one_pixel[y, x] = True
    rows, columns = np.nonzero(geometry.mask_to_grid(one_pixel))
    assert rows.size
    # The grid is finer than the frame here, so what shows the pixel lies within it.
    back = geometry.to_frame(np.column_stack([columns, rows]))
    assert np.abs(back - (x, y)).max() <= 0.5


def test_the_prepared_picture_spans_the_padded_square() -> None:
    geometry = Geometry((100, 100), Box(10, 20, 40, 81), 256)  # 30×61, so 15 rows of padding above
    corners = geometry.to_frame([(-0.5, -0.5), (255.5, 255.5)])
    np.testing.assert_allclose(corners, [(19.5, -5.5), (80.5, 55.5)])


def test_grey_and_deep_frames_are_converted() -> None:
    grey = frame(noise=0)[:, :, 0]
    expected = prepare(frame(noise=0), resolution=256, config=PreprocessConfig())
    for picture in (grey, grey.astype(np.uint16) * 257):
        prepared = prepare(picture, resolution=256, config=PreprocessConfig())
        np.testing.assert_array_equal(prepared.image, expected.image)


def test_the_rings_outline(ring: Callable[..., NDArray[np.uint8]]) -> None:
    box = find_outline(ring(seed=0), classes=2, margin=0)
    assert box.height == pytest.approx(82, abs=2) and box.width == pytest.approx(82, abs=2)


PLAIN = PreprocessConfig(classes=2)


def turned(*, right: float, down: float, degrees: float) -> Motion:
    """A rotation about the frame's middle (300×400), then a shift in pixels."""
    matrix = cv2.getRotationMatrix2D((199.5, 149.5), degrees, 1.0)
    matrix[:, 2] += right, down
    (a, b, x), (c, d, y) = matrix.tolist()
    return (a, b, x), (c, d, y)


def moved(picture: NDArray[np.uint8], motion: Motion) -> NDArray[np.uint8]:
    size = (picture.shape[1], picture.shape[0])
    way, edge = cv2.INTER_CUBIC, cv2.BORDER_REPLICATE
    return np.asarray(cv2.warpAffine(picture, np.array(motion), size, flags=way, borderMode=edge), dtype=np.uint8)


def smooth_frame() -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(frame(noise=0), (0, 0), 1.0), dtype=np.uint8)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(right=st.floats(-4, 4), down=st.floats(-4, 4), degrees=st.floats(-1, 1))
def test_the_crop_is_laid_where_the_part_is(right: float, down: float, degrees: float) -> None:
    motion = turned(right=right, down=down, degrees=degrees)
    reference = make_reference(smooth_frame(), config=PLAIN)
    prepared = prepare(moved(smooth_frame(), motion), resolution=256, config=PLAIN, reference=reference)
    expected = prepare(smooth_frame(), resolution=256, config=PLAIN)
    assert prepared.geometry.box == expected.geometry.box and prepared.geometry.side == expected.geometry.side
    assert prepared.quality is not None and prepared.quality > 0.99
    corners = np.array([[100, 60, 1], [300, 60, 1], [100, 200, 1], [300, 200, 1]])
    off = np.linalg.norm(corners @ (np.array(prepared.geometry.motion) - np.array(motion)).T, axis=1).max()
    assert off * 256 / prepared.geometry.side < 0.15  # a bare rectangle has few edges that tell a rotation
    difference = np.abs(prepared.image.astype(float) - expected.image)[3:-3, 3:-3]
    assert difference.mean() < 0.5 and difference.max() < 25


def test_a_reference_against_itself_is_the_plain_crop() -> None:
    reference = make_reference(frame(), config=PLAIN)
    registered = prepare(frame(), resolution=256, config=PLAIN, reference=reference)
    plain = prepare(frame(), resolution=256, config=PLAIN)
    assert plain.quality is None and registered.quality == pytest.approx(1, abs=1e-6)
    assert np.abs(registered.image.astype(int) - plain.image)[1:-1, 1:-1].max() <= 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    right=st.floats(-6, 6), down=st.floats(-6, 6), degrees=st.floats(-2, 2), top=st.integers(0, 120),
    left=st.integers(0, 120), height=st.integers(40, 150), width=st.integers(40, 250),
    resolution=st.sampled_from([64, 256]), row=st.floats(0, 1), column=st.floats(0, 1),
)  # fmt: skip
def test_a_marked_pixel_maps_to_the_grid_and_back_through_a_motion(
    right: float, down: float, degrees: float, top: int, left: int, height: int, width: int, resolution: int,
    row: float, column: float,
) -> None:  # fmt: skip
    motion, box = turned(right=right, down=down, degrees=degrees), Box(top, left, top + height, left + width)
    geometry = Geometry((300, 400), box, resolution, motion, 280)
    x, y = np.array(motion) @ [left + column * (width - 1), top + row * (height - 1), 1]
    x, y = int(np.clip(round(x), 0, 399)), int(np.clip(round(y), 0, 279))
    mask = np.zeros((300, 400), dtype=np.bool_)
    mask[y, x] = True
    rows, columns = np.nonzero(geometry.mask_to_grid(mask))
    if rows.size:
        reach = 4 * max(1.0, geometry.side / resolution)
        corners = [(columns.min() - 0.5, rows.min() - 0.5), (columns.max() + 0.5, rows.max() + 0.5)]
        first, last = geometry.to_frame(corners)
        assert np.abs(last - first).max() <= reach
        (centre,) = geometry.to_frame([(columns.mean(), rows.mean())])
        assert np.abs(centre - [x, y]).max() <= reach / 2


def test_what_a_motion_takes_from_beyond_the_frame_is_not_valid() -> None:
    geometry = Geometry((300, 400), Box(0, 0, 280, 280), 280, turned(right=0, down=4, degrees=0), 280)
    grid = geometry.mask_to_grid(np.zeros((300, 400), dtype=np.bool_), padding=True)
    assert grid[276:].all() and not grid[:276].any()
    square = geometry.square(frame())
    np.testing.assert_array_equal(square[:276], frame()[4:280, :280])
    np.testing.assert_array_equal(square[276:], np.repeat(frame()[279:280, :280], 4, axis=0))


def test_padding_does_not_move() -> None:
    geometry = Geometry((300, 400), Box(50, 50, 150, 250), 200, turned(right=3, down=2, degrees=1))
    square = geometry.square(frame(), value=9)
    assert (square[:50] == 9).all() and (square[150:] == 9).all() and (square[50:150] != 9).any(axis=(1, 2)).all()
    grid = geometry.mask_to_grid(np.zeros((300, 400), dtype=np.bool_), padding=True)
    assert grid[:50].all() and grid[150:].all() and not grid[50:150].any()


def test_masked_and_cut_pixels_do_not_move_the_crop() -> None:
    reference = make_reference(frame(), config=PLAIN, bottom_share=0.2)
    mask = np.zeros((300, 400), dtype=np.bool_)
    mask[180:, 180:230] = True
    plain = moved(frame(), turned(right=1.4, down=0.6, degrees=0.3))
    disturbed = plain.copy()
    disturbed[mask] = 255
    disturbed[240:] = 200
    first, second = (
        prepare(picture, resolution=256, config=PLAIN, bottom_share=0.2, mask=mask, reference=reference)
        for picture in (plain, disturbed)
    )
    assert first.geometry == second.geometry and first.quality == second.quality
    np.testing.assert_array_equal(first.valid, second.valid)
    apart = cv2.erode(first.valid.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    np.testing.assert_array_equal(first.image[apart], second.image[apart])
    inside = second.geometry.mask_to_grid(mask)
    assert inside.any() and not first.valid[inside].any()


def test_a_defect_does_not_move_the_crop() -> None:
    reference = make_reference(frame(), config=PLAIN)
    motion = turned(right=1.4, down=0.6, degrees=0.3)
    defective = frame()
    defective[60:90, 130:160] = 20
    cv2.line(defective, (220, 150), (290, 180), (250, 250, 250), 2)
    whole, broken = (
        prepare(moved(picture, motion), resolution=256, config=PLAIN, reference=reference)
        for picture in (frame(), defective)
    )
    corners = np.array([[100, 60, 1], [300, 60, 1], [100, 200, 1], [300, 200, 1]])
    moves = [corners @ np.array(one.geometry.motion).T for one in (whole, broken)]
    assert np.abs(moves[0] - moves[1]).max() < 0.5
    assert whole.quality is not None and broken.quality is not None and 0.9 < broken.quality < whole.quality


def test_a_part_at_the_frames_edge_is_registered() -> None:
    edge = frame(top=0, bottom=140, left=0, right=200)
    reference = make_reference(edge, config=PLAIN)
    assert reference.box.top == 0 and reference.box.left == 0
    motion = turned(right=-1.5, down=-1.0, degrees=0.0)
    found = prepare(moved(edge, motion), resolution=256, config=PLAIN, reference=reference).geometry.motion
    np.testing.assert_allclose(found, motion, atol=0.15)


def test_large_frames_are_registered() -> None:
    large, way = (5472, 3648), cv2.INTER_CUBIC
    reference = make_reference(np.asarray(cv2.resize(frame(), large, interpolation=way), np.uint8), config=PLAIN)
    motion = turned(right=1.25, down=-0.5, degrees=0.25)
    picture = np.asarray(cv2.resize(moved(frame(), motion), large, interpolation=way), np.uint8)
    prepared = prepare(picture, resolution=256, config=PLAIN, reference=reference)
    scale = np.array([large[0] / 400, large[1] / 300])
    part = np.array([[100, 60], [300, 60], [100, 200], [300, 200]])
    homogeneous = np.ones((4, 1))
    expected = (np.hstack([part, homogeneous]) @ np.array(motion).T + 0.5) * scale - 0.5
    found = np.hstack([(part + 0.5) * scale - 0.5, homogeneous]) @ np.array(prepared.geometry.motion).T
    # The scales differ a little, so a rotation of the small frame is not quite one of the large.
    assert np.abs(found - expected).max() * 256 / prepared.geometry.side < 0.3


def test_pictures_that_cannot_be_registered_are_refused() -> None:
    reference = make_reference(frame(), config=PLAIN)
    empty = np.clip(np.random.default_rng(0).normal(20, 3, (300, 400, 3)), 0, 255).astype(np.uint8)
    black = np.zeros((300, 400, 3), dtype=np.uint8)
    for picture, problem in ((empty, "check that this part is there"), (black, "the same brightness")):
        with pytest.raises(PictureError, match=f"view 3: .*{problem}"):
            prepare(picture, resolution=256, config=PLAIN, reference=reference, name="view 3")
    with pytest.raises(PictureError, match=r"view 3: \(150, 200\) pixels, the view's reference has \(300, 400\)"):
        prepare(frame()[::2, ::2], resolution=256, config=PLAIN, reference=reference, name="view 3")


def test_a_reference_survives_its_file(tmp_path: Path) -> None:
    reference = make_reference(frame(), config=PLAIN, bottom_share=0.1)
    reference.write(tmp_path / "reference.safetensors")
    read = Reference.read(tmp_path / "reference.safetensors")
    assert (read.frame_shape, read.box) == (reference.frame_shape, reference.box)
    np.testing.assert_array_equal(read.shades, reference.shades)
    np.testing.assert_array_equal(read.valid, reference.valid)


def test_a_foreign_reference_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    with pytest.raises(ModelError, match=r"reference\.safetensors"):
        Reference.read(path)
    whole = make_reference(frame(), config=PLAIN)
    Reference((300, 400), Box(0, 0, 301, 400), whole.shades, whole.valid).write(path)
    with pytest.raises(ModelError, match=r"reference\.safetensors: .* is no box"):
        Reference.read(path)
