"""Control charts against their definition, and sections."""

import math
from dataclasses import replace

import numpy as np
import pytest
from prerendered import RUN, Judge, make_records, ticket
from sqlalchemy import select

from cell.interfaces import Frame, Weighing
from cell.records.address import Address
from cell.records.database import Database
from cell.records.drift import BASELINE, LIMIT, WEIGHT, Chart, DriftWatch
from cell.records.line import LineRecords
from cell.records.queries import change
from cell.records.schema import AlarmRecord
from cell.results import InspectedPart
from cell.verdict import Verdict


def test_average_and_limits_are_those_of_the_definition():
    values = np.random.default_rng(0).normal(10.0, 2.0, BASELINE + 30)
    chart = Chart()
    for value in values:
        chart.add(float(value))
    first, later = values[:BASELINE], values[BASELINE:]
    centre, spread = first.mean(), np.abs(np.diff(first)).mean() / 1.1283791670955126  # d2 of pairs
    weights = WEIGHT * (1 - WEIGHT) ** np.arange(30)[::-1]
    assert chart.average == pytest.approx(weights @ later + (1 - WEIGHT) ** 30 * centre)
    variance = (weights**2).sum() + 1 / BASELINE
    assert chart.limit == pytest.approx(LIMIT * spread * math.sqrt(variance))


def test_quiet_processes_seldom_alarm_and_a_shift_does_soon():
    rng = np.random.default_rng(1)

    def run(shift: float, length: int) -> int | None:
        chart = Chart()
        for _ in range(BASELINE):
            chart.add(rng.normal())
        return next((n for n in range(1, length + 1) if chart.add(rng.normal() + shift)), None)

    assert sum(run(0.0, 200) is not None for _ in range(200)) <= 4
    delays = [run(2.0, 200) for _ in range(50)]
    assert None not in delays and np.median(delays) <= 12


def record(book: LineRecords, number: int, *, score: float, mass_g: float = 23.0, lot: str = "a", verdict: str = "ok"):
    part = replace(ticket(number), lot=lot)
    book.begin(part)
    book.keep("V1", Frame(np.zeros((8, 8), np.uint8), 0.0, 1.0, "c", number), None)
    weighing = Weighing(mass_g, True, 0.0)
    judged = Verdict(verdict, ())
    done = InspectedPart(part, judged, {"V1": score}, (), Judge.threshold, weighing, 1.0, {"V1": number}, ())
    book.judge(done)
    book.end(done, bin=verdict)


def test_a_section_alarms_once_before_parts_are_rejected_and_a_change_starts_a_new_one(tmp_path):
    address, rng = make_records(tmp_path), np.random.default_rng(0)
    with LineRecords(address, RUN) as book, Database(Address.parse(address)) as database:
        watch = DriftWatch(database)
        number = 0
        for _ in range(BASELINE + 10):
            record(book, number, score=rng.normal(10, 1), mass_g=rng.normal(23, 0.01))
            number += 1
        record(book, number, score=500.0, verdict="reject")
        assert watch.update() == ()
        alarms = []
        for step in range(40):
            record(book, number + step, score=rng.normal(10, 1) + 0.1 * step, mass_g=rng.normal(23, 0.01))
            alarms += watch.update()
        (alarm,) = alarms
        assert "the score of view V1 rises" in alarm
        with database.reading() as session:
            assert session.scalars(select(AlarmRecord.chart)).all() == ["V1"]
        # Who starts later sees the same charts.
        again = DriftWatch(database)
        assert {n: (c.average, c.count) for n, c in again.lines[RUN.cell].charts.items()} == {
            n: (c.average, c.count) for n, c in watch.lines[RUN.cell].charts.items()
        }
        change(database, "light", who="me", why="new lamp")
        record(book, 500, score=14.0)
        watch.update()
        assert [len(c.values) for c in watch.lines[RUN.cell].charts.values()] == [1, 1]
        record(book, 501, score=14.0, lot="b")
        watch.update()
        assert watch.lines[RUN.cell].section.lot == "b"
        assert [len(c.values) for c in DriftWatch(database).lines[RUN.cell].charts.values()] == [1, 1]
