"""Planned rounds on disk: what was planned once for a scene, a part and their limits is not planned again."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cell.config import load_class
from cell.interfaces import ConfigError, JointTrajectory
from cell.motion import panda
from cell.motion.round import Round, Stop
from cell.schema import CellFile, PartFile

if TYPE_CHECKING:
    from cell.motion.planning import RoundPlanner

# Raised whenever the same files would be planned differently.
_PLANNER_VERSION = 3
_LIBRARIES = ("numpy", "ompl", "pybullet", "scipy", "toppra")


class HasHulls(Protocol):
    """A solid: corners (N, 3) of convex pieces that together stand for it, millimetres."""

    @property
    def hulls(self) -> tuple[NDArray[np.float64], ...]:
        """The pieces."""
        ...


class SolidMaker(Protocol):
    """What a part file's `shape` entry names, as far as motion is concerned."""

    def make(self, folder: Path) -> HasHulls:
        """Build the part; files that it names lie relative to `folder`, the part file's."""
        ...


def planned_round(file: CellFile, part: PartFile, folder: Path) -> Round:
    """Return the round of a cell and a part, read from disk where it was planned before.

    The part file's own files are relative to `folder`.
    Rounds lie in ``$XDG_CACHE_HOME/twinspect`` or ``~/.cache/twinspect``, a file for each scene, part and limits;
    the speed factor is not among these. Deleting the folder only costs the time to plan again.

    Raises
    ------
    MotionRejected
        A pose cannot be reached or a way is blocked; nothing was stored.
    ConfigError
        The part file's shape makes no solid.
    """
    hulls_m = _hulls_m(part, folder)
    path = _folder() / f"round-{_key(file, part, hulls_m)}.npz"
    found = _read(path)
    if found is not None:
        return found
    with _planner(file, part, hulls_m) as planner:
        planned = planner.plan()
    _write(path, planned)
    return planned


class ConfirmedWays:
    """The ways of a round that a real arm has gone before, under a person's eyes; kept beside the round.

    A round of other files, parts or limits is another one, and nothing of it is confirmed.
    """

    def __init__(self, file: CellFile, part: PartFile, folder: Path) -> None:
        self._path = _folder() / f"round-{_key(file, part, _hulls_m(part, folder))}.confirmed.json"
        self._ways: set[tuple[str, str]] = set()
        with suppress(FileNotFoundError, ValueError):
            self._ways = {(start, end) for start, end in json.loads(self._path.read_text(encoding="utf-8"))}

    def __contains__(self, way: tuple[str, str]) -> bool:
        return way in self._ways

    def add(self, way: tuple[str, str]) -> None:
        """Remember that a way was gone; where the disk refuses, it is asked about again."""
        self._ways.add(way)
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            half = self._path.with_suffix(f".{os.getpid()}.part")
            half.write_text(json.dumps(sorted(self._ways)), encoding="utf-8")
            half.replace(self._path)


def way_home(
    file: CellFile, part: PartFile, folder: Path, here: NDArray[np.float64], opening_m: float
) -> tuple[JointTrajectory, ...]:
    """Plan the way of an arm with an empty hand from where it stands, (7,) rad, to its home; at full speed.

    Raises
    ------
    MotionRejected
        Something is in the way.
    """
    with _planner(file, part, _hulls_m(part, folder)) as planner:
        return planner.way_home(here, opening_m)


@contextmanager
def _planner(file: CellFile, part: PartFile, hulls_m: list[NDArray[np.float64]]) -> Iterator[RoundPlanner]:
    # Only who plans pays for loading the planner's libraries.
    from cell.motion.collision import CollisionModel
    from cell.motion.planning import RoundPlanner

    obstacles = [*file.scene.boxes, *file.motion.keep_out]
    with CollisionModel(obstacles, hulls_m, clearance_m=file.motion.distance_m) as model:
        yield RoundPlanner(file, part, model)


def _folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "twinspect"


def _hulls_m(part: PartFile, folder: Path) -> list[NDArray[np.float64]]:
    where = f"part {part.name}: shape"
    maker, config = load_class(part.shape, where, like=SolidMaker)
    try:
        solid: HasHulls = maker(config).make(folder)
    except ValueError as error:
        raise ConfigError(f"{where}: makes no solid: {error}") from error
    return [hull / 1000 for hull in solid.hulls]


def _key(file: CellFile, part: PartFile, hulls_m: list[NDArray[np.float64]]) -> str:
    """Hash everything that a round depends on."""
    said: dict[str, Any] = {
        "planner": _PLANNER_VERSION,
        "libraries": {name: version(name) for name in _LIBRARIES},
        "scene": file.scene.model_dump(mode="json"),
        "motion": file.motion.model_dump(mode="json", exclude={"speed", "still"}),
        "part": part.model_dump(mode="json", include={"grasps", "views", "centre_mm", "mass", "picture_width_mm"}),
        "limits": [
            np.asarray(limit).tolist()
            for limit in (
                *(panda.Q_MIN, panda.Q_MAX, panda.V_MAX, panda.A_MAX, panda.J_MAX),
                *(panda.TOOL_V_MAX, panda.TOOL_A_MAX),
            )
        ],
    }
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for hull in hulls_m:
        digest.update(np.ascontiguousarray(hull).tobytes())
    return digest.hexdigest()[:32]


def _write(path: Path, planned: Round) -> None:
    """Store a round, whole or not at all; where the disk refuses, it is planned again the next time."""
    stops = [planned.home, *(stop for shown in planned.views for stop in shown.values())]
    arrays: dict[str, Any] = {
        "stops": np.array([stop.name for stop in stops]),
        "joints": np.stack([stop.q for stop in stops]),
        "shown": np.array([len(shown) for shown in planned.views]),
        "legs": np.array(list(planned.legs)),
    }
    for index, leg in enumerate(planned.legs.values()):
        arrays[f"positions{index}"] = leg.positions_rad
        arrays[f"velocities{index}"] = leg.velocities_rad_s
        arrays[f"times{index}"] = leg.times_s
    half = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with half.open("wb") as file:
            np.savez_compressed(file, **arrays)
        half.replace(path)
    except OSError:
        half.unlink(missing_ok=True)


def _read(path: Path) -> Round | None:
    """Return a stored round, or None where there is none or it is damaged (ZIP keeps a checksum of every array)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            stops = [Stop(str(name), q) for name, q in zip(stored["stops"].tolist(), stored["joints"], strict=True)]
            count = int(stored["shown"][0])
            legs = {
                (str(start), str(end)): JointTrajectory(
                    str(end), stored[f"times{index}"], stored[f"positions{index}"], stored[f"velocities{index}"]
                )
                for index, (start, end) in enumerate(stored["legs"].tolist())
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    shown = [{stop.name: stop for stop in part} for part in (stops[1 : 1 + count], stops[1 + count :])]
    return Round(stops[0], (shown[0], shown[1]), legs)
