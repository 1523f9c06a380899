import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detection import Location, locate
from detection.config import PreprocessConfig
from detection.geometry import Box, Geometry
from detection.preprocess import prepare

WHOLE = Geometry((64, 64), Box(0, 0, 64, 64), 64)
ALL_VALID = np.ones((64, 64), dtype=np.bool_)


def heatmap_with(*blobs: tuple[slice, slice, float]) -> NDArray[np.float32]:
    heatmap = np.ones((64, 64), dtype=np.float32)
    for rows, columns, value in blobs:
        heatmap[rows, columns] = value
    return heatmap


def only(locations: tuple[Location, ...]) -> Location:
    (location,) = locations
    return location


def test_nothing_reaches_the_threshold() -> None:
    assert locate(heatmap_with(), ALL_VALID, threshold=1.001, geometry=WHOLE) == ()


def test_a_rectangle_is_found_to_the_pixel() -> None:
    heatmap = heatmap_with((slice(10, 13), slice(20, 25), 5))
    heatmap[11, 23] = 6
    found = only(locate(heatmap, ALL_VALID, threshold=5, geometry=WHOLE))
    assert found.box == Box(10, 20, 13, 25)
    assert (found.peak, found.peak_at) == (6, (23, 11))
    assert found.area_px == pytest.approx(15)
    assert {(x, y) for x, y in found.contour.tolist()} == {(19.5, 9.5), (24.5, 9.5), (24.5, 12.5), (19.5, 12.5)}


def test_a_threshold_just_above_a_pixel_is_not_reached() -> None:
    heatmap = heatmap_with((slice(3, 4), slice(3, 4), 5.1))
    value = float(heatmap[3, 3])
    assert len(locate(heatmap, ALL_VALID, threshold=value, geometry=WHOLE)) == 1
    assert locate(heatmap, ALL_VALID, threshold=float(np.nextafter(value, np.inf)), geometry=WHOLE) == ()


def test_the_largest_peak_comes_first() -> None:
    blobs = [(slice(5 * i, 5 * i + 3), slice(7, 9), value) for i, value in enumerate((3.0, 9.0, 6.0))]
    found = locate(heatmap_with(*blobs), ALL_VALID, threshold=2, geometry=WHOLE)
    assert [location.peak for location in found] == [9, 6, 3]
    assert [location.box.top for location in found] == [5, 10, 0]


def test_corners_connect_and_invalid_pixels_separate() -> None:
    heatmap = heatmap_with((slice(10, 12), slice(10, 12), 5), (slice(12, 14), slice(12, 14), 5))
    assert only(locate(heatmap, ALL_VALID, threshold=5, geometry=WHOLE)).box == Box(10, 10, 14, 14)
    valid = ALL_VALID.copy()
    valid[12] = False
    assert [found.box for found in locate(heatmap, valid, threshold=5, geometry=WHOLE)] == [
        Box(10, 10, 12, 12),
        Box(13, 12, 14, 14),
    ]


def test_a_scratch_one_pixel_wide_has_an_area_and_a_ring_no_inner_contour() -> None:
    scratch = only(locate(heatmap_with((slice(7, 8), slice(3, 30), 5)), ALL_VALID, threshold=5, geometry=WHOLE))
    assert cv2.contourArea(scratch.contour.astype(np.float32)) == scratch.area_px == 27
    ring = heatmap_with((slice(10, 20), slice(10, 20), 5), (slice(12, 18), slice(12, 18), 0))
    found = only(locate(ring, ALL_VALID, threshold=5, geometry=WHOLE))
    assert cv2.contourArea(found.contour.astype(np.float32)) == 100
    assert found.area_px == pytest.approx(64)


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.02, 0.6))
def test_locations_are_the_pixels_that_reach_the_threshold(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    heatmap, valid = rng.random((64, 64)).astype(np.float32), rng.random((64, 64)) < 0.9
    found = locate(heatmap, valid, threshold=1 - share, geometry=WHOLE)
    reached = (heatmap.astype(np.float64) >= 1 - share) & valid
    assert sum(location.area_px for location in found) == pytest.approx(reached.sum())
    assert [location.peak for location in found] == sorted((location.peak for location in found), reverse=True)
    for location in found:
        box = location.box
        x, y = location.peak_at
        assert heatmap[int(y), int(x)] == location.peak == (heatmap * reached)[int(y), int(x)]
        assert box.left <= x < box.right and box.top <= y < box.bottom
        assert reached[box.top : box.bottom, box.left : box.right].any(axis=1).all()
        assert reached[box.top : box.bottom, box.left : box.right].any(axis=0).all()


@settings(deadline=None)
@given(
    height=st.integers(40, 500), width=st.integers(40, 500), bottom_share=st.floats(0, 0.4),
    row=st.floats(0, 1), column=st.floats(0, 1), tall=st.integers(1, 12), wide=st.integers(1, 12),
    margins=st.tuples(*[st.integers(0, 15)] * 3), resolution=st.sampled_from([32, 64, 100]),
)  # fmt: skip
def test_a_blob_of_the_frame_is_found_where_it_is(
    height: int, width: int, bottom_share: float, row: float, column: float, tall: int, wide: int,
    margins: tuple[int, int, int], resolution: int,
) -> None:  # fmt: skip
    kept_rows = height - round(height * bottom_share)
    kept = Box(margins[0], margins[1], kept_rows, width - margins[2])
    top, left = kept.top + int(row * (kept.height - 1)), kept.left + int(column * (kept.width - 1))
    blob = np.zeros((height, width), dtype=np.bool_)
    blob[top : min(top + tall, kept.bottom), left : min(left + wide, kept.right)] = True
    geometry = Geometry((height, width), kept, resolution)
    valid = ~geometry.mask_to_grid(np.zeros_like(blob), padding=True)
    heatmap = geometry.mask_to_grid(blob).astype(np.float32) * 7
    if not ((heatmap > 0) & valid).any():
        return  # it lies in the rim of which a pixel of the heatmap shows padding, too
    found = only(locate(heatmap, valid, threshold=7, geometry=geometry))

    one_pixel = max(1.0, geometry.side / resolution)  # of the heatmap, in the frame
    rows, columns = np.nonzero(blob)
    seen = np.array([found.box.top, found.box.left, found.box.bottom, found.box.right])
    real = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
    assert np.abs(seen - real).max() <= one_pixel + 1
    x, y = found.peak_at
    assert rows.min() - one_pixel <= y <= rows.max() + one_pixel
    assert columns.min() - one_pixel <= x <= columns.max() + one_pixel
    assert kept.top <= found.box.top < found.box.bottom <= kept.bottom
    assert kept.left <= found.box.left < found.box.right <= kept.right
    assert (found.contour >= (kept.left, kept.top)).all()
    assert (found.contour <= (kept.right - 1, kept.bottom - 1)).all()


@pytest.mark.parametrize("shape", [(300, 401), (411, 203)])
def test_a_dot_in_a_prepared_picture_is_found_in_the_frame(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 10, dtype=np.uint8)
    picture[40:200, 30:170] = 120
    picture[91:97, 71:75] = 255
    config = PreprocessConfig(classes=2)
    prepared = prepare(picture, resolution=128, config=config, bottom_share=0.15)
    heatmap = prepared.image.astype(np.float32).mean(axis=2)
    found = only(locate(heatmap, prepared.valid, threshold=190, geometry=prepared.geometry))
    scale = prepared.geometry.side / 128
    x, y = found.peak_at
    assert 71 - scale <= x <= 74 + scale and 91 - scale <= y <= 96 + scale
    assert found.area_px == pytest.approx(24, rel=0.5)
    assert found.contour.mean(axis=0) == pytest.approx((72.5, 93.5), abs=scale)
