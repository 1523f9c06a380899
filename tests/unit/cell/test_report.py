import base64
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cell.interfaces import PartTicket, Weighing
from cell.report import Run, Truth, summary, write_report
from cell.results import Evidence, InspectedPart
from cell.schema import MassLimits
from cell.verdict import Verdict
from detection import ViewScore
from detection.geometry import Box, Geometry

# A frame of which the square from x = 200 was kept, at half its size.
GEOMETRY = Geometry((400, 700), Box(0, 200, 400, 600), 200)


def evidence(*spots: tuple[int, int]) -> Evidence:
    heatmap = np.ones((200, 200), dtype=np.float32)
    for i, (x, y) in enumerate(spots):
        heatmap[y : y + 10, x : x + 20] = 9 - i
    valid = np.ones((200, 200), dtype=np.bool_)
    score = ViewScore("front", 9.0, heatmap, valid, GEOMETRY)
    return Evidence(1, np.full((200, 200, 3), 90, dtype=np.uint8), score)


def run_with(one: Evidence, folder: Path) -> Run:
    def part(name: str, score: float, verdict: Verdict, *seen: Evidence) -> InspectedPart:
        return InspectedPart(
            PartTicket(name, "lot", 1, 1, None),
            verdict,
            {"front": score},
            ("front",) if seen else (),
            5.0,
            Weighing(12.0, True, 0.0),
            None,
            {"front": 1},
            seen,
        )

    parts = (part("a", 9.0, Verdict("reject", ("views",)), one), part("b", 2.0, Verdict("ok", ())))
    return Run(parts, (Truth("defective", ("dot",), folder), Truth("good", (), folder)), 1)


def written(run: Run, folder: Path) -> str:
    write_report(folder / "report.html", run, mass=MassLimits(nominal_g=12, tolerance_g=1), settings=[])
    return (folder / "report.html").read_text(encoding="utf-8")


def left_picture(page: str) -> NDArray[np.uint8]:
    data = page.split("data:image/jpeg;base64,")[1].split('"')[0]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture[:, :270], dtype=np.uint8)


def test_the_report_marks_and_lists_what_was_found(tmp_path: Path) -> None:
    page = written(run_with(evidence((50, 80)), tmp_path), tmp_path)
    assert "x 300 to 339, y 160 to 179: peak 9.00" in page
    picture = left_picture(page).astype(int)
    blue = (picture[..., 2] - picture[..., 0]) > 60
    rows, columns = np.nonzero(blue)
    # Around the spot, in a tile of 270 pixels instead of 200.
    assert (columns.min(), columns.max()) == (pytest.approx(50 * 1.35, abs=4), pytest.approx(70 * 1.35, abs=4))
    assert (rows.min(), rows.max()) == (pytest.approx(80 * 1.35, abs=4), pytest.approx(90 * 1.35, abs=4))
    assert not blue[int(85 * 1.35), int(60 * 1.35)]  # not over it


def test_of_many_places_the_highest_are_listed(tmp_path: Path) -> None:
    page = written(run_with(evidence((10, 10), (50, 50), (90, 90), (130, 130)), tmp_path), tmp_path)
    assert page.count(": peak ") == 3 and "and 1 more" in page and "peak 6.00" not in page


def test_the_area_has_an_interval(tmp_path: Path) -> None:
    run = run_with(evidence((10, 10)), tmp_path)
    figures = summary(run, seconds=1)
    assert figures["part_auroc"] == 1 and figures["part_auroc_interval"] == [pytest.approx(0.207, abs=1e-3), 1]
