"""The shipped dialects against records written down from the manufacturers' manuals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell.config import load_file
from cell.drivers.dialect import Dialect
from twin.emulation.languages import LANGUAGES

NAMES = ("kern", "sartorius-sbi", "mt-sics", "a-and-d")
DIALECTS = {name: load_file("dialects", name, Dialect).content for name in NAMES}


@pytest.mark.parametrize(
    "name, record, state, mass_g",
    [
        ("kern", b"      23.003 g  \r\n", "stable", 23.003),
        ("kern", b"M-     1.500 kg \r\n", "stable", -1500.0),
        ("kern", b"      23.003    \r\n", "unstable", None),
        ("kern", b"           Error\r\n", "error", None),
        ("kern", b"          12 pcs\r\n", "error", None),
        ("sartorius-sbi", b"+   123.56 g  \r\n", "stable", 123.56),
        ("sartorius-sbi", b"-   111.255 g  \r\n"[:1] + b"  111.255 g  \r\n", "stable", -111.255),
        ("sartorius-sbi", b"N     +  123.56 g  \r\n"[:7] + b"   123.56 g  \r\n", "stable", 123.56),
        ("sartorius-sbi", b"+   123.56    \r\n", "unstable", None),
        ("sartorius-sbi", b"      High    \r\n", "overload", None),
        ("sartorius-sbi", b"      Low     \r\n", "overload", None),
        ("sartorius-sbi", b"   Err 054    \r\n", "error", None),
        ("mt-sics", b"S S     100.00 g\r\n", "stable", 100.0),
        ("mt-sics", b"S S      -0.25 mg\r\n", "stable", -0.00025),
        ("mt-sics", b"S D     129.07 g\r\n", "unstable", None),
        ("mt-sics", b"S I\r\n", "unstable", None),
        ("mt-sics", b"S +\r\n", "overload", None),
        ("mt-sics", b"S -\r\n", "overload", None),
        ("mt-sics", b"ES\r\n", "error", None),
        ("mt-sics", b"T S     100.00 g\r\n", "ignored", None),
        ("mt-sics", b"S S       3.20 lb\r\n", "error", None),
        ("a-and-d", b"ST,+00123.45  g\r\n", "stable", 123.45),
        ("a-and-d", b"ST,-00000.12 kg\r\n", "stable", -120.0),
        ("a-and-d", b"US,+00123.45  g\r\n", "unstable", None),
        ("a-and-d", b"OL,+9999999E+19\r\n", "overload", None),
        ("a-and-d", b"EC,E02\r\n", "error", None),
        ("a-and-d", b"ST,+0001234.5 oz\r\n", "error", None),
    ],
)
def test_records_of_the_manuals_are_read(name, record, state, mass_g):
    reading = DIALECTS[name].read(record)
    assert reading is not None and reading.state == state
    assert reading.mass_g == mass_g


@pytest.mark.parametrize("name", sorted(LANGUAGES))
@given(steps=st.integers(-99_999, 99_999))
def test_every_mass_comes_back_as_it_was_said(name, steps):
    dialect = DIALECTS[name.removesuffix("-22")]
    reading = dialect.read(LANGUAGES[name].say(steps / 1000, "stable"))
    assert reading is not None and reading.mass_g == steps / 1000
    unstable = dialect.read(LANGUAGES[name].say(steps / 1000, "unstable"))
    assert unstable is not None and unstable.state == "unstable" and unstable.mass_g is None


@pytest.mark.parametrize("name", sorted(LANGUAGES))
@given(steps=st.integers(-99_999, 99_999), cut=st.integers(1, 21))
def test_part_of_a_record_is_never_another_mass(name, steps, cut):
    record = LANGUAGES[name].say(steps / 1000, "stable")
    dialect = DIALECTS[name.removesuffix("-22")]
    for part in (record[cut:], record[:-1], record[:cut]):
        reading = dialect.read(part)
        assert reading is None or part == record or reading.mass_g in (None, steps / 1000)


@given(st.binary(max_size=40))
def test_garbage_is_no_mass(data):
    for dialect in DIALECTS.values():
        reading = dialect.read(data)
        assert reading is None or reading.mass_g is None


def test_dialect_without_its_groups_is_refused():
    with pytest.raises(ValueError, match="stable has no group sign, unit"):
        Dialect(title="x", stable=r"(?P<value>\d+)")
