import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.interfaces import Weighing
from cell.schema import MassLimits
from cell.verdict import judge
from detection import Decision

VIEWS = ("a", "b", "c")
MASS = MassLimits(nominal_g=20.0, tolerance_g=0.5)
SCORES = {"a": 1.0, "b": 2.0, "c": 3.0}
GOOD = Decision(2.0, 5.0, (), False)
BAD = Decision(6.0, 5.0, ("a", "b"), True)


def weighed(mass_g: float | None = 20.0, *, stable: bool = True) -> Weighing | None:
    return None if mass_g is None else Weighing(mass_g, stable, 0.0)


def test_whole_and_clean_is_ok():
    verdict = judge(weighed(), (), VIEWS, SCORES, GOOD, MASS)
    assert (verdict.bin, verdict.reasons) == ("ok", ())


def test_vote_rejects():
    verdict = judge(weighed(), (), VIEWS, SCORES, BAD, MASS)
    assert verdict.bin == "reject" and "2 views" in verdict.reasons[0]


@pytest.mark.parametrize("mass_g", [19.4, 20.6, math.nan, math.inf, 0.0])
def test_mass_out_of_tolerance_rejects(mass_g):
    verdict = judge(weighed(mass_g), (), VIEWS, SCORES, GOOD, MASS)
    assert verdict.bin == "reject" and "mass" in verdict.reasons[0]


@pytest.mark.parametrize(
    "weighing, faults, scores, decision",
    [
        (None, (), SCORES, GOOD),
        (weighed(stable=False), (), SCORES, GOOD),
        (weighed(), ("camera: gone",), SCORES, GOOD),
        (weighed(), ("camera: gone",), SCORES, BAD),
        (weighed(), (), {"a": 1.0, "b": 1.0}, None),
        (weighed(), (), {"a": 1.0, "b": 1.0}, GOOD),
        (weighed(), (), SCORES, None),
    ],
)
def test_inspection_that_was_not_whole_is_rechecked(weighing, faults, scores, decision):
    verdict = judge(weighing, faults, VIEWS, scores, decision, MASS)
    assert verdict.bin == "recheck" and verdict.reasons


@given(
    mass_g=st.one_of(st.none(), st.floats()),
    stable=st.booleans(),
    faults=st.lists(st.text(min_size=1), max_size=2).map(tuple),
    scored=st.sets(st.sampled_from(VIEWS)),
    anomalous=st.one_of(st.none(), st.booleans()),
)
def test_ok_needs_everything(mass_g, stable, faults, scored, anomalous):
    decision = None if anomalous is None else (BAD if anomalous else GOOD)
    verdict = judge(weighed(mass_g, stable=stable), faults, VIEWS, {v: 1.0 for v in scored}, decision, MASS)
    everything = (
        mass_g is not None
        and abs(mass_g - 20) <= 0.5
        and stable
        and not faults
        and scored == set(VIEWS)
        and anomalous is False
    )
    assert (verdict.bin == "ok") == everything
