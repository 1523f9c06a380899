"""How a part lies in a picture against a reference picture of the same view, to hundredths of a pixel."""

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.errors import PictureError

Motion = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Rows of a 2×3 matrix that takes (x, y, 1), a pixel's centre in the reference, to (x, y) in a picture."""

_ITERATIONS, _PRECISION = 50, 1e-6  # until the correlation grows by less than this
_BLUR = 5  # side in pixels of the Gaussian filter before gradients are taken
_REACH = 2 * (_BLUR // 2 + 2) + 1  # side of what one pixel influences: that filter, the gradient, the interpolation
_FARTHEST = 0.05  # no corner of the picture moves farther, as a share of its side
_CHECK = "check that this part is there, held as in training, in this view and light"


def register(
    reference: NDArray[np.uint8],
    picture: NDArray[np.uint8],
    *,
    reference_valid: NDArray[np.bool_],
    picture_valid: NDArray[np.bool_],
    min_quality: float,
    name: str = "picture",
) -> tuple[Motion, float]:
    """Find shift and rotation between two pictures of one view.

    Parameters
    ----------
    reference, picture : (S, S) uint8
        Grey. Both show the same window of the frame.
    reference_valid, picture_valid : (S, S) bool
        Pixels that count; the others have no influence.
    min_quality : float
        Lowest quality that is accepted, 0 to 1.
    name : str
        What to call the picture in an error.

    Returns
    -------
    motion : Motion
        From the reference's pixels to the picture's.
    quality : float
        Correlation of the two over the pixels that are valid in both, once aligned: 1 when they differ by noise,
        brightness and contrast at most.

    Raises
    ------
    PictureError
        When nothing is left to compare, the picture is constant, the search finds no way up, the part lies
        implausibly far from the reference's place (more than a twentieth of the side), or the quality is too low.

    Notes
    -----
    Evangelidis, Psarakis, *Parametric image alignment using enhanced correlation coefficient maximization*, 2008,
    started at no motion: parts moved by a twentieth of the side are still found. A defect is a small part of
    what is compared: it lowers the quality more than it moves the result.
    """
    compared = picture[picture_valid & reference_valid]
    if compared.size == 0:
        raise PictureError(f"{name}: nothing that is not masked can be compared with the reference; check the mask")
    if compared.min() == compared.max():
        raise PictureError(f"{name}: every pixel has the same brightness; check the light, exposure and lens cap")
    try:
        quality, found = cv2.findTransformECCWithMask(
            reference,
            picture,
            _far_from_invalid(reference_valid),
            _far_from_invalid(picture_valid),
            np.eye(2, 3, dtype=np.float32),
            cv2.MOTION_EUCLIDEAN,
            (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, _ITERATIONS, _PRECISION),
            _BLUR,
        )
    except cv2.error as error:
        raise PictureError(
            f"{name}: cannot be registered, it has nothing in common with the reference; {_CHECK}"
        ) from error
    matrix = np.asarray(found, dtype=np.float64)
    last = len(reference) - 1
    corners = np.array([[0, 0], [0, last], [last, 0], [last, last]], dtype=np.float64)
    moved = np.linalg.norm(corners @ matrix[:, :2].T + matrix[:, 2] - corners, axis=1).max() / len(reference)
    if not moved <= _FARTHEST:
        raise PictureError(
            f"{name}: the part seems to lie {moved:.0%} of the picture's side away from the reference, at most "
            f"{_FARTHEST:.0%} is plausible; {_CHECK}"
        )
    if not quality >= min_quality:
        raise PictureError(
            f"{name}: registered with quality {quality:.3f}, at least {min_quality:.3f} is asked "
            f"(preprocess.registration_quality); {_CHECK}"
        )
    (a, b, right), (c, d, down) = matrix.tolist()
    return ((a, b, right), (c, d, down)), min(float(quality), 1.0)


def _far_from_invalid(valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.asarray(cv2.erode(valid.astype(np.uint8), np.ones((_REACH, _REACH), np.uint8)), dtype=np.uint8)
