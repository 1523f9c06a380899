import csv
import json

import numpy as np

from cell.cycle import Cycle
from cell.setup import open_cell
from detection.pictures import read_picture
from twin.truth import visible_views, write_view


def test_views_are_counted_in_which_a_defect_is_visible(tmp_path):
    mask = np.zeros((6, 8), bool)
    write_view(tmp_path, "a", 0, mask, 0.0, kinds=("dot", "crack"))
    mask[2, 3:5] = True
    for frame in (1, 2):
        write_view(tmp_path, "a", frame, mask, 0.123456, kinds=("dot", "crack"))
    write_view(tmp_path, "b", 1000, ~mask & mask, 0.0, kinds=())
    assert visible_views(tmp_path) == {"a": 2, "b": 0}
    rows = list(csv.DictReader((tmp_path / "views.csv").open()))
    assert rows[1] == {"part_id": "a", "frame": "1", "pixels": "2", "mm2": "0.1235", "kinds": "dot crack"}
    np.testing.assert_array_equal(read_picture(tmp_path / "masks/a/000001.png")[..., 0] > 0, mask)


def test_a_part_tells_of_every_view_how_much_of_its_defect_is_seen(order_of, tmp_path):
    """A dot of 0.8 to 2.5 mm: no view sees more of it than there is, and some view sees most of it."""
    order = order_of("mixed", 2, truth=tmp_path, seed=2, width=640)
    with open_cell(order) as cell:
        cycle = Cycle(cell)
        cycle.prepare()
        for _ in order.numbers:
            cycle.run(cell.source.next(), on_frame=lambda v, f, m: None, choose_bin=lambda p: "recheck")
    rows = list(csv.DictReader((tmp_path / "views.csv").open()))
    assert len(rows) == 32
    parts = {row["part_id"]: row for row in csv.DictReader((tmp_path / "parts.csv").open())}
    good, dotted = sorted(parts)
    assert "dot" in parts[dotted]["defects"] and visible_views(tmp_path)[good] == 0
    assert 2 <= visible_views(tmp_path)[dotted] <= 16
    assert {row["kinds"] for row in rows if row["part_id"] == good} == {""}
    assert {row["kinds"] for row in rows if row["part_id"] == dotted} == {"dot"}
    (defect,) = json.loads(parts[dotted]["defects"])
    size = defect["size_mm"]
    areas = [float(row["mm2"]) for row in rows if row["part_id"] == dotted]
    assert 0.7 < max(areas) / (np.pi / 4 * size**2) < 1.05
    for row in rows:
        mask = tmp_path / "masks" / row["part_id"] / f"{int(row['frame']):06d}.png"
        assert (read_picture(mask)[..., 0] > 0).sum() == int(row["pixels"])
        assert (int(row["pixels"]) > 0) == (float(row["mm2"]) > 0)
