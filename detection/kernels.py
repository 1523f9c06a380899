"""How the numerical kernels are compiled, said once."""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import numba

CHUNKS = 64  # of positions that share one work buffer: enough to keep every core busy, few enough to be cheap

_Function = TypeVar("_Function", bound=Callable[..., object])

_FASTMATH = {"reassoc", "contract", "nsz"}
_one_at_a_time = threading.Lock()


def parallel_kernel(function: _Function, signatures: Sequence[str] = ()) -> _Function:
    """Compile `function` with Numba, its `numba.prange` loops on all cores; threads that call it take turns.

    Sums may be reassociated, so that they vectorise; NaN and infinity keep their meaning. The machine code is
    cached beside the module (or in the user's cache folder), so it is compiled once on each machine: for `signatures`
    when the module is imported, so that no part waits for it, and for other arguments when they come. That starts
    OpenMP's threads, after which a process may start others by spawning, not by forking.
    """
    compiled = numba.njit(parallel=True, cache=True, nogil=True, fastmath=_FASTMATH)(function)
    for signature in signatures:
        compiled.compile(signature)

    # A kernel has every core already, and Numba's simplest threading layer ends the process when two run at once.
    @functools.wraps(function)
    def run(*arguments: object) -> object:
        with _one_at_a_time:
            return compiled(*arguments)

    return cast(_Function, run)


def kernel(function: _Function) -> _Function:
    """Compile a function that kernels call, in the same way but on the core of its caller."""
    return cast(_Function, numba.njit(nogil=True, cache=True, fastmath=_FASTMATH)(function))
