import pytest
import yaml

from cell.drivers.dialect import Dialect, Line
from cell.drivers.scale_recording import propose
from cell.interfaces import ProtocolError
from twin.emulation.languages import LANGUAGES


def session(say) -> list[tuple[float, str, bytes]]:
    """What a scale says while a part is put on, rests, is tared away, taken off, and rests again."""
    up = [(0.0, "stable")] * 6 + [(3.1, "unstable"), (11.7, "unstable"), (22.4, "unstable")] + [(23.003, "stable")] * 6
    down = [(0.0, "stable")] * 6 + [(-9.9, "unstable"), (-22.1, "unstable")] + [(-23.003, "stable")] * 6
    return [(grams, condition, say(grams, condition)) for grams, condition in up + down]


def own(grams: float, condition: str) -> bytes:
    """A protocol of nobody's."""
    return f"{'*' if condition == 'stable' else '?'}W{grams:+.2f}g;\n".encode()


@pytest.mark.parametrize(
    "say", [*(LANGUAGES[name].say for name in sorted(LANGUAGES)), own], ids=[*sorted(LANGUAGES), "own"]
)
def test_proposed_dialect_reads_what_it_was_proposed_from(say):
    heard = session(say)
    text = propose(b"".join(record for *_, record in heard), Line(baud_rate=4800))
    dialect = Dialect.model_validate(yaml.safe_load(text))
    assert dialect.line.baud_rate == 4800
    for grams, condition, record in heard:
        reading = dialect.read(record)
        assert reading is not None and reading.state == condition, (record, text)
        if condition == "stable":
            assert reading.mass_g == pytest.approx(grams, abs=0.005)
    assert "NO STABILITY MARK" not in text and "NO UNIT" not in text


def test_what_was_not_seen_is_said():
    text = propose(b"".join(b"%.2f\r\n" % grams for grams in (1, 1, 1, 1, 2, 3, 4, 5, 5, 5, 5)), Line())
    assert "# NO STABILITY MARK was seen" in text and "# NO UNIT was seen" in text
    moving = propose(b"".join(b"%.2f g\r\n" % grams for grams in range(9)), Line())
    assert "# NOTHING was at rest" in moving


def test_strange_records_are_shown():
    text = propose(b"".join(own(1.0, "stable") for _ in range(5)) + b"HELLO\n" + own(1.0, "stable") * 2, Line())
    assert "# Not understood: 'HELLO'" in text


@pytest.mark.parametrize("heard", [b"", b"\xff\x00" * 40, b"no mass\r\nhere\r\neither\r\n"])
def test_recording_without_a_mass_is_refused(heard):
    with pytest.raises(ProtocolError, match=r"no mass is in them.*baud rate"):
        propose(heard, Line())
