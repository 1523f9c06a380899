import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from detection.datasets import Dataset, Part
from detection.errors import DatasetError
from scenarios import few_parts
from scenarios.few_parts import PRESETS, curves, draws_of, findings_of, outcomes_of, tables_of
from scenarios.material import Material, Studied
from scenarios.view_scores import ViewScores

VIEWS = ("left", "middle", "right")


@dataclass(frozen=True)
class Done:
    """A job that was done: scores by draw, way and picture."""

    scores: np.ndarray

    def read(self) -> ViewScores:
        return ViewScores(self.scores.astype(np.float32), np.zeros((0, 1, 1)), np.zeros((0, 1, 1, 3)))


def material(good: int, defective: int) -> Material:
    """Parts of which the last defective one shows its defect in one view alone."""
    parts = []
    for number in range(good + defective):
        bad = number >= good
        label = "defective" if bad else "good"
        pictures = {view: Path(f"{number}-{view}.png") for view in VIEWS}
        part = Part(f"p{number}", None, label, None, pictures, {}, dict.fromkeys(VIEWS))
        seen = 1 if number == good + defective - 1 else 3
        parts.append(Studied(part, ({"kind": "dot", "size_mm": 1.0},) if bad else (), seen if bad else None))
    dataset = object.__new__(Dataset)
    object.__setattr__(dataset, "views", VIEWS)
    object.__setattr__(dataset, "folder", Path("somewhere"))
    return Material(tuple(parts), dataset)


def test_every_order_grows_through_all_counts_that_leave_parts_to_judge() -> None:
    draws = draws_of(range(100, 118), PRESETS["quick"], seed=3)
    assert [len(draw) for draw in draws] == [8, 12, 16] * 3
    for first in (0, 3, 6):
        small, medium, large = draws[first : first + 3]
        assert large[:12] == medium and medium[:8] == small
        assert set(large) <= set(range(100, 118)) and len(set(large)) == 16
    assert len({draw for draw in draws if len(draw) == 16}) == 3
    assert draws == draws_of(range(100, 118), PRESETS["quick"], seed=3)
    assert draws != draws_of(range(100, 118), PRESETS["quick"], seed=4)


def test_too_few_parts_are_refused() -> None:
    with pytest.raises(DatasetError, match="give at least 10"):
        draws_of(range(9), PRESETS["quick"], seed=0)


def test_parts_that_trained_and_defects_beyond_the_vote_do_not_count() -> None:
    parts = material(good=6, defective=3)
    draws = ((0, 1), (0, 1, 2))
    # The second largest of three views decides. Parts 0 to 2 would pass; of the others, 5 is over the weakest defect.
    second = np.array([[1, 1, 1, 2, 3, 9, 8, 10, 0.5], [1, 1, 20, 2, 3, 4, 8, 10, 0.5]])
    scores = {
        "left": np.stack([second + 5, second])[:, :, np.newaxis][0],
        "middle": second[:, np.newaxis],
        "right": second[:, np.newaxis] - 5,
    }
    jobs = {("faithful", view): Done(scores[view].reshape(2, 1, 9)) for view in VIEWS}
    first, more = outcomes_of(jobs, parts, draws, {"faithful": 2})
    assert (first.count, first.draw, more.count, more.draw) == (2, 0, 3, 0)
    assert first.tnr.value == pytest.approx(3 / 4)  # 2, 3, 4 of 2, 3, 4, 5
    assert first.hardest == "dot 1 mm" and first.tnr_of_most == first.tnr  # two parts: nine of ten are both
    assert more.tnr.value == 1.0 and more.part_auroc.value == 1.0
    assert first.part_auroc.value == pytest.approx(7 / 8)  # 8 > 9 alone is wrong, of 4 × 2 pairs


def test_where_nine_of_ten_must_be_found_the_weakest_tenth_does_not_set_the_threshold() -> None:
    parts = material(good=6, defective=11)  # the last is beyond the vote
    values = np.array([1, 2, 3, 4, 5, 6, *np.arange(2.5, 12.5), 0.0])
    jobs = {("faithful", view): Done(values.reshape(1, 1, 17)) for view in VIEWS}
    (outcome,) = outcomes_of(jobs, parts, ((0,),), {"faithful": 2})
    assert outcome.tnr.value == pytest.approx(1 / 5) and outcome.tnr_of_most.value == pytest.approx(2 / 5)


def test_the_page_says_by_how_much_the_target_is_missed() -> None:
    parts = material(good=22, defective=4)
    draws = draws_of(range(22), PRESETS["quick"], seed=0)
    rng = np.random.default_rng(0)
    jobs = {
        (config, view): Done(rng.normal(10, 1, (len(draws), 1, 26)) + 3 * (np.arange(26) >= 22))
        for config in ("faithful", "improved")
        for view in VIEWS
    }
    outcomes = outcomes_of(jobs, parts, draws, {"faithful": 2, "improved": 2})
    means, every = tables_of(outcomes)
    with_16 = [each.tnr.value for each in outcomes if each.config == "improved" and each.count == 16]
    (row,) = (row for row in means.rows if row[:2] == ("improved", 16))
    assert row[2:5] == pytest.approx((np.mean(with_16), min(with_16), max(with_16)))
    assert len(every.rows) == len(draws) * 2 and len(means.rows) == 6
    said = next(line for line in findings_of(outcomes) if "improved: held-out" in line)
    missed = 0.91 - np.mean(with_16)
    assert (f"missed by {missed:.3f}" if missed > 0 else "is met") in said
    labels = [axes.get_xlabel() for axes in curves(outcomes).figure.axes]
    assert labels == ["training parts"] * 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_twins_parts_end_in_a_page(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(few_parts._main)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["--out", str(out), "--seed", "1"])
    assert result.exit_code == 0, result.output
    figures = json.loads((out / "summary.json").read_text())["figures"]
    draws = {f"{c}/{n}/{d}" for c in few_parts.CONFIGS for n in (8, 12, 16, 24) for d in range(3)}
    assert set(figures) == draws | {"parts_not_whole"}
    assert (out / "index.html").is_file() and (out / "few_parts.png").is_file()
