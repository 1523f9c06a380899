"""How long after a part's last picture its verdict is there, when pictures come as fast as the robot shows them."""

import os
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cell.collecting import collect
from cell.config import load_cell, load_part, load_production
from cell.cycle import Cycle
from cell.inspection import as_rgb
from cell.interfaces import Frame
from cell.scoring import ScoringProcess
from cell.setup import Order, open_cell
from detection import DetectionConfig, InspectorInfo, ModelConfig, read_dataset, train
from detection.config import DistanceConfig
from detection.geometry import Mask

_TRAINED = 3

Shown = tuple[float, str, Frame, Mask | None]


@pytest.fixture(scope="module")
def order() -> Order:
    """Parts for one twin with pictures of 20 megapixels, at its speed factor, which is 1."""
    cell = load_cell("twin")
    camera = cell.content.camera
    large = camera.model_validate({"class": camera.path, **camera.options, "width": 5472, "height": 3648})
    content = cell.content.model_copy(update={"camera": large, "copies": 1})
    return Order(replace(cell, content=content), load_part("ring"), load_production("good"), range(_TRAINED + 1), 1)


@pytest.fixture(scope="module")
def shown(order: Order) -> list[Shown]:
    """Return when each picture of a part that the models have not seen is there, in seconds, and the picture."""
    frames: dict[str, tuple[Frame, Mask | None]] = {}
    with open_cell(replace(order, numbers=[_TRAINED])) as cell:
        cycle = Cycle(cell)
        cycle.prepare()
        cycle.run(
            cell.source.next(),
            on_frame=lambda view, frame, mask: frames.update({view: (frame, mask)}),
            choose_bin=lambda passage: "recheck",
        )
        there = {step.name: step.end_s for step in cycle.steps if step.kind in ("capture", "transfer")}
    first = min(there.values())
    return [(there[view] - first, view, *frames[view]) for view in sorted(frames, key=there.__getitem__)]


@pytest.fixture(scope="module", params=["layer", "position"])
def model(order: Order, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Sixteen models at 1024²; those of `position` in bfloat16: 11 GB, in float32 they would not fit into 16 GB."""
    folder = tmp_path_factory.mktemp("verdict")
    config = DetectionConfig(distance=DistanceConfig(covariance=request.param))
    collect(replace(order, numbers=range(_TRAINED)), folder / "good", progress=lambda done: None)
    made = ModelConfig(resolution=1024, precision="float32" if request.param == "layer" else "bfloat16")
    train(read_dataset(folder / "good"), folder / "model", config=config, model=made)
    return folder / "model"


@pytest.mark.timeout(3600)
def test_verdict_after_the_last_picture(benchmark, shown: list[Shown], model: Path) -> None:
    info = InspectorInfo.load(model)
    with ScoringProcess(model, threads=os.cpu_count() or 1) as scoring:

        def all_but_the_last() -> None:
            started = time.perf_counter()
            for at_s, view, frame, mask in shown[:-1]:
                time.sleep(max(0.0, started + at_s - time.perf_counter()))
                scoring.submit(view, as_rgb(frame.image), mask)
            time.sleep(max(0.0, started + shown[-1][0] - time.perf_counter()))

        def the_last() -> None:
            _, view, frame, mask = shown[-1]
            scoring.submit(view, as_rgb(frame.image), mask)
            scores, problems = scoring.collect()
            assert not problems
            info.decide({view: score.score for view, score in scores.items()})

        benchmark.pedantic(the_last, setup=all_but_the_last, rounds=5, warmup_rounds=1)
        benchmark.extra_info |= {
            "pictures_within_s": shown[-1][0],
            "shortest_between_pictures_s": min(b[0] - a[0] for a, b in pairwise(shown)),
            "longest_on_a_picture_s": max(scoring.seconds.values()),
        }
