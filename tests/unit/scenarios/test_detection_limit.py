import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from detection.errors import DatasetError
from detection.intervals import rate
from scenarios import detection_limit
from scenarios.detection_limit import (
    PRESETS,
    Limit,
    curves,
    defective_order,
    figures_of,
    findings_of,
    limits_of,
    tables_of,
)
from scenarios.frozen import Frozen
from scenarios.material import Material, Studied, read_material
from scenarios.study import shown

SIZES = np.geomspace(0.1, 2.0, 60)


def frozen(statistics: np.ndarray) -> Frozen:
    one, most = rate(10, 10), rate(9, 10)
    assert one and most
    views = np.stack([statistics, statistics], axis=1)
    return Frozen(10.0, views, np.zeros_like(views), statistics, (), one, most, one, one, None)


def material(photographs: Path, sizes: np.ndarray, views: list[int | None], kind: str = "dot") -> Material:
    """Good part first, then one part for each size."""
    read = read_material(photographs)
    good, bad = read.parts[0], read.parts[-1].part
    parts = [Studied(bad, ({"kind": kind, "size_mm": float(a)},), v) for a, v in zip(sizes, views, strict=True)]
    return Material((good, *parts), read.dataset)


def run(out: Path, *options: str):
    import typer

    app = typer.Typer()
    app.command()(detection_limit._main)
    return CliRunner().invoke(app, ["--out", str(out), *options])


def test_every_kind_is_ordered_in_sizes_that_are_evenly_spread() -> None:
    order = defective_order(PRESETS["full"], cell="twin", part="ring", seed=3)
    assert len(order.numbers) == 5 * 60 and order.seed == 3 and order.production.content.nuisances == 2
    defects = [order.production.content.batch_of(number).defects for number in order.numbers]
    assert all(len(each) == 1 and each[0].seen_by == 1 for each in defects)
    dots = [each[0].size_mm[0] for each in defects if each[0].kind == "dot"]
    np.testing.assert_allclose(np.diff(np.log(dots)), np.log(20) / 59, atol=1e-3)


def test_a_sharp_transition_gives_its_size(photographs: Path) -> None:
    statistics = np.concatenate([[5.0], np.where(SIZES > 0.5, 20.0, 5.0)])
    (limit,) = limits_of(material(photographs, SIZES, [6] * 60), frozen(statistics), k=2)
    assert limit.kind == "dot" and limit.pod is not None and limit.unseen == 0
    assert limit.pod.a90_mm is not None and 0.45 < limit.pod.a90_mm < 0.6
    (said, rejects) = findings_of([limit], frozen(statistics), k=2)
    assert f"from {limit.pod.a90_95_mm:.2f} mm" in said and "0.1 to 2 mm tried" in said
    assert "0.100 (0.003–0.445) of the good parts" in rejects


def test_defects_that_two_views_do_not_show_lower_the_asymptote(photographs: Path) -> None:
    views: list[int | None] = [1 if i % 4 == 0 else 6 for i in range(60)]
    statistics = np.concatenate([[5.0], np.where([v == 6 for v in views], 20.0, 5.0)])
    (limit,) = limits_of(material(photographs, SIZES, views), frozen(statistics), k=2)
    assert limit.unseen == 15 and limit.pod is not None
    assert limit.pod.alpha == pytest.approx(0.75, abs=0.05) and limit.pod.a90_mm is None
    (row,) = tables_of([limit], frozen(statistics))[0].rows
    assert row[7] == 15 and shown(row[4]) == "–"
    assert "are seen by 2 views" in findings_of([limit], frozen(statistics), k=2)[0]


def test_a_bound_beyond_what_was_tried_is_none(photographs: Path) -> None:
    statistics = np.concatenate([[5.0], np.where(SIZES > 1.7, 20.0, 5.0)])
    (limit,) = limits_of(material(photographs, SIZES, [6] * 60), frozen(statistics), k=2)
    assert limit.a90_mm is not None and tables_of([limit], frozen(statistics))[0].rows[0][5] is None
    assert figures_of([limit], frozen(statistics))["limits"]["dot"]["a90_95_mm"] is None
    assert "no bound within" in findings_of([limit], frozen(statistics), k=2)[0]
    assert "no bound" in curves([limit], frozen(statistics)).figure.axes[0].get_title()


def test_a_curve_that_reaches_nine_tenths_beyond_what_was_tried_has_no_a90(photographs: Path) -> None:
    statistics = np.concatenate([[5.0], np.where((np.arange(60) % 3 > 0) & (SIZES > 0.3), 20.0, 5.0)])
    (limit,) = limits_of(material(photographs, SIZES, [6] * 60), frozen(statistics), k=2)
    assert f"not known; {limit.found.sum()} of 60" in findings_of([limit], frozen(statistics), k=2)[0]
    assert tables_of([limit], frozen(statistics))[0].rows[0][4] is None
    assert figures_of([limit], frozen(statistics))["limits"]["dot"]["a90_mm"] is None


def test_a_kind_that_is_found_at_every_size_has_a_bound_and_no_made_up_size(photographs: Path) -> None:
    statistics = np.concatenate([[5.0], np.full(60, 20.0)])
    (limit,) = limits_of(material(photographs, SIZES, [6] * 60), frozen(statistics), k=2)
    said = findings_of([limit], frozen(statistics), k=2)[0]
    assert limit.a90_mm is None and f"with 95 % confidence from {limit.a90_95_mm:.2f} mm" in said and "60 of 60" in said


def test_a_recheck_is_no_hit_of_the_curve(photographs: Path) -> None:
    statistics = np.concatenate([[5.0], np.where(SIZES > 0.5, 20.0, 5.0)])
    (before,) = limits_of(material(photographs, SIZES, [6] * 60), frozen(statistics), k=2)
    statistics[1:6] = np.inf  # five of the smallest
    (limit,) = limits_of(material(photographs, SIZES, [6] * 60), frozen(statistics), k=2)
    assert len(limit.found) == 55 and limit.found.sum() == before.found.sum()
    assert before.a90_mm is not None and limit.a90_mm == pytest.approx(before.a90_mm, rel=0.05)
    with pytest.raises(DatasetError, match="not all pictures of any defective part"):
        limits_of(material(photographs, SIZES, [6] * 60), frozen(np.append(5.0, np.full(60, np.inf))), k=2)


def test_one_size_is_too_little_for_a_curve(photographs: Path) -> None:
    (limit,) = limits_of(material(photographs, np.array([1.0, 1.0]), [None, None]), frozen(np.full(3, 20.0)), k=2)
    assert limit.pod is None and limit.unseen == 0
    assert "nine of ten are found is not known; 2 of 2" in findings_of([limit], frozen(np.full(3, 20.0)), k=2)[0]
    assert figures_of([limit], frozen(np.full(3, 20.0)))["limits"]["dot"]["a90_mm"] is None


def test_every_axis_has_a_unit(photographs: Path) -> None:
    limit = Limit("crack", SIZES, SIZES > 0.5, np.full(60, 3), None, 0)
    axes = curves([limit], frozen(np.zeros(1))).figure.axes[0]
    assert "mm" in axes.get_xlabel() and "probability" in axes.get_ylabel()


def test_photographs_end_in_a_page(photographs: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--dataset", str(photographs), "--config", "paper")
    assert result.exit_code == 0, result.output
    with (tmp_path / "out" / "parts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows] == ["found"] * 3 + ["missed"]  # the last shows its bar in one view alone
    figures = json.loads((tmp_path / "out" / "summary.json").read_text())["figures"]
    assert figures["limits"]["dot"]["not_seen_by_two_views"] == 1 and figures["tnr"]["value"] > 0.5


def test_a_defect_without_a_size_is_refused_before_anything_is_trained(photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    shutil.copytree(photographs, folder)
    truth = folder / "truth" / "parts.csv"
    truth.write_text(
        "\n".join(line.split(",", 2)[0] + "," + line.split(",", 2)[1] for line in truth.read_text().splitlines())
    )
    result = run(tmp_path / "out", "--dataset", str(folder))
    assert result.exit_code == 1 and "part p10 has not one defect" in " ".join(result.output.split())
    assert not (tmp_path / "out" / "frozen").exists()


def test_an_unknown_preset_is_refused(tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--preset", "enormous")
    assert result.exit_code == 1 and "choose one of quick, full" in result.output


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_twins_parts_end_in_a_page(tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--seed", "1")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "detection_limit.png").is_file()
