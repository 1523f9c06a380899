"""What the page draws and tries, against what `drift` follows and what judged the parts."""

import numpy as np
import pytest
from prerendered import make_records, ticket
from prerendered_line import RUN_WITH_MODEL, THRESHOLD, Judge, record_parts

from cell.interfaces import Frame, Weighing
from cell.records import charts
from cell.records.address import Address
from cell.records.database import Database
from cell.records.drift import BASELINE, DriftWatch
from cell.records.line import LineRecords
from cell.records.queries import change, count_undecided, count_verdicts, decide_about, first_entry_since, newest
from cell.records.schema import Entry
from cell.records.threshold import newest_scored, what_if
from cell.results import InspectedPart
from cell.verdict import Verdict


def record(address: str, scores: np.ndarray) -> None:
    with LineRecords(address, RUN_WITH_MODEL) as book:
        for number, score in enumerate(scores):
            book.begin(ticket(number))
            book.keep("V1", Frame(np.zeros((8, 8), np.uint8), 0.0, 1.0, "c", number), None)
            weighing = Weighing(23.0 + score / 1000, True, 0.0)
            verdict = Verdict("ok" if score < 14 else "reject", ())
            done = InspectedPart(ticket(number), verdict, {"V1": score}, (), Judge.threshold, weighing, 1.0, {}, ())
            book.judge(done)
            book.end(done, bin=verdict.bin)


@pytest.mark.parametrize("changed", [False, True])
def test_traces_are_those_that_drift_follows(tmp_path, monkeypatch, changed):
    # So that what lies between baseline and end is really left out.
    monkeypatch.setattr(charts, "_FORGOTTEN", 60)
    address, rng = make_records(tmp_path), np.random.default_rng(0)
    if changed:
        record(address, rng.normal(5, 1, 10))
        with Database(Address.parse(address)) as database:
            change(database, "light", who="me", why="new lamp")
    record(address, rng.normal(10, 2, 150))
    with Database(Address.parse(address)) as database, database.reading() as session:
        (line,) = DriftWatch(database).lines.values()
        traces = charts.traces(session, shown=20)
    assert set(traces) == set(line.charts) and list(traces)[-1] == "mass"
    for name, chart in line.charts.items():
        trace = traces[name]
        assert trace.centre == chart.centre and trace.baseline == BASELINE and len(trace.points) == 20
        assert trace.points[-1][2] == pytest.approx(chart.average, rel=1e-3)
        assert trace.limit == pytest.approx(chart.limit, rel=1e-4) and trace.outside == chart.outside


def test_another_threshold_judges_as_the_line_would_have(tmp_path):
    address = make_records(tmp_path)
    record_parts(address, 9)
    with Database(Address.parse(address)) as database:
        with database.reading() as session:
            inspections = [i.part.entry for i in newest(session, count=9)][::-1]
        decide_about(database, inspections[2], "ok", who="me", why="dust")
        decide_about(database, inspections[0], "reject", who="me", why="scratch")
        with database.reading() as session:
            scored = newest_scored(session, count=9)
            assert count_undecided(session) == 2
    assert scored is not None and scored.threshold == THRESHOLD and scored.k == 2 and len(scored.parts) == 9
    now = what_if(scored.parts, THRESHOLD)
    assert (now.ok, now.reject) == (6, 3)
    assert (now.good_rejected, now.good, now.defective_passed, now.defective) == (1, 1, 1, 1)
    all_rejected = what_if(scored.parts, 0.0)
    assert (all_rejected.ok, all_rejected.defective_passed) == (0, 0)
    # Their mass is wrong, too: no threshold makes them ok.
    assert what_if(scored.parts, 1e9).reject == 3


def test_counts_since_a_time(tmp_path):
    address = make_records(tmp_path)
    record_parts(address, 4)
    with Database(Address.parse(address)) as database, database.reading() as session:
        entries = session.query(Entry).order_by(Entry.number).all()
        for entry in entries:
            assert first_entry_since(session, entry.at) == min(e.number for e in entries if e.at >= entry.at)
        assert first_entry_since(session, "9") == len(entries) + 1
        third = newest(session, count=2)[1]
        assert count_verdicts(session, since="0") == {"ok": 3, "reject": 1}
        assert count_verdicts(session, since=third.begun.at) == {"ok": 1, "reject": 1}
