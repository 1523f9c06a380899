"""The model library that the robot hands to its clients: compiled once, and used by the server itself."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import ConfigError

_SOURCE = Path(__file__).with_name("model.c")
_COMPILERS = ("cc", "gcc", "clang")
# Without the last, a second library in one process would call into the first.
_OPTIONS = ("-shared", "-fPIC", "-O2", "-Wl,-Bsymbolic")
_DOUBLES = ctypes.POINTER(ctypes.c_double)


def library_file() -> Path:
    """Return the compiled library; it is compiled where the cache of the user has none of this source.

    Raises
    ------
    ConfigError
        There is no C compiler, or it refuses the source.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twinspect"
    made_of = hashlib.sha256(_SOURCE.read_bytes() + " ".join(_OPTIONS).encode()).hexdigest()[:16]
    library = cache / f"panda-model-{os.uname().machine}-{made_of}.so"
    if library.exists():
        return library
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        raise ConfigError(
            "The emulated robot needs a C compiler for its model library, and none of "
            f"{', '.join(_COMPILERS)} was found; apt-get install gcc libc6-dev"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        made = Path(folder) / "model.so"
        command = (compiler, *_OPTIONS, "-o", str(made), str(_SOURCE), "-lm")
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            raise ConfigError(f"{compiler} does not compile {_SOURCE}: {run.stderr.strip()}")
        made.replace(library)
    return library


class Model:
    """The library, loaded. Matrices are by columns, as on the wire."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._inputs, self._result = (np.empty(7), np.empty(16)), np.empty(42)
        self._pointers = tuple(held.ctypes.data_as(_DOUBLES) for held in (*self._inputs, self._result))

    def end_effector(self, q: NDArray[np.float64], flange_to_ee: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the pose (16,) of a frame that is given (16,) in the flange's, at joint positions (7,)."""
        return self._call("O_T_J9", 16, q, flange_to_ee)

    def jacobian(self, q: NDArray[np.float64], flange_to_ee: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the Jacobian (6, 7) of that frame, in the base's."""
        return self._call("O_J_J9", 42, q, flange_to_ee).reshape(7, 6).T

    def frame_origin(self, q: NDArray[np.float64], joint: int) -> NDArray[np.float64]:
        """Return where (3,) the frame of a joint, counted from 0, is."""
        return self._call(f"O_T_J{joint + 1}", 16, q)[12:15]

    def _call(self, name: str, size: int, *inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        for held, given in zip(self._inputs, inputs, strict=False):
            held[:] = given
        getattr(self._library, name)(*self._pointers[: len(inputs)], self._pointers[-1])
        return self._result[:size].copy()
