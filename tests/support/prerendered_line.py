"""A line on the prerendered cell for the operator's page: the real cycle, records, commands and page, and quick parts.

Every third part has a bright spot in its pictures, which is found, and a mass too low.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import prerendered
from prerendered import PART, ROUND, RUN, SHAPE, cell_of

from cell.config import load_cell, load_part, load_production
from cell.cycle import Cycle
from cell.inspection import inspect_part
from cell.records.address import Address
from cell.records.database import Database
from cell.records.line import LineRecords
from cell.records.recovery import close_interrupted, find_interrupted
from cell.setup import Order
from detection.decisions import part_statistic, reaches
from detection.description import Decision
from detection.geometry import Box, Geometry
from detection.scores import ViewScore

SIDE, THRESHOLD, SPOT = 48, 15.0, (20, 30)
VIEWS = PART.view_names
RUN_WITH_MODEL = replace(
    RUN,
    part_file=PART.model_dump_json(by_alias=True),
    inspector=json.dumps(
        {"config": {"vote": {"k": 2}}, "frame_shapes": dict.fromkeys(VIEWS, SHAPE), "threshold": THRESHOLD}
    ),
)
HOLD = "hold-{}"
"""While a file of that name, with a part's number, lies beside the records, the scale does not answer for that part."""


def picture(number: int, taken: int) -> np.ndarray:
    """Grey noise, with a bright spot on every third part."""
    image = np.random.default_rng((number, taken)).integers(80, 120, (*SHAPE, 3), dtype=np.uint8)
    if number % 3 == 2:
        y, x = SPOT
        image[y : y + 9, x : x + 9] = 250
    return image


class Scorer:
    """Scores brightness above that of the good pictures."""

    def __init__(self) -> None:
        self._scores: dict[str, ViewScore] = {}
        self.seconds: dict[str, float] = {}

    def submit(self, view: str, image: np.ndarray, mask: Any) -> None:
        geometry = Geometry(SHAPE, Box(0, 0, SHAPE[0], SHAPE[1]), SIDE)
        square = cv2.resize(geometry.square(image), (SIDE, SIDE), interpolation=cv2.INTER_AREA).mean(2)
        heatmap = np.clip(cv2.blur(square, (3, 3)) - 95, 0, None).astype(np.float32) / 5
        valid = geometry.mask_to_grid(np.ones(SHAPE, bool))
        self._scores[view] = ViewScore(view, float(heatmap[valid].max()), heatmap, valid, geometry)

    def collect(self) -> tuple[dict[str, ViewScore], tuple[str, ...]]:
        scores, self._scores = self._scores, {}
        return scores, ()


class Judge:
    views = VIEWS
    threshold = THRESHOLD

    def decide(self, scores: dict[str, float]) -> Decision:
        statistic = part_statistic(scores.values(), k=2)
        over = tuple(view for view, score in scores.items() if reaches(score, THRESHOLD))
        return Decision(statistic, THRESHOLD, over, reaches(statistic, THRESHOLD))


def inspect_prerendered(order: Order, model: Path, records: str, *, clear: Any = None, watch: Any = None) -> Iterator:
    """Do as `cell.inspection.inspect`, without network and physics."""
    with Database(Address.parse(records), create=True) as database:
        left = find_interrupted(database)
        if left:
            close_interrupted(database, left, cleared_by=clear([str(part) for part in left]))
        folder, at_hand = Address.parse(records).pictures.parent, -1

        def tick(what: str) -> None:
            while what == "weigh" and (folder / HOLD.format(at_hand)).exists():
                time.sleep(0.01)

        with LineRecords(records, RUN_WITH_MODEL) as book, patch.object(prerendered, "picture", picture):
            cell = cell_of(iter(order.numbers), tick)
            # Like the twin's, this arm is stopped while it moves.
            cell.arm.stop = lambda: None
            cell = watch(cell) if watch else cell
            cycle = Cycle(cell)
            with patch("cell.cycle.planned_round", lambda *args: ROUND):
                cycle.prepare()
            for at_hand in order.numbers:  # noqa: B007  `tick` reads it
                yield from inspect_part(cell, cycle, Judge(), Scorer(), book)


def record_parts(address: str, count: int) -> None:
    """Put parts on record, without a page."""
    for _ in inspect_prerendered(prerendered_order(count), Path("model"), address):
        pass


def prerendered_order(count: int = 1 << 20) -> Order:
    part = load_part("ring")
    return Order(load_cell("twin"), replace(part, content=PART), load_production("mixed"), range(count))


def prerendered_shifts(*args: Any) -> None:
    """Be the line's process."""
    from cell.web.shift import run_shifts

    with patch("cell.web.shift.inspect", inspect_prerendered):
        run_shifts(*args)


def serve(records: str, model: Path, users: Path, port: int) -> None:
    """Serve the page of such a line, which only says that it has that model."""
    from cell.web.app import make_app, open_site, run_server
    from cell.web.line import LineProcess
    from cell.web.users import UsersFile

    with (
        patch("cell.web.line.run_shifts", prerendered_shifts),
        LineProcess(prerendered_order(), model, records) as line,
        open_site(records, UsersFile(users), line) as site,
    ):
        run_server(make_app(site), "127.0.0.1", port)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
