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
from scenarios.better_than_paper import Compared, compare, findings_of, job_of, plots_of, tables_of, variants_of
from scenarios.frozen import Configured, FrozenJob, Judged, frozen_of
from scenarios.material import read_material


@pytest.fixture(scope="module")
def variants():
    return variants_of(load_detection("paper").content, load_detection("shared").content, 256)


def test_each_change_stands_alone_and_the_last_ones_are_what_ships(variants) -> None:
    first = variants[0]
    assert first.config == load_detection("paper").content and first.model == ModelConfig(resolution=256)
    for variant in variants[1:-2]:
        changed = {
            name
            for name in DetectionConfig.model_fields
            if getattr(variant.config, name) != getattr(first.config, name)
        }
        changed |= {"model"} if variant.model != first.model else set()
        changed |= {"masked"} if variant.masked else set()
        changed |= {"standardised"} if variant.standardised else set()
        assert len(changed) == len(re.split(", (?!known)| and ", variant.name)), variant.name
    assert variants[-2].config == load_detection("shared").content and variants[-2].masked
    assert len({variant.name for variant in variants}) == len(variants)


def test_variants_are_compared_on_parts_that_did_not_train(variants, photographs: Path, tmp_path: Path) -> None:
    material = read_material(photographs)
    some = [replace(each, model=ModelConfig(n_features=20)) for each in (variants[0], *variants[-2:])]
    trained = tuple(range(6))
    for variant in some:
        for view in material.views:
            job = job_of(variant, view, material, trained, tmp_path)
            if not job.out.exists():
                job.run()
    assert len(list(tmp_path.glob("*.npz"))) == 2 * len(material.views)  # standardising needs no scores of its own
    found = compare(some, material, trained, tmp_path)
    assert [each.variant for each in found] == ["faithful", "improved", "improved, standardised views"]
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
    judged = Judged(10.0, scores, np.zeros_like(scores), scores.min(axis=1))  # both of two views must reach 10
    found = frozen_of(judged, material, k=2)
    assert found.threshold == 10 and found.tnr.value == pytest.approx(0.9) and found.tpr.value == pytest.approx(2 / 3)
    assert found.beyond is not None and found.beyond.value == 1
    assert found.tnr_at_full_tpr.value == pytest.approx(0.9)
    tables = tables_of([], {"faithful": found, "improved": found}, material)
    (by_kind,) = (table for table in tables if table.name == "by_kind")
    assert by_kind.rows[0][:3] == ("dot", 2.0, 4) and by_kind.rows[0][3].value == pytest.approx(0.75)
    (plot,) = plots_of({"faithful": found}, material, k=2)
    assert "TPR" in plot.figure.axes[0].get_ylabel()
    compared = [Compared(name, found.part_auroc, found.tnr) for name in ("faithful", "improved")]
    assert "missed: TPR by 0.323, TNR by 0.090" in findings_of(compared, {"improved": found})[1]


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
    assert set(figures["frozen"]) == {"faithful", "improved"} and (out / "frozen.png").is_file()
