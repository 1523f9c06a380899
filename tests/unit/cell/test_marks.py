"""Marks: what was found on a picture lies in its file where it was found."""

import numpy as np
import pytest
from prerendered import make_records
from prerendered_line import record_parts

from cell.interfaces import CellError
from cell.records.address import Address
from cell.records.database import Database
from cell.records.marks import MarkStore
from cell.records.queries import newest
from cell.records.verification import verify
from cell.results import Evidence
from detection.geometry import Box, Geometry
from detection.scores import ViewScore

SHAPE, BOX = (300, 400), Box(50, 100, 250, 300)


def evidence(side: int) -> Evidence:
    """Return a picture of which a spot around x = 150, y = 200 of the frame is anomalous."""
    geometry = Geometry(SHAPE, BOX, side)
    heatmap = np.full((side, side), 5.0, np.float32)
    centre = geometry.to_frame([(x, y) for y in range(side) for x in range(side)]).reshape(side, side, 2)
    heatmap[np.hypot(*np.moveaxis(centre - (150, 200), 2, 0)) < 12] = 30.0
    valid = np.ones((side, side), bool)
    valid[0] = False
    return Evidence(7, np.zeros((8, 8, 3), np.uint8), ViewScore("V1", 30.0, heatmap, valid, geometry))


@pytest.mark.parametrize("side", [200, 512])
def test_marks_lie_where_they_were_found(tmp_path, side):
    store = MarkStore(tmp_path)
    store.create()
    store.put(1234, (evidence(side),), threshold=20.0)
    marks = store.read(1234)
    assert marks is not None and marks.threshold == 20.0
    view = marks.views["V1"]
    (contour,) = view.contours
    np.testing.assert_allclose(np.mean([np.min(contour, 0), np.max(contour, 0)], 0), (150, 200), atol=1)
    assert view.peaks == [30.0]
    grey = view.grey()
    assert grey.shape == (min(side, 256),) * 2 and grey[0].max() <= grey.max() // 2
    rows, columns = np.nonzero(grey > 150)
    hot = np.array(view.matrix) @ (columns.mean(), rows.mean(), 1)
    np.testing.assert_allclose(hot, (150, 200), atol=1)
    assert grey.max() == int(30.0 / (2 * 20.0) * 255)


def test_a_part_without_evidence_has_no_file(tmp_path):
    assert MarkStore(tmp_path).put(1, (), threshold=20.0) is None
    assert MarkStore(tmp_path).read(1) is None and not list(tmp_path.iterdir())


def test_a_damaged_file_is_named(tmp_path):
    store = MarkStore(tmp_path)
    store.create()
    store.put(1, (evidence(64),), threshold=20.0)
    (file,) = tmp_path.rglob("1.json")
    file.write_text("{}")
    with pytest.raises(CellError, match=r"1\.json"):
        store.read(1)


@pytest.mark.parametrize(
    "change", [lambda file: file.write_bytes(file.read_bytes() + b" "), lambda file: file.unlink()]
)
def test_changed_and_missing_marks_show(tmp_path, change):
    address = make_records(tmp_path)
    record_parts(address, 3)  # the third one is a reject
    with Database(Address.parse(address)) as database:
        assert verify(database, progress=lambda done, total: None).problems == ()
        (file,) = database.address.pictures.glob("marks/*/*.json")
        change(file)
        (problem,) = verify(database, progress=lambda done, total: None).problems
    assert problem == f"p-00002: the marks of inspection {file.stem} are missing or were changed"


def test_marks_that_cannot_be_stored_stop_the_line_but_cost_no_ending(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    address = make_records(tmp_path)
    monkeypatch.setattr("cell.records.marks.write_durably", full)
    with pytest.raises(CellError, match="cannot be written: No space left"):
        record_parts(address, 3)
    with Database(Address.parse(address)) as database, database.reading() as session:
        (last,) = newest(session, count=1)
    assert (last.part.part_id, last.ending.bin) == ("p-00002", "reject")
