"""Defects of a moulded part: from what a production file asks for to one in its place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cell.schema import Defect
from twin.parts.cuts import flash, missing, missing_structure, short_shot
from twin.parts.dents import deformation
from twin.parts.made import MadeDefect
from twin.parts.marks import crack, dot, scratch
from twin.parts.shape import Shape

_TRIES = 200


def make_defect(
    defect: Defect,
    shape: Shape,
    rng: np.random.Generator,
    *,
    seen_by: Callable[[NDArray[np.float64]], int],
) -> MadeDefect | None:
    """Make a defect at a random place that enough views see.

    Parameters
    ----------
    defect : Defect
        Kind, ranges of size and contrast, and how many views must see it.
    shape : Shape
        The part so far.
    rng : numpy.random.Generator
        Source of size, contrast and place.
    seen_by : callable
        From points (N, 3) in mm in the part's frame to the number of views that see them.

    Returns
    -------
    MadeDefect or None
        None for a defect of size 0, which is none.

    Raises
    ------
    ValueError
        No place was found that as many views see.
    """
    size = float(rng.uniform(*defect.size_mm))
    contrast = float(rng.uniform(*defect.contrast))
    if size == 0:
        return None
    for _ in range(_TRIES):
        made = _make(defect, shape, size, contrast, rng)
        if made is not None and seen_by(made.points) >= defect.seen_by:
            return made
    raise ValueError(
        f"no place for a {defect.kind} of {size:.2f} mm that {defect.seen_by} views see was found in {_TRIES} tries"
    )


def _make(defect: Defect, shape: Shape, size: float, contrast: float, rng: np.random.Generator) -> MadeDefect | None:
    match defect.kind:
        case "dot":
            return dot(shape, size, contrast, rng)
        case "scratch":
            return scratch(shape, size, defect.width_mm, contrast, rng)
        case "crack":
            return crack(shape, size, defect.width_mm, contrast, rng)
        case "missing":
            return missing(shape, size, rng)
        case "missing_structure":
            return missing_structure(shape, defect.size_mm, rng)
        case "short_shot":
            return short_shot(shape, size, rng)
        case "flash":
            return flash(shape, size, defect.width_mm, rng)
        case "deformation":
            return deformation(shape, size, defect.width_mm, rng)
