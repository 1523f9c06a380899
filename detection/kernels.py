"""How the numerical kernels are compiled, said once."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

CHUNKS = 64  # of positions that share one work buffer: enough to keep every core busy, few enough to be cheap

_Function = TypeVar("_Function", bound=Callable[..., object])


def parallel_kernel(function: _Function) -> _Function:
    """Compile `function` with Numba, its `numba.prange` loops on all cores.

    Sums may be reassociated, so that they vectorise; NaN and infinity keep their meaning. The machine code is
    cached beside the module (or in the user's cache folder), so it is compiled once on each machine.
    """
    compile_ = numba.njit(parallel=True, cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
    return cast(_Function, compile_(function))
