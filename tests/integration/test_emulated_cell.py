"""Camera and scale by their drivers in the whole cycle, to a verdict."""

from dataclasses import replace

import cv2
import pytest
from sqlalchemy import create_engine, text

pytest.importorskip("pypylon", reason="pip install 'twinspect[hardware]'")

from cell.collecting import collect
from cell.config import load_part, load_production
from cell.inspection import inspect
from cell.interfaces import ReflexStop
from cell.setup import Order
from detection import DetectionConfig, ModelConfig, read_dataset, train
from scenarios.faults import Fault, with_faults


@pytest.fixture(scope="module")
def order(sensors_cell) -> Order:
    return Order(sensors_cell(456), load_part("ring"), load_production("good"), range(4), 1)


@pytest.fixture(scope="module")
def model(order, tmp_path_factory):
    folder = tmp_path_factory.mktemp("emulated")
    assert collect(order, folder / "good", progress=lambda done: None) == 4
    train(read_dataset(folder / "good"), folder / "model", config=DetectionConfig(), model=ModelConfig())
    return folder / "model"


def test_cycle_with_the_real_drivers_ends_in_a_verdict(order, model, tmp_path):
    parts = replace(order, numbers=range(1), seed=9, production=load_production("mixed"))
    results = list(inspect(parts, model, f"sqlite:///{tmp_path}/r.sqlite"))
    for part in results:
        assert part.verdict.bin in ("ok", "reject"), part.verdict.reasons
        assert len(part.scores) == len(part.frames) == 16
        assert abs(part.weighing.mass_g - order.part.content.mass.nominal_g) < 0.25


def test_faults_are_recorded_as_recheck_and_the_next_part_is_inspected(order, model, tmp_path):
    faults = Fault(device="camera", kind="lost", call=4), Fault(device="arm", kind="reflex", call=50)
    records = f"sqlite:///{tmp_path}/r.sqlite"
    faulty = replace(order, cell=with_faults(order.cell, *faults), numbers=range(3), seed=9)
    results = []
    with pytest.raises(ReflexStop, match="stopped itself"):
        for part in inspect(faulty, model, records):
            results.append(part)
    first, *_, last = results
    assert first.verdict.bin == "recheck" and "is gone" in first.verdict.reasons[0]
    assert last.verdict.bin == "recheck" and "stopped itself" in last.verdict.reasons[0]
    joined = "inspections i join verdicts v on v.inspection = i.entry"
    with create_engine(records).connect() as connection:
        stored = connection.execute(text(f"select i.part_id, v.verdict from {joined} order by i.entry")).all()
    assert [tuple(row) for row in stored] == [(part.ticket.part_id, part.verdict.bin) for part in results]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_cycle_with_whole_pictures_of_the_sensor_ends_in_a_verdict(order, tmp_path):
    content = order.cell.content
    entry = content.camera
    camera = entry.model_validate({"class": entry.path, **entry.options, "width": 5472, "height": 3648})
    whole = replace(order.cell, content=content.model_copy(update={"camera": camera}))
    known = replace(order, cell=whole, numbers=range(4))
    collect(known, tmp_path / "good", progress=lambda done: None)
    train(read_dataset(tmp_path / "good"), tmp_path / "model", config=DetectionConfig(), model=ModelConfig())
    (part,) = inspect(
        replace(known, numbers=range(1), seed=9), tmp_path / "model", f"sqlite:///{tmp_path}/records.sqlite"
    )
    assert part.verdict.bin in ("ok", "reject"), part.verdict.reasons
    assert len(part.scores) == 16
    picture = next((tmp_path / "good" / "images").rglob("*.png"))
    assert cv2.imread(str(picture)).shape == (3648, 5472, 3)
