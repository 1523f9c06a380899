from dataclasses import replace
from pathlib import Path

import pytest

from cell.collecting import PartLost
from cell.interfaces import CellError, ConfigError, MotionRejected, NotEmpty
from scenarios.gauge import visits_of
from scenarios.made_parts import FULL_PARTS, Shard, inspected_under, made_by_twin, paper_order
from scenarios.material import Lost, split_training


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, write_dataset):
    """Return a function that says which parts stop the line, and which slip; nothing is simulated."""

    def collects(stops: set[int], slips: set[int] = frozenset()) -> list[list[int]]:
        collected: list[list[int]] = []

        def collect(order, out, progress):
            numbers = list(order.numbers)
            collected.append(numbers)
            if stops & set(numbers):
                write_dataset(out, [number for number in numbers if number < min(stops)])  # kept, as `collect` does
                raise PartLost("Arm: a reflex stopped it")
            write_dataset(out, [number for number in numbers if number not in slips])

        monkeypatch.setattr("scenarios.made_parts.collect", collect)
        return collected

    def do(client, jobs, *, doing):
        for job in jobs:
            if not job.out.exists():
                job.run()

    monkeypatch.setattr("scenarios.made_parts.run_jobs", do)
    return collects


def order_of(numbers: range):
    return replace(paper_order(FULL_PARTS, cell="twin", part="ring", seed=0), numbers=numbers)


def test_a_part_that_stops_the_line_is_lost_alone_and_stays_lost(line, tmp_path: Path) -> None:
    collected = line(stops={3}, slips={7})
    orders = {"normal day": order_of(range(12))}
    made = inspected_under(None, orders, tmp_path)
    assert [studied.piece for studied in made.parts] == [f"{number:05}" for number in range(12) if number not in (3, 7)]
    stopped = "Arm: a reflex stopped it"
    assert made.lost == (Lost("00003", "normal day", True, stopped), Lost("00007", "normal day", True))
    assert collected == [[0, 1, 2, 3, 4, 5], *([number] for number in range(6)), [6, 7, 8, 9, 10, 11]]
    again = line(stops=set())
    assert inspected_under(None, orders, tmp_path).lost == made.lost and again == []


def test_a_lost_visit_is_one_of_its_piece_and_a_defective_part_is_not_good(line, tmp_path: Path) -> None:
    line(stops={237})
    order = order_of(range(0))
    again = inspected_under(None, {"training": visits_of(order, [0], 2), "again": visits_of(order, [118], 2)}, tmp_path)
    assert [(each.piece, each.condition) for each in again.parts] == [("00000", "training")] * 2 + [("00118", "again")]
    assert again.lost == (Lost("00118", "again", False, "Arm: a reflex stopped it"),)
    trained = Lost("00001", "training", True)
    training, judged = split_training(replace(again, lost=(trained, *again.lost)), least=2)
    assert training.lost == (trained,) and judged.lost == again.lost


def test_an_order_of_which_no_part_is_whole_says_why(line, tmp_path: Path) -> None:
    line(stops={0, 1})
    with pytest.raises(CellError, match="no part could be inspected whole; Arm: a reflex stopped it"):
        inspected_under(None, {"normal day": order_of(range(2))}, tmp_path)


def test_a_condition_under_which_no_part_is_whole_is_a_finding(line, tmp_path: Path) -> None:
    line(stops={2, 3})
    orders = {"normal day": order_of(range(2)), "laid badly": order_of(range(2, 4))}
    made = inspected_under(None, orders, tmp_path)
    assert [each.piece for each in made.parts] == ["00000", "00001"]
    assert [each.condition for each in made.lost] == ["laid badly"] * 2


def test_a_line_killed_while_it_makes_parts_one_by_one_begins_their_group_again(
    line, write_dataset, tmp_path: Path
) -> None:
    line(stops={3})
    write_dataset(tmp_path / "00000-00005.part" / "00000", [0])
    made = made_by_twin(None, order_of(range(6)), tmp_path)
    assert len(made.parts) == 5 and len(made.lost) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["00000-00005"]


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("ring.stl: is no mesh"),
        MotionRejected("arm", "planning", "out of reach", "move it"),
        NotEmpty("gripper", "starting", "something is in the hand", "take it out"),
    ],
)
def test_what_no_part_is_the_cause_of_stops_the_study_and_leaves_nothing(
    error: CellError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collect(order, out, progress):
        raise error

    monkeypatch.setattr("scenarios.made_parts.collect", collect)
    with pytest.raises(type(error)):
        Shard(order_of(range(3)), tmp_path / "shard").run()
    assert not (tmp_path / "shard").exists()
