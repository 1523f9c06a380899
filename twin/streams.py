"""Random numbers by cause."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np


def stream(seed: Sequence[int], cause: str) -> np.random.Generator:
    """Return the generator of one cause.

    Parameters
    ----------
    seed : sequence of int
        Of a part, or of a mould's cavity; non-negative.
    cause : str
        What the numbers are for. Each cause has a stream of its own: where one is left out, or draws more or fewer
        numbers, all others stay bit for bit what they were.
    """
    return np.random.default_rng(np.random.SeedSequence(tuple(seed), spawn_key=(crc32(cause.encode()),)))
