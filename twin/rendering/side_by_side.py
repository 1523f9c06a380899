"""``python -m twin.rendering.side_by_side --out FILE``: one part, one view, one seed, by each renderer."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from cell.config import load_cell, load_part, load_production
from cell.motion.panda import forward
from cell.motion.round import grasp_pose, plan_round
from cell.setup import Order, open_cell
from twin.camera import TwinCameraConfig, picture
from twin.world import Snapshot, WorldConfig, world_of

RENDERERS: tuple[Literal["tiny", "egl", "photoreal"], ...] = ("tiny", "egl", "photoreal")
# Clear plastic sends less light back than matt: a real cell's exposure is set for what it shows.
_CLEAR_WHITE = 3.0
_VIEW = "V3"
_CROP = (slice(None), slice(220, 1060))


def snapshot_of(production: str, number: int, view: str = _VIEW) -> Snapshot:
    """Make a ring and hold it before the camera as the plan says, without running the arm there."""
    cell, part = load_cell("twin"), load_part("ring")
    order = Order(cell, part, load_production(production), range(number, number + 1))
    grasp = part.content.grasps[0]
    with open_cell(order) as opened:
        opened.source.next()
        body = world_of(opened.setup).part
    stop = plan_round(cell.content.scene, part.content, np.array(cell.content.motion.home_rad)).views[0][view]
    return Snapshot(
        stop.q, np.full(2, grasp.width_mm / 2000), body, forward(stop.q) @ grasp_pose(grasp).inverse()
    )


def main() -> None:
    """Draw the picture and print how long each renderer took for its second one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
