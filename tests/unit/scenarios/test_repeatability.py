import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cell.collecting import PartLost
from cell.config import load_cell, load_part, load_production
from cell.fingerprint import fingerprint
from cell.interfaces import CellError, ConfigError, GraspLost
from cell.setup import Order, open_cell
from scenarios import repeatability
from scenarios.agreement import Piece, agreements_of, fleiss_kappa, pieces_of, spread_of, spreads_of
from scenarios.frozen import Judged
from scenarios.gauge import collected_by_hand, pieces_in
from scenarios.made_parts import with_options
from scenarios.material import Lost, Material, read_material
from scenarios.repeatability import findings_of, plots_of, tables_of


def run(out: Path, *options: str):
    import typer

    app = typer.Typer()
    app.command()(repeatability._main)
    return CliRunner().invoke(app, ["--out", str(out), *options])


def piece(*statistics: float, good: bool = True) -> Piece:
    return Piece("p", "good" if good else "dot 1 mm", good, False, np.array(statistics))


def test_kappa_is_that_of_fleiss_1971() -> None:
    """Ten subjects in five categories by fourteen raters: the worked example of the English Wikipedia, .210."""
    counts = [
        (0, 0, 0, 0, 14),
        (0, 2, 6, 4, 2),
        (0, 0, 3, 5, 6),
        (0, 3, 9, 2, 0),
        (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0),
        (3, 2, 6, 3, 0),
        (2, 5, 3, 2, 2),
        (6, 5, 2, 1, 0),
        (0, 2, 2, 3, 7),
    ]
    verdicts = [[str(kind) for kind, n in enumerate(row) for _ in range(n)] for row in counts]
    found = fleiss_kappa(verdicts)
    assert found is not None and found.value == pytest.approx(0.210, abs=5e-4) and found.low < 0.210 < found.high


@given(st.lists(st.lists(st.sampled_from(["ok", "reject"]), min_size=2, max_size=5), min_size=2, max_size=8))
def test_the_order_of_visits_and_pieces_does_not_count(verdicts: list[list[str]]) -> None:
    one, other = fleiss_kappa(verdicts), fleiss_kappa([each[::-1] for each in verdicts[::-1]])
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert one.value == pytest.approx(other.value) and -1 <= one.low <= one.value <= one.high <= 1


def test_perfect_and_no_agreement() -> None:
    perfect = fleiss_kappa([["ok"] * 4, ["reject"] * 4, ["ok"] * 4])
    assert perfect is not None and (perfect.value, perfect.low, perfect.high) == (1, -1, 1)  # three pieces prove little
    assert fleiss_kappa([["ok"] * 4] * 3) is None
    rng = np.random.default_rng(0)
    lots = fleiss_kappa([rng.choice(["ok", "reject"], 10).tolist() for _ in range(400)])
    assert lots is not None and lots.low < 0 < lots.high and abs(lots.value) < 0.05


def test_spread_is_parted_into_what_was_put_in() -> None:
    rng = np.random.default_rng(1)
    found = spread_of([rng.normal(own, 0.2, 5 + i % 4) for i, own in enumerate(rng.normal(3, 1.0, 300))])
    assert found is not None and found.share_within is not None
    assert found.within == pytest.approx(0.2, rel=0.05) and found.between == pytest.approx(1.0, rel=0.1)
    assert found.share_within == pytest.approx(0.04 / 1.04, rel=0.2)
    same = spread_of([np.array([1.0, 2.0]), np.array([1.0, 2.0])])
    assert same is not None and same.between == 0  # not less, though the estimate is
    assert spread_of([np.array([1.0, 2.0])]) is None


def test_a_recheck_is_a_verdict_and_never_right_for_a_good_piece() -> None:
    found = agreements_of([piece(0.5, 0.6), piece(0.5, math.inf), piece(2.0, math.inf, good=False), piece(0.9, 1.0)])
    groups = {each.group: each for each in found}
    assert groups["good"].alike.value == pytest.approx(1 / 3) and groups["good"].right.value == pytest.approx(1 / 3)
    assert groups["defective"].right.value == 1 and groups["defective"].alike.value == 0
    assert groups["all"].pieces == 4 and groups["all"].kappa is not None
    assert "Of 1 pieces (defective) 0.000" in " ".join(findings_of(found, {}, None))


def test_pieces_are_chosen_evenly_from_the_production_file() -> None:
    production = load_production("gauge").content
    pieces = pieces_in(production, good=4, defective=4)
    kinds = [[each.kind for each in production.batch_of(number).defects] for number in pieces]
    assert kinds == [[]] * 4 + [["dot"], ["scratch"], ["crack"], ["missing"]]
    assert len(pieces_in(production, good=99, defective=99)) == 32


@pytest.fixture
def pieces_again(with_columns) -> Path:
    """The discs, of which six train and two and two are visits of one piece."""
    return with_columns(lambda n: {"piece": f"q{n // 2}", "condition": "training" if n < 6 else ""})


def test_visits_are_put_together(pieces_again: Path) -> None:
    read = read_material(pieces_again)
    again = Material(read.parts[6:], read.dataset)
    scores = np.arange(16.0).reshape(8, 2)
    scores[7, 1] = math.inf
    judged = Judged(10.0, scores, np.zeros_like(scores), scores.min(axis=1), ())
    pieces = pieces_of(again, judged, k=2)
    assert [each.name for each in pieces] == ["q3", "q4", "q5", "q6"] and [each.good for each in pieces[:3]] == [
        1,
        1,
        0,
    ]
    assert pieces[2].verdicts == ["ok", "reject"] and not pieces[2].agrees
    lost = (Lost("q3", "", True), Lost("q9", "", False), Lost("q9", "", False))
    some, *_, never = pieces_of(replace(again, lost=lost), judged, k=2)
    assert some.verdicts == ["ok", "ok", "recheck"] and some.good
    assert never.verdicts == ["recheck"] * 2 and not never.good and never.said == "never whole, defective"
    spreads = spreads_of(again, judged)
    assert list(spreads) == ["left", "right", "part's statistic"] and spreads["left"].within == pytest.approx(
        0.1 * 2**0.5
    )
    tables = tables_of(pieces, agreements_of(pieces), spreads, None)
    assert [table.name for table in tables] == ["agreement", "spread", "pieces"] and len(tables[-1].rows) == 4
    for plot in plots_of(pieces, spreads, where=""):
        assert (
            plot.figure.axes[0].get_xlabel()
            and "T" in plot.figure.axes[0].get_ylabel() + plot.figure.axes[0].get_xlabel()
        )


def test_photographs_of_pieces_end_in_a_page(pieces_again: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--dataset", str(pieces_again), "--config", "paper")
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "out" / "summary.json").read_text())["figures"]
    assert figures["agreement"]["good"]["pieces"] == 2 and figures["agreement"]["defective"]["right"]["value"] == 0.5
    assert figures["mass_within_g"] is None and set(figures["within_T"]) == {"left", "right", "part's statistic"}


def test_parts_that_came_once_are_refused(photographs: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--dataset", str(photographs))
    assert result.exit_code == 1 and "column condition" in " ".join(result.output.split())


def test_a_real_cell_needs_its_model(tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--cell", "real")
    assert result.exit_code == 1 and "give a model of this real cell with --model" in " ".join(result.output.split())


def test_a_person_lays_each_piece_down_again_and_what_is_done_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cell of the twin, small pictures; the person goes home before the second piece comes for the second time."""
    cell = with_options(load_cell("twin"), "camera", {"width": 160, "height": 120})
    cell = replace(cell, content=cell.content.model_copy(update={"copies": 1}))
    order = Order(cell, load_part("ring"), load_production("gauge"), (), 3)
    asked = iter([True, True, True, False, True, True])
    monkeypatch.setattr("scenarios.gauge.sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("scenarios.gauge.typer.confirm", lambda _: next(asked))
    with open_cell(replace(order, numbers=[0])) as connected:
        made_for = fingerprint(connected)
    with pytest.raises(CellError, match="Piece 2 of 2: the study was left"):
        collected_by_hand(order, [0, 17], 2, tmp_path, made_for=made_for)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["00000", "00017.part"]
    with pytest.raises(ConfigError, match="not what the model was trained with"):
        collected_by_hand(order, [0], 2, tmp_path, made_for={"cell_kind": "another"})
    found = collected_by_hand(order, [0, 17], 2, tmp_path, made_for=made_for)
    assert [(each.piece, each.good) for each in found.parts] == [("00000", True)] * 2 + [("00017", False)] * 2
    assert found.parts[2].defects == ({"kind": "dot", "size_mm": 0.8},)


def test_a_piece_that_slips_keeps_its_rounds_before_and_the_next_one_follows(
    write_dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing moves: the first piece slips in its third round, which comes after one that was not whole."""
    came: list[str] = []

    def collect(order: Order, out: Path, *, lay_in, **_: object) -> int:
        came.append(out.name)
        for number in range(3):
            lay_in(number)
        write_dataset(out, [0])
        if came == ["00000.part"]:
            slipped = GraspLost("gripper", "lifting", "it slipped", "look for it")
            raise PartLost(f"{slipped}; 1 whole parts are kept in {out}") from slipped
        return 1

    monkeypatch.setattr("scenarios.gauge.sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("scenarios.gauge.typer.confirm", lambda _: True)
    monkeypatch.setattr("scenarios.gauge.collect", collect)
    order = Order(load_cell("twin"), load_part("ring"), load_production("gauge"), (), 3)
    with pytest.raises(PartLost, match=r"Piece 1 of 2, round 3 of 9: .*go on with the next piece") as caught:
        collected_by_hand(order, [0, 17], 9, tmp_path, made_for={})
    assert ".part" not in str(caught.value)
    found = collected_by_hand(order, [0, 17], 9, tmp_path, made_for={})
    assert came == ["00000.part", "00017.part"] and [each.piece for each in found.parts] == ["00000", "00017"]
    assert [(each.piece, each.good) for each in found.lost] == [("00000", True)] * 2 + [("00017", False)] * 8


def test_a_piece_that_is_never_whole_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slipped(*_: object, **__: object) -> int:
        raise PartLost("it slipped")

    monkeypatch.setattr("scenarios.gauge.sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("scenarios.gauge.collect", slipped)
    order = Order(load_cell("twin"), load_part("ring"), load_production("gauge"), (), 3)
    with pytest.raises(PartLost, match="never whole: start again to repeat it"):
        collected_by_hand(order, [17], 2, tmp_path, made_for={})


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_twins_pieces_end_in_a_page(tmp_path: Path) -> None:
    result = run(tmp_path / "out", "--seed", "1")
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "out" / "summary.json").read_text())["figures"]
    assert figures["agreement"]["all"]["pieces"] == 8 and 0 < figures["mass_within_g"] < 0.02
