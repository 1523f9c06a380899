"""Collect, train, evaluate, inspect and report, as a user does."""

import csv
import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from cell.collecting import collect
from cell.config import load_cell, load_part
from cell.cycle import Cycle
from cell.inspection import inspect
from cell.interfaces import CellError, ConfigError, DeviceError, Grasp, GraspLost, ModelMismatchError, PartTicket
from cell.records.address import Address
from cell.records.database import Database
from cell.records.line import LineRecords
from cell.records.queries import audits
from cell.records.run import Run as RunOfLine
from cell.records.verification import verify
from cell.report import Run, read_truth, summary, write_report
from cell.setup import Order
from cell.silhouette import hand_mask
from detection import DetectionConfig, DetectionError, Inspector, ModelConfig, evaluate, read_dataset, train
from detection.pictures import read_mask
from twin.arm import TwinGripper


def alone(order: Order) -> Order:
    """The same order for one cell, in this process."""
    return replace(order, cell=replace(order.cell, content=order.cell.content.model_copy(update={"copies": 1})))


def records_in(folder: Path) -> str:
    return f"sqlite:///{folder}/records.sqlite"


@pytest.fixture(scope="module")
def dataset(order_of, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("collected") / "good"
    counted = []
    assert collect(order_of("good", 8, seed=1), out, progress=counted.append) == 8
    assert counted == list(range(1, 9))
    return out


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "model"
    train(read_dataset(dataset), out, config=DetectionConfig(), model=ModelConfig())
    return out


@pytest.fixture(scope="module")
def inspected(order_of, model, tmp_path_factory):
    truth = tmp_path_factory.mktemp("inspected") / "truth"
    return tuple(inspect(order_of("mixed", 6, seed=5, truth=truth), model, records_in(truth.parent))), truth


def test_dataset_is_whole_and_in_order(dataset):
    head = json.loads((dataset / "dataset.json").read_text())
    assert head["seed"] == 1 and len(head["views"]) == 16 and head["cell"]["kind"] == "twin"
    assert head["made_for"]["camera_serial"] == "twin-0001"
    with (dataset / "parts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["part_id"] for row in rows] == [f"good-{n:05d}" for n in range(8)]
    mass = load_part("ring").content.mass
    assert all(abs(float(row["mass_g"]) - mass.nominal_g) < mass.tolerance_g for row in rows)
    assert all(row["declared"] == "good" for row in rows)
    assert len(list((dataset / "images").rglob("*.png"))) == 8 * 16
    assert len(list((dataset / "truth" / "masks").rglob("*.png"))) == 8 * 16
    assert not list(dataset.rglob("*.part"))


def test_the_second_part_passes_the_same_cycle(order_of, tmp_path):
    order = replace(alone(order_of("good", 2, width=304)), part=load_part("cap"))
    assert collect(order, tmp_path / "caps", progress=lambda done: None) == 2
    found = read_dataset(tmp_path / "caps")
    assert len(found.parts) == 2 and found.views == order.part.content.view_names


def test_dataset_says_where_the_hand_is(dataset):
    parts = read_dataset(dataset).parts
    for view, file in parts[0].ignored.items():
        assert file == dataset / "masks" / "good-00000" / f"{view}.png"
        mask = read_mask(file, shape=(342, 456))
        assert 0.01 < mask.mean() < 0.3
        # The arm goes to the same places, and the mask with it.
        again = read_mask(parts[1].ignored[view], shape=(342, 456))
        assert (mask ^ again).mean() < 0.002
    assert len(list((dataset / "masks").rglob("*.png"))) == 8 * 16


def test_dataset_is_never_overwritten(order_of, dataset):
    before = (dataset / "parts.csv").read_bytes()
    with pytest.raises(ConfigError, match="not an empty folder"):
        collect(order_of("good", 1, seed=0), dataset, progress=lambda done: None)
    assert (dataset / "parts.csv").read_bytes() == before


def test_verdicts_are_better_than_chance_and_whole(inspected):
    parts, truth = inspected
    truths = read_truth(truth)
    assert [part.ticket.part_id for part in parts] == [f"mixed-{n:05d}" for n in range(6)]
    for part in parts:
        assert len(part.scores) == len(part.frames) == 16
        assert part.verdict.bin in ("ok", "reject") and part.cycle_s > 10
        assert part.ticket.label is None
        assert (part.verdict.bin == "ok") == (not part.views_over)
    run = Run(parts, tuple(truths[part.ticket.part_id] for part in parts), 1)
    assert run.part_auroc is not None and run.part_auroc.value > 0.8


def test_report_is_one_self_contained_page(inspected, tmp_path):
    parts, truth = inspected
    truths = read_truth(truth)
    run = Run(parts, tuple(truths[part.ticket.part_id] for part in parts), 1)
    figures = summary(run, seconds=1.5)
    assert [part["truth"] for part in figures["parts"]] == ["good", "defective"] * 3
    assert figures["tpr"] == sum(p["verdict"] != "ok" for p in figures["parts"][1::2]) / 3
    assert figures["tnr"] == sum(p["verdict"] == "ok" for p in figures["parts"][0::2]) / 3
    json.dumps(figures, allow_nan=False)

    page = tmp_path / "report.html"
    write_report(page, run, mass=load_part("ring").content.mass, settings=[("command", "<b>x</b>")])
    html = page.read_text()
    assert "<b>x</b>" not in html and "&lt;b&gt;" in html
    assert 'src="http' not in html and "href=" not in html
    rejected = [part for part in parts if part.verdict.bin != "ok"]
    assert html.count("data:image/jpeg") == sum(min(4, len(part.evidence)) for part in rejected)
    assert all(part.ticket.part_id in html for part in parts)
    assert html.count(": peak ") >= html.count("data:image/jpeg")  # a picture that speaks against a part says where


def test_evaluate_leaves_training_parts_out(order_of, dataset, model, tmp_path):
    inspector = Inspector.load(model)
    with pytest.raises(DetectionError, match=r"has not seen|trained on|training"):
        evaluate(read_dataset(dataset), inspector)
    both = tmp_path / "both"
    collect(order_of("mixed", 4, seed=9), both, progress=lambda done: None)
    figures = evaluate(read_dataset(both), inspector).to_json()
    assert (figures["parts_good"], figures["parts_defective"]) == (2, 2)
    assert figures["pixel_auroc"] > 0.7


def test_model_of_another_camera_is_refused_before_anything_moves(order_of, model, tmp_path):
    order = order_of("good", 1, seed=0)
    entry = order.cell.content.camera
    other = entry.model_validate({"class": entry.path, **entry.options, "serial": "other-7"})
    cell = replace(order.cell, content=order.cell.content.model_copy(update={"camera": other, "copies": 1}))
    with pytest.raises(ModelMismatchError, match=r"serial number .'twin-0001', here 'other-7'"):
        next(inspect(replace(order, cell=cell), model, records_in(tmp_path)))


def test_model_of_other_views_is_refused(order_of, model, tmp_path):
    order = order_of("good", 1, seed=0)
    part = order.part.content
    views = (part.views[0].model_copy(update={"tilt_deg": 5.0}), *part.views[1:])
    other = replace(order.part, content=part.model_copy(update={"views": views}))
    with pytest.raises(ModelMismatchError, match=r"the part file \(views\) differ"):
        next(inspect(replace(order, part=other), model, records_in(tmp_path)))


def test_model_of_masked_pictures_is_refused_where_the_hand_is_not_masked(order_of, model, tmp_path, monkeypatch):
    order = alone(order_of("good", 1, seed=0))
    cell = replace(order.cell, content=order.cell.content.model_copy(update={"hand": None}))
    monkeypatch.setattr(Cycle, "prepare", lambda self, **asked: pytest.fail("it moved"))
    with pytest.raises(ModelMismatchError, match="the hand that is masked in the pictures"):
        next(inspect(replace(order, cell=cell), model, records_in(tmp_path)))


def test_a_fault_stops_the_line_after_the_recheck(order_of, model, tmp_path, monkeypatch):
    monkeypatch.setattr(TwinGripper, "grasp", lambda self, width_m, force_n: Grasp(False, 0.0))
    results = inspect(alone(order_of("good", 2, seed=0)), model, records_in(tmp_path))
    first = next(results)
    assert first.verdict.bin == "recheck" and "GP1" in first.verdict.reasons[0]
    with pytest.raises(DeviceError, match="look where the part lies"):
        next(results)


def test_collect_keeps_the_parts_before_a_fault(order_of, tmp_path, monkeypatch):
    import twin.arm

    order = order_of("good", 3, seed=0)
    cell = replace(order.cell, content=order.cell.content.model_copy(update={"copies": 1}))
    grasp, calls = twin.arm.TwinGripper.grasp, []

    def slippery(self, width_m, force_n):
        calls.append(1)
        return grasp(self, width_m, force_n) if len(calls) <= 3 else self.state()

    monkeypatch.setattr(twin.arm.TwinGripper, "grasp", slippery)
    out = tmp_path / "kept"
    with pytest.raises(CellError, match="1 whole part"):
        collect(replace(order, cell=cell), out, progress=lambda done: None)
    for kind in ("images", "masks"):
        assert [path.name for path in (out / kind).iterdir()] == ["good-00000"]
    assert len(read_dataset(out).parts) == 1


def test_records_keep_what_was_decided(inspected):
    parts, truth = inspected
    with create_engine(records_in(truth.parent)).connect() as connection:
        rows = connection.execute(
            text(
                "select i.part_id, v.verdict, e.bin, e.cycle_s from inspections i "
                "join verdicts v on v.inspection = i.entry join endings e on e.inspection = i.entry order by i.part_id"
            )
        ).all()
        assert connection.execute(text("pragma journal_mode")).scalar() == "wal"
        assert connection.execute(text("select count(*) from views")).scalar() == 16 * len(parts)
    assert rows == [(part.ticket.part_id, part.verdict.bin, part.verdict.bin, part.cycle_s) for part in parts]
    with Database(Address.parse(records_in(truth.parent))) as database:
        result = verify(database, progress=lambda done, total: None)
    # Two copies of the cell wrote at once, and made one chain.
    assert result.problems == () and result.under_way == ()
    assert result.inspections == 6
    assert 16 * 6 < result.pictures <= 2 * 16 * 6  # and masks, of which some are alike


def test_a_part_is_on_record_before_it_is_let_go(order_of, model, tmp_path, monkeypatch):
    """The hand opens over the bin only after the verdict is committed; without a record it does not open."""
    order = alone(order_of("good", 1, seed=3))
    released = []
    monkeypatch.setattr(LineRecords, "judge", lambda self, part: (_ for _ in ()).throw(CellError("disk full")))
    release = Cycle._release
    monkeypatch.setattr(Cycle, "_release", lambda self: (released.append(self._at), release(self)))
    with pytest.raises(CellError, match="disk full"):
        list(inspect(order, model, records_in(tmp_path)))
    assert released == ["scale"]


def test_a_part_that_does_not_reach_its_bin_loses_its_verdict(order_of, model, tmp_path, monkeypatch):
    release = Cycle._release

    def drop_before_the_bin(self):
        if self._at.startswith("bin"):
            raise GraspLost("gripper", f"putting the part at {self._at}", "the part is gone", "look for it")
        release(self)

    monkeypatch.setattr(Cycle, "_release", drop_before_the_bin)
    results = inspect(alone(order_of("good", 1, seed=3)), model, records_in(tmp_path))
    part = next(results)
    assert part.verdict.bin == "recheck" and "the part is gone" in part.verdict.reasons[0]
    assert len(part.scores) == 16
    with pytest.raises(GraspLost):
        next(results)
    with create_engine(records_in(tmp_path)).connect() as connection:
        assert connection.execute(text("select verdict, bin from endings")).all() == [("recheck", None)]
        assert "the part is gone" in connection.execute(text("select message from faults")).scalar_one()


def test_a_picture_that_cannot_be_scored_is_a_recheck_and_the_line_goes_on(order_of, model, tmp_path, monkeypatch):
    import twin.camera

    capture = twin.camera.TwinCamera.capture

    def black_once(self):
        frame = capture(self)
        return replace(frame, image=np.zeros_like(frame.image)) if frame.number == 4 else frame

    monkeypatch.setattr(twin.camera.TwinCamera, "capture", black_once)
    first, second = inspect(alone(order_of("good", 2, seed=3)), model, records_in(tmp_path))
    (black,) = (view for view, number in first.frames.items() if number == 4)
    assert first.verdict.bin == "recheck" and black in first.verdict.reasons[0] and len(first.scores) == 15
    assert second.verdict.bin in ("ok", "reject") and len(second.scores) == 16


def test_a_wholly_masked_picture_is_a_recheck(order_of, model, tmp_path, monkeypatch):
    """The hand stands before the whole lens at one view: nothing was inspected there, so nothing is good."""
    import cell.cycle

    calls = []

    def before_the_lens_once(*args):
        calls.append(1)
        mask = hand_mask(*args)
        return np.ones_like(mask) if len(calls) == 3 else mask

    monkeypatch.setattr(cell.cycle, "hand_mask", before_the_lens_once)
    (part,) = inspect(alone(order_of("good", 1, seed=3)), model, records_in(tmp_path))
    assert part.verdict.bin == "recheck" and len(part.scores) == 15
    third = list(part.frames)[2]
    assert f"{third}: every pixel is masked" in part.verdict.reasons[0]


@pytest.mark.parametrize("damage", ["missing", "zeroed", "swapped"])
def test_damaged_model_is_refused_before_anything_moves(order_of, model, tmp_path, monkeypatch, damage):
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    victim = copy / "views" / "GP1-V3" / "padim.safetensors"
    if damage == "missing":
        victim.unlink()
    elif damage == "zeroed":
        content = bytearray(victim.read_bytes())
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        victim.write_bytes(content)
    else:
        shutil.copy(copy / "views" / "GP1-V2" / "padim.safetensors", victim)
    monkeypatch.setattr(Cycle, "prepare", lambda self: pytest.fail("it moved"))
    with pytest.raises(DetectionError, match=r"GP1-V3.padim\.safetensors"):
        list(inspect(alone(order_of("good", 1)), copy, records_in(tmp_path)))


def test_infinite_threshold_is_refused(model, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    description = (copy / "inspector.json").read_text()
    threshold = json.loads(description)["threshold"]
    (copy / "inspector.json").write_text(description.replace(f'"threshold": {threshold!r}', '"threshold": 1e999'))
    with pytest.raises(DetectionError, match="threshold"):
        Inspector.load(copy)


def test_records_that_cannot_be_written_are_refused():
    with pytest.raises(CellError, match="database URL"):
        Address.parse("nonsense")
    with pytest.raises(CellError, match="cannot be used"):
        Database(Address.parse("sqlite:////proc/x/r.sqlite"), create=True).__enter__()


def test_database_exists_before_copies_of_the_cell_open_it(order_of, model, tmp_path, monkeypatch):
    found = []

    def look(order, work):
        with sqlite3.connect(tmp_path / "records.sqlite") as database:
            found.append({name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")})
        return iter(())

    monkeypatch.setattr("cell.inspection.run_line", look)
    assert list(inspect(order_of("good", 2), model, records_in(tmp_path))) == []
    assert len(found) == 1 and {"inspections", "verdicts", "views"} <= found[0]


def test_shipped_cell_runs_copies():
    assert load_cell("twin").content.copies == 2


def test_recorded_parts_are_inspected_again_and_compared(order_of, inspected, model, tmp_path):
    parts, truth = inspected
    address = records_in(truth.parent)
    file = tmp_path / "replay.yaml"
    shipped = load_cell("replay").path.read_text()
    file.write_text(shipped.replace("sqlite:///runs/records.sqlite", address))
    order = replace(order_of("mixed", 3), cell=load_cell(str(file)))
    again = list(inspect(order, model, address))
    # The same model finds the same, but for the rounding of a network that runs on another number of threads.
    # Parts are played back in the order in which copies of the cell ended them.
    recorded = {part.ticket.part_id: part for part in parts}
    for second in again:
        first = recorded[second.ticket.part_id]
        assert first.verdict == second.verdict
        assert second.scores == pytest.approx(first.scores, rel=1e-5)
    strict = tmp_path / "strict"
    shutil.copytree(model, strict)
    description = (strict / "inspector.json").read_text()
    threshold = json.loads(description)["threshold"]
    (strict / "inspector.json").write_text(description.replace(f'"threshold": {threshold!r}', '"threshold": 0.001'))
    assert {part.verdict.bin for part in inspect(order, strict, address)} == {"reject"}
    with Database(Address.parse(address)) as database:
        with database.reading() as session:
            pairs = audits(session)
            session.expunge_all()
        assert verify(database, progress=lambda done, total: None).problems == ()
    for first, later in pairs:
        shown = [[(view.view, view.picture, view.mask) for view in i.verdict.views] for i in (first, later)]
        assert shown[0] == shown[1] and len(shown[0]) == 16  # frames and masks are those of then, to the last bit
        assert first.verdict.mass_g == later.verdict.mass_g
    assert [first.part.part_id for first, _ in pairs] == [part.ticket.part_id for part in again] * 2
    assert [later.stands for _, later in pairs] == [part.verdict.bin for part in again] + ["reject"] * 3


def test_another_part_file_than_the_recorded_is_refused(order_of, inspected, model, tmp_path):
    _, truth = inspected
    file = tmp_path / "replay.yaml"
    shipped = load_cell("replay").path.read_text()
    file.write_text(shipped.replace("sqlite:///runs/records.sqlite", records_in(truth.parent)))
    order = order_of("mixed", 1)
    part = order.part.content.model_copy(update={"version": 99})
    order = replace(order, cell=load_cell(str(file)), part=replace(order.part, content=part))
    with pytest.raises(ConfigError, match="another part file: version differ"):
        next(inspect(order, model, records_in(tmp_path)))


def test_an_interrupted_part_stops_the_next_line_until_a_person_has_looked(order_of, model, tmp_path):
    address = records_in(tmp_path)
    with LineRecords(address, RunOfLine("c", "m", "1", "2", "3", "4", "5", "6")) as book:
        book.begin(PartTicket("left-1", "left", 1, 1, None))
    with pytest.raises(CellError, match=r"left-1.*--cleared-by NAME"):
        next(inspect(order_of("good", 1), model, address))
    order = replace(order_of("good", 1), numbers=range(0))
    assert list(inspect(order, model, address, clear=lambda left: "me")) == []
    with create_engine(address).connect() as connection:
        assert connection.execute(text("select verdict, bin from endings")).all() == [("recheck", None)]
        assert connection.execute(text("select subject, who from decisions")).all() == [("cleared", "me")]
