import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detection import PictureError
from detection.registration import Motion, register

SIDE = 256
STEADY = settings(max_examples=25, deadline=None, derandomize=True)
EVERYWHERE = np.ones((SIDE, SIDE), dtype=np.bool_)


def tabbed_ring(*, missing: bool = False) -> NDArray[np.float32]:
    """A smooth bright ring with a few tabs on a dark background, 256×256; `missing` takes one tab away."""
    picture = np.full((SIDE, SIDE), 15, dtype=np.float32)
    cv2.ellipse(picture, (128, 130), (95, 70), 20, 0, 360, 170, 12, cv2.LINE_AA)
    for number, degrees in enumerate((10, 80, 130, 200, 290)):
        if missing and number == 1:
            continue
        angle = np.radians(degrees)
        cv2.circle(picture, (128 + round(80 * np.cos(angle)), 130 + round(58 * np.sin(angle))), 6, 120, -1)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.2), dtype=np.float32)


def seen(picture: NDArray[np.float32], *, seed: int, light: float = 1.0, noise: float = 1.5) -> NDArray[np.uint8]:
    values = picture * light + np.random.default_rng(seed).normal(0, noise, picture.shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def moved(picture: NDArray[np.float32], *, right: float, down: float, degrees: float) -> NDArray[np.float32]:
    matrix = cv2.getRotationMatrix2D((127.5, 127.5), degrees, 1.0)
    matrix[:, 2] += right, down
    way = cv2.INTER_LANCZOS4
    return np.asarray(cv2.warpAffine(picture, matrix, (SIDE, SIDE), flags=way, borderValue=15), dtype=np.float32)


def farthest_error(motion: Motion, *, right: float, down: float, degrees: float) -> float:
    """Largest distance in pixels between where two motions take the corners of the part's box."""
    true = cv2.getRotationMatrix2D((127.5, 127.5), degrees, 1.0)
    true[:, 2] += right, down
    corners = np.array([[33, 60, 1], [33, 200, 1], [223, 60, 1], [223, 200, 1]])
    return float(np.linalg.norm(corners @ (np.array(motion) - true).T, axis=1).max())


REFERENCE = seen(tabbed_ring(), seed=1)


def registered(
    picture: NDArray[np.uint8], *, valid: NDArray[np.bool_] = EVERYWHERE, min_quality: float = 0.9
) -> tuple[Motion, float]:
    return register(
        REFERENCE,
        picture,
        reference_valid=EVERYWHERE,
        picture_valid=valid,
        min_quality=min_quality,
        name="view 3",
    )


@STEADY
@given(
    right=st.floats(-5, 5), down=st.floats(-5, 5), degrees=st.floats(-1.5, 1.5), light=st.floats(0.8, 1.2),
    seed=st.integers(2, 1000),
)  # fmt: skip
def test_known_motions_are_found(right: float, down: float, degrees: float, light: float, seed: int) -> None:
    picture = seen(moved(tabbed_ring(), right=right, down=down, degrees=degrees), seed=seed, light=light)
    motion, quality = registered(picture)
    assert farthest_error(motion, right=right, down=down, degrees=degrees) < 0.1
    assert 0.99 < quality <= 1


@STEADY
@given(angle=st.floats(0, 360), seed=st.integers(2, 1000))
def test_a_defective_part_is_registered_with_less_quality(angle: float, seed: int) -> None:
    part = tabbed_ring(missing=True)
    where = (128 + round(95 * np.cos(np.radians(angle))), 130 + round(70 * np.sin(np.radians(angle))))
    cv2.circle(part, where, 5, 10, -1)
    cv2.line(part, where, (where[0] + 30, where[1] + 12), 240, 1, cv2.LINE_AA)
    motion, quality = registered(seen(moved(part, right=1.3, down=-0.6, degrees=0.4), seed=seed))
    assert farthest_error(motion, right=1.3, down=-0.6, degrees=0.4) < 0.5
    *_, whole = registered(seen(moved(tabbed_ring(), right=1.3, down=-0.6, degrees=0.4), seed=seed))
    assert 0.9 < quality < whole


def test_quality_falls_with_damage() -> None:
    qualities = []
    for radius in (0, 6, 12, 24):
        part = tabbed_ring()
        if radius:
            cv2.circle(part, (200, 170), radius, 15, -1)
        *_, quality = registered(seen(part, seed=5), min_quality=0)
        qualities.append(quality)
    assert qualities == sorted(qualities, reverse=True) and qualities[0] - qualities[-1] > 0.01


def test_a_picture_of_itself_has_not_moved() -> None:
    motion, quality = registered(REFERENCE)
    np.testing.assert_allclose(motion, [[1, 0, 0], [0, 1, 0]], atol=1e-4)
    assert quality == pytest.approx(1, abs=1e-6)


def test_masked_pixels_have_no_influence() -> None:
    valid = EVERYWHERE.copy()
    valid[150:, 90:180] = False
    plain = seen(moved(tabbed_ring(), right=0.7, down=1.2, degrees=0.2), seed=3)
    gripper = plain.copy()
    gripper[~valid] = np.random.default_rng(0).integers(0, 256, np.count_nonzero(~valid))
    assert registered(gripper, valid=valid) == registered(plain, valid=valid)
    motion, _ = registered(gripper, valid=valid)
    assert farthest_error(motion, right=0.7, down=1.2, degrees=0.2) < 0.1


def test_what_the_reference_does_not_know_has_no_influence() -> None:
    valid = EVERYWHERE.copy()
    valid[:60] = False
    picture = seen(moved(tabbed_ring(), right=-0.4, down=0.3, degrees=0.1), seed=3)
    found = []
    for value in (0, 255):
        reference = REFERENCE.copy()
        reference[~valid] = value
        found.append(register(reference, picture, reference_valid=valid, picture_valid=EVERYWHERE, min_quality=0.9))
    assert found[0] == found[1]


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_constant_picture_is_refused(level: int) -> None:
    with pytest.raises(PictureError, match=r"view 3: every pixel has the same brightness"):
        registered(np.full((SIDE, SIDE), level, dtype=np.uint8))


def test_a_wholly_masked_picture_is_refused() -> None:
    with pytest.raises(PictureError, match=r"view 3: nothing that is not masked"):
        registered(REFERENCE, valid=~EVERYWHERE)


@STEADY
@given(seed=st.integers(0, 1000))
def test_noise_is_refused(seed: int) -> None:
    with pytest.raises(PictureError, match="view 3: "):
        registered(np.random.default_rng(seed).integers(0, 30, (SIDE, SIDE), dtype=np.uint8))


def test_another_view_of_the_part_is_refused() -> None:
    turned = np.ascontiguousarray(cv2.resize(REFERENCE[:, 60:190], (SIDE, SIDE)))
    with pytest.raises(PictureError, match=r"view 3: .*check that this part is there"):
        registered(turned)


def test_a_part_far_from_its_place_is_refused() -> None:
    with pytest.raises(PictureError, match="away from the reference"):
        registered(seen(moved(tabbed_ring(), right=16, down=0, degrees=0), seed=3))


def test_a_low_quality_names_the_setting() -> None:
    damaged = seen(tabbed_ring(missing=True), seed=3)
    with pytest.raises(PictureError, match=r"quality 0\.9\d+, at least 1\.000 .*preprocess\.registration_quality"):
        registered(damaged, min_quality=1.0)
