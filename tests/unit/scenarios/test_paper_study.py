import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import scenarios.paper_study as paper_study
from detection import Inspector, read_dataset
from detection.errors import DatasetError
from scenarios.material import Material, read_material
from scenarios.paper_study import split_of

GOOD, DEFECTIVE = 10, 4
VIEWS = ("left", "right")
"""Of the photographs."""


@pytest.fixture(scope="module")
def done(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of the dataset."""
    out = tmp_path_factory.mktemp("study") / "out"
    run(out, photographs)
    return out


def run(out: Path, photographs: Path, *more: str) -> str:
    import typer

    app = typer.Typer()
    app.command()(paper_study._main)
    result = CliRunner().invoke(app, ["--out", str(out), "--dataset", str(photographs), *more])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_table_has_a_row_for_each_split_and_decision(done: Path) -> None:
    with (done / "table1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    first = "training/held-out parts/size (px)"
    assert [row[first] for row in rows[::3]] == ["4/6/256", "6/4/256", "8/2/256"]
    assert [row["decision"] for row in rows[:3]] == ["max", "percentile", "cluster"]
    assert {row["published TNR"] for row in rows} == {""}  # not the paper's splits, so not beside its figures
    for row in rows:
        assert 0 <= float(row["TNR of held-out parts, exact T: low"]) <= float(row["TNR of held-out parts, exact T"])


def test_a_defect_that_one_view_shows_is_beyond_the_vote(done: Path) -> None:
    with (done / "defective_parts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["in the table above"] for row in rows] == ["counted"] * 3 + ["beyond the vote"]
    assert json.loads((done / "summary.json").read_text())["figures"]["parts"]["beyond_the_vote"] == 1


def test_scores_are_those_of_the_paper_configuration(done: Path, photographs: Path, tmp_path: Path) -> None:
    # An independent way: train the product's own models on the same parts, and let them score.
    from detection import train
    from detection.config import DetectionConfig, DistanceConfig, ModelConfig, PreprocessConfig, ScoreConfig
    from detection.datasets import Part

    read = read_dataset(photographs)
    split = split_of(read_material(photographs), seed=0)
    trained = [read.parts[i] for i in split.pool[: split.train[1]]]
    parts = tuple(Part(p.part_id, "good", "good", "train", p.pictures, p.masks, p.ignored) for p in trained)
    config = DetectionConfig(
        preprocess=PreprocessConfig(registration="none"),
        distance=DistanceConfig(covariance="position"),
        score=ScoreConfig(method="percentile"),
    )
    object.__setattr__(read, "parts", parts)
    train(read, tmp_path / "model", config=config, model=ModelConfig())
    inspector = Inspector.load(tmp_path / "model")
    from detection.pictures import read_picture

    for view in VIEWS:
        with np.load(done / "scores" / f"{view}-256.npz") as arrays:
            scores = arrays["scores"][1, 1]
        for number in (0, GOOD, GOOD + DEFECTIVE - 1):
            picture = read_picture(photographs / f"p{number:02}-{view}.png")
            assert inspector.score_view(view, picture).score == pytest.approx(scores[number], rel=1e-4)


def test_a_study_that_was_stopped_goes_on_and_agrees_with_one_that_was_not(
    done: Path, photographs: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    (begun / "scores").mkdir(parents=True)
    for file in ("settings.json", "scores/left-256.npz"):
        (begun / file).write_bytes((done / file).read_bytes())
    assert "summary.json" in run(begun, photographs, "--compare", str(done), "--tolerance", "0")
    assert (begun / "scores/right-256.npz").read_bytes() == (done / "scores/right-256.npz").read_bytes()


def test_splits_are_the_papers_where_there_are_as_many_parts(photographs: Path) -> None:
    few = read_material(photographs)
    good, bad = few.parts[0], few.parts[GOOD]
    split = split_of(Material((good,) * 118 + (bad,) * 32, few.dataset), seed=1)
    assert split.train == (47, 71, 94) and len(split.pool) == len(set(split.pool)) == 117
    assert [len(draw) for draw in split.draws] == [47, 71, 94] and set(split.draws[0]) < set(split.draws[2])


def test_too_few_parts_are_refused(photographs: Path) -> None:
    few = read_material(photographs)
    with pytest.raises(DatasetError, match="too few for three splits"):
        split_of(Material(few.parts[:5], few.dataset), seed=0)
