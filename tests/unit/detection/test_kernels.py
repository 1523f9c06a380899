import os
import subprocess
import sys

COMPARED = """
import numba
import numpy as np
from detection.whitening import leave_one_out, whitening_factors
from detection.mahalanobis import squared_mahalanobis
from detection.moments import Moments

features = np.random.default_rng(0).normal(3, 2, (6, 300, 12)).astype(np.float32)
found = []
for threads in (1, 2, 2):
    numba.set_num_threads(threads)
    moments = Moments.empty(positions=300, dimensions=12)
    moments.update(features)
    factors = whitening_factors(moments, epsilon=0.01)
    squared = np.empty((6, 300), dtype=np.float32)
    squared_mahalanobis(features, moments.mean.astype(np.float32), factors, out=squared)
    left_out = leave_one_out(moments, features, epsilon=0.01)
    found.append((moments.mean, moments.comoment, factors, squared, left_out))
for name, *same in zip(("mean", "comoment", "factors", "squared", "left out"), *found):
    assert all(np.array_equal(same[0], other) for other in same), name
"""


def test_kernels_give_the_same_on_one_thread_and_on_two() -> None:
    # In a process of its own: how many threads there can be is settled when Numba is loaded.
    done = subprocess.run(
        [sys.executable, "-c", COMPARED],
        env=os.environ | {"NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
