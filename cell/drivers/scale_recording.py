"""Taking a scale into service whose protocol nobody has written down: from a recording to a proposed dialect."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import yaml

from cell.drivers.dialect import Line
from cell.interfaces import ProtocolError

_NUMBER = re.compile(r"(?P<sign>[+-]?)(?P<blanks> *)(?P<value>\d+(?:[.,]\d+)?)")
_UNIT = re.compile(r" *(?P<unit>kg|mg|g)\b")
# So often in a row the same number counts as a reading at rest.
_AT_REST = 3
_SHOWN = 200
_SHOWN_BYTES = 60


@dataclass(frozen=True)
class _Record:
    """A record with its number taken out: what stands before and after it, its unit, and whether it rests."""

    before: str
    number: str
    after: str
    unit: str
    at_rest: bool

    @property
    def shape(self) -> tuple[str, str, str]:
        return self.before, self.unit, self.after


def propose(heard: bytes, line: Line) -> str:
    """Return the text of a dialect file that fits a recording, for a person to confirm.

    Parameters
    ----------
    heard : bytes
        What a scale sent while it was loaded, left in peace, and relieved.
    line : Line
        The settings with which it was heard.

    Returns
    -------
    str
        YAML, with what was found out and what was not as comments above.

    Raises
    ------
    ProtocolError
        There is nothing in it that looks like a mass.
    """
    end = next((end for end in ("\r\n", "\n", "\r") if heard.count(end.encode()) > 1), None)
    # What came before the first terminator and after the last one may be half a record.
    texts = heard.decode("ascii", errors="replace").split(end)[1:-1] if end else []
    records = _records(texts)
    if end is None or not records:
        raise ProtocolError(
            "scale",
            "recording",
            f"{len(heard)} bytes came, and no mass is in them: {heard[:_SHOWN_BYTES]!r}",
            "look at the baud rate, and set the scale to send continuously",
        )
    stable, unstable = _by_rest(records)
    found = {
        "title": "recorded; give it a name",
        "line": line.model_dump(),
        "terminator": end,
        "stable": _pattern(stable, named=True),
    }
    if unstable:
        found["unstable"] = _pattern(unstable, named=False)
    notes = _notes(records, stable, unstable, strangers=[text for text in texts if not _NUMBER.search(text)])
    shown = [f"#   {text!r}" for text in texts[:_SHOWN]]
    return "\n".join((*notes, "# What was heard:", *shown, yaml.safe_dump(found, sort_keys=False, allow_unicode=True)))


def _records(texts: list[str]) -> list[_Record]:
    cut = []
    for text in texts:
        number = _NUMBER.search(text)
        if number is None:
            continue
        unit = _UNIT.match(text, number.end())
        after = text[unit.end() if unit else number.end() :]
        cut.append(
            (text[: number.start()].rstrip(" "), number["value"], after.rstrip(" "), unit["unit"] if unit else "")
        )
    same = [0] * len(cut)
    for place, (last, this) in enumerate(pairwise(cut), start=1):
        same[place] = same[place - 1] + 1 if last[1] == this[1] else 0
    # A number that stands still was at rest from its first repetition on, not only from the third.
    rests = [any(n >= _AT_REST - 1 for n in _run(same, place)) for place in range(len(same))]
    return [_Record(*parts, at_rest=rest) for parts, rest in zip(cut, rests, strict=True)]


def _run(same: list[int], place: int) -> list[int]:
    """Return the counts of the run of equal numbers that a place belongs to."""
    start = place - same[place]
    stop = next((later for later in range(place + 1, len(same)) if same[later] == 0), len(same))
    return same[start:stop]


def _by_rest(records: list[_Record]) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """Sort the shapes of the records into those of a reading at rest and those of one that moves."""
    resting = Counter(record.shape for record in records if record.at_rest)
    moving = Counter(record.shape for record in records if not record.at_rest)
    stable = [shape for shape in resting if resting[shape] > moving[shape]]
    unstable = [shape for shape in resting | moving if shape not in stable]
    if not stable:
        # Nothing sets rest apart: a person must say what does.
        return unstable, []
    return stable, unstable


def _pattern(shapes: list[tuple[str, str, str]], *, named: bool) -> str:
    """Return a regular expression for records of these shapes."""
    parts = []
    for what, choices in zip(("before", "unit", "after"), zip(*shapes, strict=True), strict=True):
        words = "|".join(re.escape(word) for word in sorted(set(choices)))
        parts.append(f"(?P<unit>{words})" if named and what == "unit" else f"({words})")
    before, unit, after = parts
    number = r"(?P<sign>[+-]?) *(?P<value>\d+(\.\d+)?)" if named else r"[+-]? *\d+(\.\d+)?"
    return f"{before} *{number} *{unit} *{after} *"


def _notes(
    records: list[_Record],
    stable: list[tuple[str, str, str]],
    unstable: list[tuple[str, str, str]],
    *,
    strangers: list[str],
) -> list[str]:
    units = sorted({unit for _, unit, _ in stable})
    notes = [f"# Proposed from a recording of {len(records)} records. Confirm each line before you use it."]
    if not unstable:
        notes.append(
            "# NO STABILITY MARK was seen: record again and touch the pan meanwhile, or do not use this scale."
        )
    if units == [""] or "" in units:
        notes.append("# NO UNIT was seen with readings at rest: set the scale to print it.")
    if not any(record.at_rest for record in records):
        notes.append("# NOTHING was at rest: record again and leave the pan in peace for some seconds.")
    notes += [f"# Not understood: {text!r}" for text in sorted(set(strangers))]
    notes.append("# Look up the commands for request and tare; without them the scale must send continuously.")
    return notes
