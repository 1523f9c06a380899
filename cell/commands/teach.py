"""`twinspect teach`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import typer
import yaml
from numpy.typing import NDArray

from cell.commands.console import errors, require_writable, write_keeping
from cell.commands.console import out as screen
from cell.config import check, is_asset, load_cell, load_part, load_production, read_yaml
from cell.interfaces import N_JOINTS, CellError, ConfigError
from cell.schema import PartFile
from cell.setup import Devices, Order
from cell.teaching import taught
from cell.written import with_values


def run_teach(cell: str, part: str, out: Path | None, poses: Path | None) -> None:
    """Take the poses of a guided arm, or of a file, and write them into the part file."""
    order = Order(load_cell(cell), load_part(part), load_production("good"), range(1))
    path = order.part.path
    if out is None and is_asset(path):
        raise ConfigError(f"{path} came with twinspect and stays as it is: say with --out where to write")
    target = path if out is None else out
    require_writable(target)
    file = order.part.content
    found = _guided(order) if poses is None else _read(poses)
    if not found:
        raise CellError("No pose was taken; nothing is written")
    values = taught(found, file, order.cell.content.scene)
    text = with_values(path.read_text(encoding="utf-8"), {**values, ("version",): file.version + 1})
    check(yaml.safe_load(text), PartFile, f"{target} as taught")
    write_keeping(target, text)
    screen.print(f"{len(found)} poses written to {target}, version {file.version + 1}; collect and train anew")


def _guided(order: Order) -> dict[str, NDArray[np.float64]]:
    """Ask a person to guide the arm to each pose; nothing moves by itself."""
    if not sys.stdin.isatty():
        raise CellError("A person guides the arm: teach at a terminal, or give the joints of each pose with --poses")
    part, found = order.part.content, {}
    with Devices(order) as devices:
        for name in ("world", "clock"):
            devices.connect(name)
        arm = devices.connect("arm")
        errors.print("Set the robot to guiding. At each pose: t takes it, s keeps what the part file says.")
        asked = {grasp.name: "the hand about the part as it lies at the feeder" for grasp in part.grasps}
        asked |= {view.name: "the part in the hand before the camera" for view in part.views}
        for name, where in asked.items():
            if typer.prompt(f"{name}: {where} (t, s)", default="s", err=True) == "t":
                found[name] = arm.state().positions_rad
    return found


def _read(file: Path) -> dict[str, NDArray[np.float64]]:
    said = read_yaml(file)
    if not isinstance(said, dict):
        raise ConfigError(f"{file}: must be names of poses with {N_JOINTS} joint positions each, rad")
    found = {}
    for name, joints in said.items():
        try:
            found[name] = np.array(joints, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{file}: {name}: {error}") from error
        if found[name].shape != (N_JOINTS,) or not np.isfinite(found[name]).all():
            raise ConfigError(f"{file}: {name}: must be {N_JOINTS} joint positions, rad")
    return found
