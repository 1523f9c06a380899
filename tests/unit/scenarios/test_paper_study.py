import csv
import json
from pathlib import Path

import cv2
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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright discs with a grain of their own; the last four with a dark bar, which only one view shows on the last."""
    folder = tmp_path_factory.mktemp("photographs")
    rows, truth, seen = [], [], []
    for number in range(GOOD + DEFECTIVE):
        name, bad = f"p{number:02}", number >= GOOD
        for frame, view in enumerate(VIEWS):
            rng = np.random.default_rng([number, frame])
            picture = rng.integers(5, 15, (128, 128, 3), dtype=np.uint8)
            cv2.circle(picture, (64, 64), 50, (170, 160, 150), -1)
            picture += rng.integers(0, 20, picture.shape, dtype=np.uint8)
            shown = bad and (number < GOOD + DEFECTIVE - 1 or frame == 0)
            if shown:
                cv2.rectangle(picture, (50, 60), (78, 66), (20, 20, 20), -1)
            file = folder / f"{name}-{view}.png"
            cv2.imwrite(str(file), picture)
            rows.append((name, view, file.name, frame))
            seen.append((name, frame, 200 if shown else 0, 1.0))
        truth.append((name, "defective" if bad else "good", json.dumps([{"kind": "dot", "size_mm": 2}] if bad else [])))
    (folder / "truth").mkdir()
    for path, header, body in (
        ("parts.csv", ("part_id", "declared"), [(row[0], "") for row in truth]),
        ("images.csv", ("part_id", "view", "file", "frame"), rows),
        ("truth/parts.csv", ("part_id", "label", "defects"), truth),
        ("truth/views.csv", ("part_id", "frame", "pixels", "mm2"), seen),
    ):
        with (folder / path).open("w", newline="") as file:
            csv.writer(file).writerows([header, *body])
    head = {"format": "twinspect-dataset", "version": 1, "views": VIEWS, "picture_width_mm": 30}
    (folder / "dataset.json").write_text(json.dumps(head))
    return folder


@pytest.fixture(scope="module")
def done(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of the dataset."""
    out = tmp_path_factory.mktemp("study") / "out"
    run(out, dataset)
    return out


def run(out: Path, dataset: Path, *more: str) -> str:
    import typer

    app = typer.Typer()
    app.command()(paper_study._main)
    result = CliRunner().invoke(app, ["--out", str(out), "--dataset", str(dataset), *more])
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


def test_scores_are_those_of_the_paper_configuration(done: Path, dataset: Path, tmp_path: Path) -> None:
    # An independent way: train the product's own models on the same parts, and let them score.
    from detection import train
    from detection.config import DetectionConfig, ModelConfig, PreprocessConfig, ScoreConfig
    from detection.datasets import Part

    read = read_dataset(dataset)
    split = split_of(read_material(dataset), seed=0)
    trained = [read.parts[i] for i in split.pool[: split.train[1]]]
    parts = tuple(Part(p.part_id, "good", "good", "train", p.pictures, p.masks, p.ignored) for p in trained)
    config = DetectionConfig(preprocess=PreprocessConfig(registration="none"), score=ScoreConfig(method="percentile"))
    object.__setattr__(read, "parts", parts)
    train(read, tmp_path / "model", config=config, model=ModelConfig())
    inspector = Inspector.load(tmp_path / "model")
    from detection.pictures import read_picture

    for view in VIEWS:
        with np.load(done / "scores" / f"{view}-256.npz") as arrays:
            scores = arrays["scores"][1, 1]
        for number in (0, GOOD, GOOD + DEFECTIVE - 1):
            picture = read_picture(dataset / f"p{number:02}-{view}.png")
            assert inspector.score_view(view, picture).score == pytest.approx(scores[number], rel=1e-4)


def test_a_study_that_was_stopped_goes_on_and_agrees_with_one_that_was_not(
    done: Path, dataset: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    (begun / "scores").mkdir(parents=True)
    for file in ("settings.json", "scores/left-256.npz"):
        (begun / file).write_bytes((done / file).read_bytes())
    assert "summary.json" in run(begun, dataset, "--compare", str(done), "--tolerance", "0")
    assert (begun / "scores/right-256.npz").read_bytes() == (done / "scores/right-256.npz").read_bytes()


def test_splits_are_the_papers_where_there_are_as_many_parts(dataset: Path) -> None:
    few = read_material(dataset)
    good, bad = few.parts[0], few.parts[GOOD]
    split = split_of(Material((good,) * 118 + (bad,) * 32, few.dataset), seed=1)
    assert split.train == (47, 71, 94) and len(split.pool) == len(set(split.pool)) == 117
    assert [len(draw) for draw in split.draws] == [47, 71, 94] and set(split.draws[0]) < set(split.draws[2])


def test_too_few_parts_are_refused(dataset: Path) -> None:
    few = read_material(dataset)
    with pytest.raises(DatasetError, match="too few for three splits"):
        split_of(Material(few.parts[:5], few.dataset), seed=0)
