import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cell.config import load_detection
from detection.errors import DatasetError
from scenarios import pose_error
from scenarios.frozen import Judged
from scenarios.material import TRAINING, Lost, Material, Studied, read_material
from scenarios.pose_error import (
    NORMAL,
    PRESETS,
    configurations,
    figures_of,
    findings_of,
    orders_of,
    outcomes_of,
    plot_of,
    table_of,
)


def run(out: Path, *options: str):
    import typer

    app = typer.Typer()
    app.command()(pose_error._main)
    return CliRunner().invoke(app, ["--out", str(out), *options])


@pytest.fixture
def material(photographs: Path) -> Material:
    """Twenty good parts and twenty dots on a normal day, and the same when they lie badly."""
    read = read_material(photographs)
    good, bad = read.parts[0].part, read.parts[-1].part
    parts = [
        Studied(bad if size else good, ({"kind": "dot", "size_mm": size},) if size else (), None, "", condition)
        for condition in (NORMAL, "laid badly")
        for size in [0.0] * 20 + np.geomspace(0.2, 3.0, 20).tolist()
    ]
    return Material(tuple(parts), read.dataset)


def judged(material: Material, found_from_mm: dict[str, float], rejected: dict[str, int]) -> Judged:
    statistics = []
    for condition in (NORMAL, "laid badly"):
        some = [part for part in material.parts if part.condition == condition]
        wrong = rejected[condition]
        for i, part in enumerate(some):
            over = i < wrong if part.good else part.defects[0]["size_mm"] > found_from_mm[condition]
            statistics.append(2.0 if over else 0.5)
    scores = np.stack([statistics, statistics], axis=1)
    return Judged(1.0, scores, np.zeros_like(scores), np.array(statistics), ())


def test_each_condition_has_its_rates_and_its_size(material: Material) -> None:
    by_name = {
        "registered": judged(material, {NORMAL: 0.5, "laid badly": 0.5}, {NORMAL: 0, "laid badly": 1}),
        "not registered": judged(material, {NORMAL: 0.5, "laid badly": 9.9}, {NORMAL: 0, "laid badly": 15}),
    }
    outcomes = outcomes_of(material, by_name, k=2)
    figures = figures_of(outcomes)
    assert figures["registered/laid badly"]["tnr"]["value"] == 0.95
    assert 0.5 < figures["registered/normal day"]["a90_mm"] < 0.8
    assert figures["not registered/laid badly"]["a90_mm"] is None
    first, kept, second, lost = findings_of(outcomes)
    assert (
        "registered, normal day: TNR 1.000 (0.832–1.000)" in first
        and "or above, at laid badly; one is below at no condition" in kept
    )
    assert second.startswith("not registered") and "below at laid badly (TNR 0.25, TPR 0.00)" in lost
    assert [row[:2] for row in table_of(outcomes).rows][:2] == [(NORMAL, "registered"), (NORMAL, "not registered")]
    for axes in plot_of(outcomes).figure.axes:
        assert axes.get_ylabel()


def test_where_most_good_parts_are_rejected_no_size_is_said_to_be_found(material: Material) -> None:
    some = {NORMAL: 0.5, "laid badly": 0.5}
    half, most = (judged(material, some, {NORMAL: wrong, "laid badly": wrong}) for wrong in (10, 11))
    (sized, _), (unsized, _) = (outcomes_of(material, {"registered": each}, k=2) for each in (half, most))
    assert sized.a90_mm is not None and unsized.a90_mm is None and unsized.tpr == sized.tpr
    assert "a90 not known, since most good parts are rejected too" in findings_of([unsized])[0]
    assert table_of([unsized]).rows[0][-2:] == (None, None)


def test_a_part_that_was_not_inspected_whole_counts_as_rechecked(material: Material) -> None:
    found = judged(material, {NORMAL: 0.5, "laid badly": 0.5}, {NORMAL: 0, "laid badly": 1})
    lost = (Lost("1", "laid badly", True), Lost("2", "laid badly", True), Lost("3", "laid badly", False))
    normal, badly = outcomes_of(replace(material, lost=lost), {"registered": found}, k=2)
    assert (normal.parts, normal.tnr.value, normal.rechecked.value) == (40, 1.0, 0.0)
    assert (badly.parts, badly.tnr.value, badly.rechecked.value) == (43, 19 / 22, 3 / 43)
    found_and_lost = normal.tpr.value * 20 + 1
    assert badly.tpr.value == pytest.approx(found_and_lost / 21) and badly.a90_mm == normal.a90_mm


def test_a_part_with_a_picture_that_cannot_be_scored_is_no_hit_of_the_curve(material: Material) -> None:
    found = judged(material, {NORMAL: 0.5, "laid badly": 0.5}, {NORMAL: 0, "laid badly": 0})
    statistics = found.statistics.copy()
    missed = [i for i, each in enumerate(material.parts) if each.condition == NORMAL and not each.good][:5]
    assert (statistics[missed] < 1).all()
    statistics[missed] = np.inf
    (before, _), (after, _) = (
        outcomes_of(material, {"registered": each}, k=2) for each in (found, replace(found, statistics=statistics))
    )
    assert after.tpr.value == pytest.approx(before.tpr.value + 5 / 20) and after.rechecked.value == 5 / 40
    assert before.a90_mm is not None and after.a90_mm == pytest.approx(before.a90_mm, rel=0.1)


def test_a_condition_under_which_no_part_was_whole_is_told(material: Material) -> None:
    lost = tuple(Lost(str(n), "arm runs wild", n < 20) for n in range(40))
    found = judged(material, {NORMAL: 0.5, "laid badly": 0.5}, {NORMAL: 0, "laid badly": 0})
    outcomes = outcomes_of(replace(material, lost=lost), {"registered": found, "not registered": found}, k=2)
    wild = outcomes[2]
    assert (wild.parts, wild.tnr.value, wild.rechecked.value, wild.tpr.value, wild.a90_mm) == (40, 0.0, 1.0, 1.0, None)
    assert "arm runs wild (TNR 0.00, TPR 1.00)" in findings_of(outcomes)[1]
    assert figures_of(outcomes)["registered/arm runs wild"]["rechecked"]["value"] == 1.0
    assert plot_of(outcomes).figure.axes


def test_a_condition_without_defective_parts_is_refused(material: Material) -> None:
    some = Material(material.parts[:50], material.dataset)
    scores = np.zeros((50, 2))
    with pytest.raises(DatasetError, match="'laid badly' has 10 good parts and 0"):
        outcomes_of(some, {"registered": Judged(1.0, scores, scores, scores[:, 0], ())}, k=2)


def test_one_error_grows_at_a_time_on_the_same_parts() -> None:
    orders = orders_of(PRESETS["full"], cell="twin", part="ring", seed=0)
    assert list(orders)[:2] == [TRAINING, NORMAL] and "arm repeats to 1.6 mm" in orders
    assert "laid 0.8 mm 1.6° off, slips 0.24 mm 0.8° (scales)" in orders
    normal = orders[NORMAL]
    for name, order in list(orders.items())[2:]:
        assert order.numbers == normal.numbers and order.seed == normal.seed == 1, name
        assert order.production is normal.production and len(order.cell.content.source.options) == 1
    sizes = [normal.production.content.batch_of(number).defects for number in normal.numbers]
    assert sum(not each for each in sizes) == 32 and sizes[-1][0].size_mm == (3.0, 3.0)


def test_the_two_models_differ_by_registration_alone() -> None:
    with_it, without = configurations(load_detection("default").content).values()
    assert with_it.preprocess.registration == "ecc" and without.preprocess.registration == "none"
    assert with_it.model_copy(update={"preprocess": without.preprocess}) == without


def test_photographs_end_in_a_page(with_columns, tmp_path: Path) -> None:
    def of_row(n: int) -> dict[str, str]:
        return {"piece": f"p{n}", "condition": TRAINING if n < 6 else (NORMAL, "laid badly")[n % 2]}

    result = run(tmp_path / "out", "--dataset", str(with_columns(of_row)))
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "out" / "summary.json").read_text())["figures"]
    both = {f"{c}/{x}" for c in ("registered", "not registered") for x in (NORMAL, "laid badly")}
    assert set(figures) == both | {"parts_not_whole"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_twins_parts_end_in_a_page(tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--seed", "1")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "pose_error.png").is_file()
