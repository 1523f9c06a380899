"""Every fault ends in its error or a counted retry, the part in recheck, and the next part is normal."""

from dataclasses import replace
from unittest.mock import Mock

import pytest
from pydantic import ValidationError

pytest.importorskip("pypylon", reason="pip install 'twinspect[hardware]'")

from cell.config import load_file, load_part, load_production
from cell.cycle import Cycle
from cell.fingerprint import fingerprint
from cell.interfaces import (
    DeviceTimeout,
    GrabFailed,
    NotConnected,
    ProtocolError,
    ReflexStop,
    ScaleOverload,
    ScaleUnstable,
)
from cell.setup import Order, open_cell
from scenarios.faults import Fault, Faults, FaultsConfig, Scenario, provoke, with_faults

SAID = {
    "camera lost": "gone",
    "camera incomplete": "incomplete",
    "camera no trigger": "no picture came|not ready for a trigger",
    "scale silent": "said nothing",
    "scale unstable": "not settle",
    "scale overloaded": "overloaded",
    "scale garbage": "nonsense|which is no MT-SICS",
    "scale wrong baud": "nonsense|baud",
    "gripper missed": "hold nothing",
    "gripper part lost": "no longer in the hand",
    "arm reflex": "stopped itself",
    "arm connection lost": "gone",
    "arm stop pressed": "stop was pressed",
}
ERRORS = {
    "camera lost": NotConnected,
    "camera incomplete": GrabFailed,
    "camera no trigger": DeviceTimeout,
    "scale silent": DeviceTimeout,
    "scale unstable": ScaleUnstable,
    "scale overloaded": ScaleOverload,
    "scale garbage": ProtocolError,
    "scale wrong baud": ProtocolError,
    "arm reflex": ReflexStop,
    "arm connection lost": NotConnected,
    "arm stop pressed": ReflexStop,
}
FAULTS = load_file("faults", "each", Scenario).content.faults
# On the emulated cell the drivers meet the fault itself; on the twin one stands for all that are raised alike.
ARM = [fault for fault in FAULTS if fault.device in ("gripper", "arm")]
CASES = [("emulated", fault) for fault in FAULTS if fault not in ARM] + [
    ("twin", fault) for fault in FAULTS if fault in ARM or fault.kind in ("lost", "silent")
]


def order_on(cell) -> Order:
    part = load_part("ring")
    # Two views at each grasp point: as good as eight for what is asked here.
    few = replace(part, content=part.content.model_copy(update={"views": part.content.views[:2]}))
    return Order(cell, few, load_production("good"), range(2), 4)


@pytest.mark.parametrize("name, fault", CASES, ids=[f"{name}: {f.device} {f.kind}" for name, f in CASES])
def test_fault_ends_as_it_must(name, fault, small_cell, sensors_cell):
    ends_as_it_must(provoke(order_on(sensors_cell() if name == "emulated" else small_cell(name)), fault), fault)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ARM, ids=[f"{f.device} {f.kind}" for f in ARM])
def test_fault_that_comes_over_the_wire_ends_as_it_must(fault, small_cell):
    ends_as_it_must(provoke(order_on(small_cell("emulated")), fault), fault)


def ends_as_it_must(outcome, fault):
    (error,) = outcome.errors
    assert error.startswith(f"{fault.device}: ")
    assert any(
        word in error.replace("incompletely", "incomplete") for word in SAID[f"{fault.device} {fault.kind}"].split("|")
    )
    moving = fault.device in ("gripper", "arm")
    assert outcome.stopped == moving
    assert outcome.bin == (None if moving else "recheck")
    assert (outcome.next_bin, outcome.next_errors) == ("ok", ())


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.device != "gripper"], ids=lambda f: f"{f.device} {f.kind}")
def test_named_error_is_raised_at_its_call_and_at_no_other(fault):
    device = Mock(spec=["capture", "weigh", "follow", "stop", "recover"])
    faulty = Faults(FaultsConfig(scenario=Scenario(faults=(fault,))), Mock()).around(fault.device, device)
    call = getattr(faulty, {"camera": "capture", "scale": "weigh", "arm": "follow"}[fault.device])
    for _ in range(fault.call - 1):
        call()
    with pytest.raises(ERRORS[f"{fault.device} {fault.kind}"], match=rf"^{fault.device}: "):
        call()
    if fault.device == "arm":
        faulty.recover(acknowledged_by="a person")
    call()


def test_single_incomplete_picture_is_a_counted_retry(sensors_cell):
    outcome = provoke(order_on(sensors_cell()), Fault(device="camera", kind="incomplete", call=2))
    assert (outcome.errors, outcome.bin, outcome.retries) == ((), "ok", 1)


def test_every_fault_that_is_known_is_in_the_scenario():
    assert {f"{fault.device} {fault.kind}" for fault in FAULTS} == set(SAID)


def test_arm_stands_until_somebody_acknowledged(small_cell):
    cell_file = with_faults(small_cell("twin"), Fault(device="arm", kind="connection lost", call=1))
    with open_cell(order_on(cell_file)) as cell:
        cycle = Cycle(cell)
        cycle.prepare()
        ticket = cell.source.next()
        before = cell.arm.state().positions_rad
        for _ in range(2):
            with pytest.raises(NotConnected):
                cycle.run(ticket, on_frame=lambda *taken: None, choose_bin=lambda passage: "ok")
        assert cell.arm.state().fault == "it is gone"
        assert (cell.arm.state().positions_rad == before).all()
        cell.arm.recover(acknowledged_by="a person")
        assert cell.arm.state().fault is None
        cycle.prepare()


def test_faults_change_nothing_that_a_model_is_bound_to(small_cell):
    plain = small_cell("twin")
    with open_cell(order_on(plain)) as cell, open_cell(order_on(with_faults(plain, *FAULTS))) as faulty:
        assert fingerprint(cell) == fingerprint(faulty)


def test_unknown_fault_is_refused_with_the_known_ones():
    with pytest.raises(ValidationError, match="scale knows no fault on fire, but silent, unstable"):
        Fault(device="scale", kind="on fire")
