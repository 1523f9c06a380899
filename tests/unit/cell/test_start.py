"""Before the first part: hand and scale are proven empty, or a person is asked."""

from functools import partial

import pytest

from cell.commands.console import clearing
from cell.cycle import Cycle
from cell.interfaces import CellError, Grasp, NotEmpty, Weighing
from cell.schema import MassLimits
from cell.setup import open_cell
from cell.start import hand_is_empty, nothing_is_held, prove, refuse_uncleared, scale_is_empty


class Hand:
    """A hand around something, or around nothing."""

    def __init__(self, width_m: float, *, held: bool = False) -> None:
        self.width_m, self.held, self.calls = width_m, held, []

    def state(self) -> Grasp:
        return Grasp(self.held, self.width_m)

    def grasp(self, width_m: float, force_n: float) -> Grasp:
        self.calls.append("grasp")
        return self.state()

    def release(self) -> None:
        self.calls.append("release")
        self.width_m, self.held = 0.0, False


class Pan:
    def __init__(self, mass_g: float) -> None:
        self.mass_g = mass_g

    def weigh(self) -> Weighing:
        return Weighing(self.mass_g, True, 0.0)


def test_empty_hand_is_proven_by_its_width():
    hand = Hand(0.0005)
    assert "0.5 mm" in hand_is_empty(hand) and hand.calls == ["grasp", "release"]


@pytest.mark.parametrize("hand, calls", [(Hand(0.004), ["grasp"]), (Hand(0.004, held=True), [])])
def test_hand_that_holds_something_is_not_opened(hand, calls):
    with pytest.raises(NotEmpty, match=r"4\.0 mm wide is between the fingers.*take it out"):
        hand_is_empty(hand)
    assert hand.calls == calls


@pytest.mark.parametrize(
    "width_m, held, empty", [(0.0, False, True), (0.08, False, True), (0.03, False, False), (0.08, True, False)]
)
def test_hand_may_hold_something_unless_it_is_closed_or_open(width_m, held, empty):
    if empty:
        assert nothing_is_held(Hand(width_m, held=held))
    else:
        with pytest.raises(NotEmpty):
            nothing_is_held(Hand(width_m, held=held))


def test_loaded_scale_is_not_empty():
    limits = MassLimits(nominal_g=23.0, tolerance_g=0.25)
    assert scale_is_empty(Pan(0.02), limits)
    for mass_g in (23.0, -23.0):
        with pytest.raises(NotEmpty, match=r"23\.000 g are on it"):
            scale_is_empty(Pan(mass_g), limits)


def test_hand_opens_only_after_a_person_answered():
    hand, asked = Hand(0.004, held=True), []
    with pytest.raises(CellError, match="before a person has looked"):
        prove(partial(hand_is_empty, hand), hand, refuse_uncleared)
    assert hand.calls == []

    def answer(found):
        asked.extend(found)
        assert hand.calls == []
        return "me"

    prove(partial(hand_is_empty, hand), hand, answer)
    assert "4.0 mm wide" in asked[0] and hand.calls == ["release", "grasp", "release"]


def test_a_person_who_is_wrong_is_not_believed():
    limits = MassLimits(nominal_g=23.0, tolerance_g=0.25)
    with pytest.raises(NotEmpty, match="scale"):
        prove(partial(scale_is_empty, Pan(23.0), limits), Hand(0.08), lambda found: "me")


def test_without_a_terminal_only_a_name_answers(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: PTH123, SIM115
    with pytest.raises(CellError, match=r"something in it.*--cleared-by NAME"):
        clearing(None)(["something in it"])
    assert clearing("me")(["something in it"]) == "me"
    assert "something in it" in capsys.readouterr().err


def left_with_a_part(cell, goal: str) -> None:
    """Begin a cycle and leave it where the arm has come to `goal`."""

    class Left(Exception):
        pass

    follow = cell.arm.follow

    def interrupted(trajectory):
        follow(trajectory)
        if trajectory.goal == goal:
            raise Left

    cell.arm.follow = interrupted
    cycle = Cycle(cell)
    cycle.prepare()
    with pytest.raises(Left):
        cycle.run(cell.source.next(), on_frame=lambda *taken: None, choose_bin=lambda passage: "ok")
    cell.arm.follow = follow


@pytest.mark.parametrize("goal, device", [("scale", "gripper"), ("above scale (GP2)", "scale")])
def test_line_does_not_start_with_a_part_left_in_the_cell(goal, device, order_of):
    with open_cell(order_of("good", 1, width=96)) as cell:
        left_with_a_part(cell, goal)
        here = cell.arm.state().positions_rad
        with pytest.raises(CellError, match=f"before a person has looked: {device}: .*--cleared-by"):
            Cycle(cell).prepare()
        if device == "gripper":
            assert cell.gripper.state().held and (cell.arm.state().positions_rad == here).all()
        asked = []

        def take_out(found):
            asked.extend(found)
            cell.arm.recover(acknowledged_by="a person")  # in the twin, the part goes with it
            return "a person"

        Cycle(cell).prepare(clear=take_out)
        assert [what.split(":")[0] for what in asked] == [device]
