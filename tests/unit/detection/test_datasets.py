import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from detection import DatasetError, read_dataset

Write = Callable[..., Path]


def edit(path: Path, change: Callable[[list[list[str]]], object]) -> None:
    """Change a table's rows in place; the header is row 0."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    change(rows)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def folder(tmp_path: Path, collected: Write) -> Path:
    return collected(tmp_path / "rings", good=3, defective=1)


def test_what_collect_wrote(folder: Path) -> None:
    dataset = read_dataset(folder)
    assert dataset.views == ("front", "back", "side")
    assert (dataset.bottom_share, dataset.picture_width_mm, dataset.made_for) == (
        0.1,
        104.0,
        {"cell": "test"},
    )
    assert dataset.info["seed"] == 7 and not dataset.whole_pictures
    assert [part.part_id for part in dataset.parts] == [f"part-{i:04d}" for i in range(4)]
    assert [part.label for part in dataset.parts] == ["good"] * 3 + ["defective"]
    assert all(part.split is None for part in dataset.parts)
    bad = dataset.parts[3]
    assert bad.pictures["back"] == folder / "images/000010.png"
    assert bad.masks["back"] == folder / "truth/masks/part-0003/000010.png"
    assert dataset.parts[0].masks == {"front": None, "back": None, "side": None}


def test_without_truth_the_declaration_counts(folder: Path) -> None:
    (folder / "truth/parts.csv").unlink()
    assert [part.label for part in read_dataset(folder).parts] == ["good"] * 3 + [None]


def test_truth_overrides_the_declaration(folder: Path) -> None:
    edit(folder / "truth/parts.csv", lambda rows: rows[1].__setitem__(1, "defective"))
    assert read_dataset(folder).parts[0].label == "defective"


def test_training_parts_are_the_first_good_ones(folder: Path) -> None:
    dataset = read_dataset(folder)
    assert [part.part_id for part in dataset.training_parts()] == ["part-0000", "part-0001", "part-0002"]
    assert len(dataset.training_parts(limit=2)) == 2
    with pytest.raises(DatasetError, match="4 training parts asked, 3 good ones"):
        dataset.training_parts(limit=4)
    with pytest.raises(DatasetError, match="at least 2"):
        dataset.training_parts(limit=1)


def declare(folder: Path, label: str) -> None:
    def say(rows: list[list[str]]) -> None:
        column = rows[0].index("declared")
        for row in rows[1:]:
            row[column] = label

    edit(folder / "parts.csv", say)


def test_fewer_than_two_good_parts_are_refused(folder: Path) -> None:
    declare(folder, "defective")
    with pytest.raises(DatasetError, match=r"0 good part\(s\)"):
        read_dataset(folder).training_parts()


def test_truth_does_not_help_to_train_where_parts_are_declared(folder: Path) -> None:
    declare(folder, "good")
    edit(folder / "truth/parts.csv", lambda rows: rows[1].__setitem__(1, "defective"))
    dataset = read_dataset(folder)
    assert dataset.parts[0].label == "defective" and dataset.parts[0].declared == "good"
    assert dataset.training_parts() == dataset.parts


def test_truth_table_alone_names_the_training_parts(folder: Path) -> None:
    declare(folder, "")
    dataset = read_dataset(folder)
    assert [part.part_id for part in dataset.training_parts()] == [
        part.part_id for part in dataset.parts if part.label == "good"
    ]


def set_cell(column: int, value: str) -> Callable[[list[list[str]]], object]:
    return lambda rows: rows[1].__setitem__(column, value)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("images.csv", lambda rows: rows.pop(2), r"images\.csv: part part-0000 has no picture of \['back'\]"),
        ("images.csv", lambda rows: rows.append(rows[1]), "has view front twice"),
        ("images.csv", set_cell(1, "top"), "view 'top' is none of"),
        ("images.csv", set_cell(0, "nobody"), r"part 'nobody' is not in parts\.csv"),
        ("images.csv", set_cell(2, "../rings/images/000000.png"), "leaves the dataset's folder"),
        ("images.csv", set_cell(2, "/etc/hostname"), "leaves the dataset's folder"),
        ("images.csv", set_cell(2, "..\\x.png"), "leaves the dataset's folder"),
        ("images.csv", set_cell(2, "images/nothing.png"), r"nothing\.png: missing"),
        ("images.csv", set_cell(3, "-1"), "frame '-1' is no number"),
        (
            "images.csv",
            lambda rows: rows[1].__delitem__(slice(2, None)),
            r"images\.csv, line 2: too few values",
        ),
        ("images.csv", lambda rows: rows[0].__setitem__(3, "number"), r"column\(s\) frame missing"),
        ("parts.csv", lambda rows: rows.append(rows[1]), "'part-0000' is there twice"),
        ("parts.csv", lambda rows: rows.append(["extra", "", "", "", "good", ""]), "extra has no picture"),
        ("parts.csv", lambda rows: rows.append(["../x", "", "", "", "good", ""]), "is no part id"),
        ("parts.csv", set_cell(4, "fine"), "'fine' is no label"),
        ("parts.csv", lambda rows: rows.__delitem__(slice(1, None)), "is not in parts"),
        ("truth/parts.csv", set_cell(1, "bad"), r"truth/parts\.csv.*'bad' is no label"),
    ],
)
def test_contradictions_are_named(
    folder: Path, table: str, change: Callable[[list[list[str]]], object], message: str
) -> None:
    edit(folder / table, change)
    with pytest.raises(DatasetError, match=message):
        read_dataset(folder)


def name_mask(file: str, *, others: str = "") -> Callable[[list[list[str]]], object]:
    """Add the column `mask`: the first picture has this file, the others another or none."""

    def add(rows: list[list[str]]) -> None:
        for row, value in zip(rows, ["mask", file] + [others] * len(rows), strict=False):
            row.append(value)

    return add


def test_pixels_to_ignore_are_named_picture_by_picture(folder: Path) -> None:
    nothing = {"front": None, "back": None, "side": None}
    assert all(part.ignored == nothing for part in read_dataset(folder).parts)
    (folder / "hand.png").write_bytes(b"read when it is used")
    (folder / "none.png").write_bytes(b"read when it is used")
    edit(folder / "images.csv", name_mask("hand.png", others="none.png"))
    first, *others = read_dataset(folder).parts
    elsewhere = dict.fromkeys(nothing, folder / "none.png")
    assert first.ignored == {**elsewhere, "front": folder / "hand.png"}
    assert all(part.ignored == elsewhere for part in others)


def test_masks_of_some_pictures_alone_are_refused(folder: Path) -> None:
    (folder / "hand.png").write_bytes(b"never read")
    edit(folder / "images.csv", name_mask("hand.png"))
    with pytest.raises(DatasetError, match="part part-0000 has a picture without a mask, others have one"):
        read_dataset(folder)


def test_tables_that_a_spreadsheet_saved_are_read(folder: Path) -> None:
    expected = read_dataset(folder).parts
    for name in ("parts.csv", "images.csv", "dataset.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(b"\xef\xbb\xbf" + content)
    assert read_dataset(folder).parts == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dataset.json", "[" * 100_000, "not valid JSON"),
        ("dataset.json", '{"views": ["front"], "made_for": {"x": NaN}}', "NaN is not a JSON number"),
        ("parts.csv", 'part_id,declared\n"' + "x" * 200_000, "cannot be read"),
    ],
)
def test_foreign_files_are_refused_by_name(folder: Path, name: str, content: str, message: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(DatasetError, match=message):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("file", "message"), [("hand.png", r"hand\.png: missing, but images\.csv names it"), ("../x.png", "leaves the")]
)
def test_masks_that_are_not_there_are_refused(folder: Path, file: str, message: str) -> None:
    edit(folder / "images.csv", name_mask(file))
    with pytest.raises(DatasetError, match=message):
        read_dataset(folder)


def test_line_that_ends_before_its_mask_is_refused(folder: Path) -> None:
    edit(folder / "images.csv", lambda rows: rows[0].append("mask"))
    with pytest.raises(DatasetError, match=r"images\.csv, line 2: too few values"):
        read_dataset(folder)


@pytest.mark.parametrize("name", ["parts.csv", "images.csv"])
def test_missing_tables_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DatasetError, match=f"{name}: missing"):
        read_dataset(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"}, {"version": 9}, {"views": []}, {"views": ["a", "a"]}, {"views": ["../a"]},
        {"bottom_share": 1.0}, {"picture_width_mm": 0},
    ],
)  # fmt: skip
def test_descriptions_that_do_not_fit_are_refused(folder: Path, change: dict[str, object]) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        read_dataset(folder)


def test_broken_descriptions_are_refused(folder: Path) -> None:
    (folder / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match=r"dataset\.json: not valid JSON"):
        read_dataset(folder)
    (folder / "dataset.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        read_dataset(folder)


def test_folders_that_are_no_dataset_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"neither dataset\.json"):
        read_dataset(tmp_path)
    (tmp_path / "train/good").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"train/good: no pictures"):
        read_dataset(tmp_path)


def test_the_mvtec_layout(tmp_path: Path, mvtec: Write) -> None:
    dataset = read_dataset(mvtec(tmp_path / "nut", train=4))
    assert dataset.views == ("view",) and dataset.whole_pictures and dataset.bottom_share == 0
    assert [part.part_id for part in dataset.training_parts()] == [f"train/good/00{i}" for i in range(4)]
    tests = [part for part in dataset.parts if part.split == "test"]
    assert [(part.part_id, part.label) for part in tests] == [
        ("test/dot/000", "defective"),
        ("test/dot/001", "defective"),
        ("test/good/000", "good"),
        ("test/good/001", "good"),
    ]
    assert tests[0].masks["view"] == tmp_path / "nut/ground_truth/dot/000_mask.png"
    assert tests[2].masks["view"] is None


def test_mvtec_masks_may_carry_the_pictures_name(tmp_path: Path, mvtec: Write) -> None:
    folder = mvtec(tmp_path / "nut")
    masks = folder / "ground_truth/dot"
    (masks / "000_mask.png").rename(masks / "000.png")
    parts = {part.part_id: part for part in read_dataset(folder).parts}
    assert parts["test/dot/000"].masks["view"] == masks / "000.png"
