import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.config import MassLimits
from cell.cycle import Passage
from cell.interfaces import PartTicket, Weighing
from cell.verdict import judge
from detection import Decision

VIEWS = ("a", "b", "c")
MASS = MassLimits(nominal_g=20.0, tolerance_g=0.5)
SCORES = {"a": 1.0, "b": 2.0, "c": 3.0}
GOOD = Decision(2.0, 5.0, (), False)
BAD = Decision(6.0, 5.0, ("a", "b"), True)


def passage(mass_g: float | None = 20.0, *, stable: bool = True, fault: str | None = None) -> Passage:
    weighing = None if mass_g is None else Weighing(mass_g, stable, 0.0)
    return Passage(PartTicket("p", "lot", 1, 0, None), weighing, VIEWS, fault)


def test_whole_and_clean_is_ok():
    verdict = judge(passage(), VIEWS, SCORES, GOOD, MASS)
    assert (verdict.bin, verdict.reasons) == ("ok", ())


def test_vote_rejects():
    verdict = judge(passage(), VIEWS, SCORES, BAD, MASS)
    assert verdict.bin == "reject" and "2 views" in verdict.reasons[0]


@pytest.mark.parametrize("mass_g", [19.4, 20.6, math.nan, math.inf, 0.0])
def test_mass_out_of_tolerance_rejects(mass_g):
    verdict = judge(passage(mass_g), VIEWS, SCORES, GOOD, MASS)
    assert verdict.bin == "reject" and "mass" in verdict.reasons[0]


@pytest.mark.parametrize(
    "measured, scores, decision",
    [
        (passage(None), SCORES, GOOD),
        (passage(stable=False), SCORES, GOOD),
        (passage(fault="camera: gone"), SCORES, GOOD),
        (passage(fault="camera: gone"), SCORES, BAD),
        (passage(), {"a": 1.0, "b": 1.0}, None),
        (passage(), {"a": 1.0, "b": 1.0}, GOOD),
        (passage(), SCORES, None),
    ],
)
def test_inspection_that_was_not_whole_is_rechecked(measured, scores, decision):
    verdict = judge(measured, VIEWS, scores, decision, MASS)
    assert verdict.bin == "recheck" and verdict.reasons


@given(
    mass_g=st.one_of(st.none(), st.floats()),
    stable=st.booleans(),
    fault=st.one_of(st.none(), st.text(min_size=1)),
    scored=st.sets(st.sampled_from(VIEWS)),
    anomalous=st.one_of(st.none(), st.booleans()),
)
def test_ok_needs_everything(mass_g, stable, fault, scored, anomalous):
    decision = None if anomalous is None else (BAD if anomalous else GOOD)
    verdict = judge(passage(mass_g, stable=stable, fault=fault), VIEWS, {v: 1.0 for v in scored}, decision, MASS)
    everything = (
        mass_g is not None
        and abs(mass_g - 20) <= 0.5
        and stable
        and fault is None
        and scored == set(VIEWS)
        and anomalous is False
    )
    assert (verdict.bin == "ok") == everything
