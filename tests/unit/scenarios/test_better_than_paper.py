import json
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from cell.config import load_detection
from detection import DetectionConfig, ModelConfig
from detection.config import PreprocessConfig
from detection.errors import PictureError
from detection.inspector import Inspector
from scenarios import better_than_paper, frozen
from scenarios.better_than_paper import findings_of, plots_of, tables_of
from scenarios.frozen import Configured, FrozenJob, Judged, frozen_of
from scenarios.material import Lost, read_material
from scenarios.variants import Compared, compare, job_of, variants_of

VARIED = ("registration and mask, memory bank", "improved and memory bank", "improved, standardised views")


@pytest.fixture(scope="module")
def variants():
    return variants_of(load_detection("paper").content, load_detection("default").content, 256)


def changes(variant, first) -> int:
    """In how many respects a variant differs from the published pipeline."""
    sections = DetectionConfig.model_fields
    changed = [getattr(variant.config, name) != getattr(first.config, name) for name in sections]
    return sum([*changed, variant.model != first.model, variant.masked, variant.projected, bool(variant.alternative)])


def test_each_change_stands_alone_and_the_last_ones_are_what_ships(variants) -> None:
    first, improved = variants[0], variants[-1]
    assert first.config == load_detection("paper").content and first.model == ModelConfig(resolution=256)
    for variant in variants[1:]:
        if not variant.name.startswith("improved"):
            assert changes(variant, first) == len(re.split(", | and (?!Wolf)", variant.name)), variant.name
    assert improved.config == load_detection("default").content and improved.masked
    assert all(each.config == improved.config for each in variants if each.name.startswith("improved"))
    names = [variant.name for variant in variants]
    assert len(set(names)) == len(names) and all(each.combined in (None, *names) for each in variants)


def test_variants_are_compared_on_parts_that_did_not_train(variants, photographs: Path, tmp_path: Path) -> None:
    material = read_material(photographs)
    by_name = {each.name: each for each in variants}
    chosen = ("faithful", "semi-orthogonal projection", "covariances shrunk by OAS", "improved", *VARIED)
    some = [replace(by_name[name], model=ModelConfig(n_features=20)) for name in chosen]
    trained = tuple(range(6))
    jobs = {job_of(each, view, material, trained, tmp_path) for each in some for view in material.views}
    assert len(jobs) == 5 * len(material.views)  # standardising and combining need no scores of their own
    for job in jobs:
        job.run()
    found = compare(some, material, trained, tmp_path)
    assert [each.variant for each in found] == list(chosen)
    assert all(each.part_auroc.value == 1 for each in found)  # a black bar on a bright disc


def test_a_frozen_model_is_the_one_that_was_trained(variants, photographs: Path, tmp_path: Path) -> None:
    material = read_material(photographs)
    good = tuple(studied.part for studied in material.parts if studied.good)
    config = variants[-2].config.model_copy(update={"preprocess": PreprocessConfig(registration="none")})
    what = Configured(config, ModelConfig(n_features=20), masked=False)
    dataset = replace(material.dataset, parts=good)
    frozen._train(dataset, what, tmp_path / "model")
    before = (tmp_path / "model" / "inspector.json").stat().st_mtime_ns
    frozen._train(dataset, what, tmp_path / "model")
    assert (tmp_path / "model" / "inspector.json").stat().st_mtime_ns == before
    parts = tuple(studied.part for studied in material.parts[8:12])
    job = FrozenJob(tmp_path / "model", parts, tmp_path / "scores" / "0.json")
    job.run()
    scores = job.read()
    assert scores.shape == (4, 2, 2) and np.isfinite(scores).all() and scores[2:, :, 0].min() > scores[:2, :, 0].max()


def test_a_picture_that_cannot_be_scored_makes_a_recheck(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        views = ("left", "right")
        info = SimpleNamespace(masked=False)
        threshold = 1.0

        def score_view(self, view, picture, *, mask):
            if view == "right":
                raise PictureError("no outline")
            heatmap = np.zeros((8, 8), np.float32)
            heatmap[2:4, 2:5] = heatmap[4, 5] = heatmap[7, 7] = 1.0  # seven pixels with the corner, and one apart
            return SimpleNamespace(score=1.0, heatmap=heatmap, valid=np.ones((8, 8), np.bool_))

    monkeypatch.setattr(Inspector, "load", lambda folder: Broken())
    parts = read_material(photographs).parts
    job = FrozenJob(tmp_path, (parts[0].part,), tmp_path / "0.json")
    job.run()
    assert job.read().tolist() == [[[1.0, 7.0], [math.inf, math.inf]]]


def test_the_frozen_threshold_decides(photographs: Path) -> None:
    material = read_material(photographs)  # 10 good parts, 4 defective ones, of which the last is beyond the vote
    scores = np.full((14, 2), 5.0)
    scores[0] = (math.inf, 20.0)  # a recheck whose other view is over T is rejected
    scores[1] = (30.0, 9.0)  # one view over T alone is not
    scores[10:13] = ((11.0, 12.0), (10.0, 10.0), (99.0, 9.9))
    scores[13] = (50.0, 50.0)
    judged = Judged(10.0, scores, np.zeros_like(scores), scores.min(axis=1), ())  # both of two views must reach 10
    found = frozen_of(judged, material, k=2)
    assert found.threshold == 10 and found.tnr.value == pytest.approx(0.9) and found.tpr.value == pytest.approx(2 / 3)
    assert found.beyond is not None and found.beyond.value == 1
    assert found.tnr_at_full_tpr.value == pytest.approx(0.9)
    tables = tables_of([], {("faithful", 0.01): found, ("improved", 0.01): found}, material)
    (by_kind,) = (table for table in tables if table.name == "by_kind")
    assert by_kind.rows[0][:3] == ("dot", 2.0, 4) and by_kind.rows[0][3].value == pytest.approx(0.75)
    assert by_kind.rows[1][1:3] == ("all", 4) and by_kind.rows[1][3:] == by_kind.rows[0][3:]
    (plot,) = plots_of({("faithful", 0.01): found, ("faithful", 0.05): found}, material, k=2)
    assert "TPR" in plot.figure.axes[0].get_ylabel()
    compared = [Compared(name, found.part_auroc, found.tnr) for name in ("faithful", "improved")]
    assert "missed: TPR by 0.323, TNR by 0.090" in findings_of(compared, {("improved", 0.01): found})[1]


def test_parts_that_were_not_whole_are_rejected(photographs: Path) -> None:
    material = read_material(photographs)
    lost = (Lost("a", "", True), Lost("b", "", True), Lost("c", "", False))
    scores = np.full((14, 2), 5.0)
    judged = Judged(10.0, scores, np.zeros_like(scores), scores.min(axis=1), ())
    found = frozen_of(judged, replace(material, lost=lost), k=2)
    assert found.tnr.value == 10 / 12 and found.tpr.value == 1 / 4 and found.beyond is not None
    assert found.beyond.value == 0 and len(found.statistics) == 14


def test_another_alpha_moves_t_and_nothing_else() -> None:
    scores = np.full((3, 2), 5.0)
    judged = Judged(10.0, scores, scores, scores[:, 0], held_out=tuple(float(n) for n in range(1, 40)))
    assert 38 < judged.at(0.05).threshold < 38.001 and 39 < judged.at(0.01).threshold < 39.001
    assert judged.at(0.05).statistics is judged.statistics and np.isnan(judged.at(0.05).areas_px).all()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_twins_parts_end_in_a_page(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(better_than_paper._main)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["--out", str(out), "--seed", "1"])
    assert result.exit_code == 0, result.output
    figures = json.loads((out / "summary.json").read_text())["figures"]
    assert (
        set(figures["frozen"]) == {f"{name}/{a}" for name in ("faithful", "improved") for a in (0.01, 0.05)}
        and (out / "frozen.png").is_file()
    )
