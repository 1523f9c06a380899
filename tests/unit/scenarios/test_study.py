import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from cell.interfaces import ConfigError
from detection.intervals import Estimate
from scenarios.material import Lost
from scenarios.study import Plot, Study, Table, begin, differences, write_study


def study(value: float = 0.5, *, name: str = "trial") -> Study:
    rows = [("a <b>", Estimate(value, 0.25, 0.75)), ("c", None)]
    return Study(
        name=name,
        title="A trial",
        findings=["It is so."],
        tables=[Table("rates", "Rates", ("case", "TNR"), rows)],
        plots=[Plot("drawing", "Drawing", Figure())],
        figures={"tnr": {"value": value}, "parts": [1, 2], "note": None},
        settings={"seed": 3},
        seconds=1.5,
    )


def test_a_study_leaves_summary_tables_pictures_and_a_page(tmp_path: Path) -> None:
    write_study(study(), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["figures"]["tnr"] == {"value": 0.5} and summary["figures"]["parts_not_whole"] == 0
    assert summary["settings"]["versions"].keys() >= {"torch", "python"}
    with (tmp_path / "rates.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["case", "TNR", "TNR: low", "TNR: high"],
            ["a <b>", "0.5", "0.25", "0.75"],
            ["c", "", "", ""],
        ]
    page = (tmp_path / "index.html").read_text()
    assert "0.500 (0.250–0.750)" in page and "a &lt;b&gt;" in page and "data:image/png;base64," in page
    assert (tmp_path / "drawing.png").stat().st_size > 0


def test_parts_that_were_not_whole_are_told_with_what_stopped_the_line(tmp_path: Path) -> None:
    lost = (Lost("00003", "laid badly", True, "Gripper: it slipped"), Lost("00119", "", False))
    write_study(replace(study(), lost=lost), tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "not inspected whole: 1 good and 1 defective parts" in page and "Gripper: it slipped" in page
    with (tmp_path / "lost.csv").open(newline="") as file:
        first, second = list(csv.reader(file))[1:]
    assert first == ["00003", "laid badly", "good", "Gripper: it slipped"] and second == ["00119", "", "defective", ""]
    assert json.loads((tmp_path / "summary.json").read_text())["figures"]["parts_not_whole"] == 2


def test_summaries_are_compared_within_a_tolerance(tmp_path: Path) -> None:
    for folder, value in (("one", 0.5), ("near", 0.51), ("far", 0.6)):
        (tmp_path / folder).mkdir()
        write_study(study(value), tmp_path / folder)
    assert list(differences(tmp_path / "one", tmp_path / "near", tolerance=0.02)) == []
    assert list(differences(tmp_path / "one", tmp_path / "far", tolerance=0.02)) == ["figures.tnr.value: 0.5 and 0.6"]


def test_what_only_one_summary_has_is_a_difference(tmp_path: Path) -> None:
    for name, figures in (("a", {"x": 1, "y": [1]}), ("b", {"y": [1, 2], "z": None})):
        (tmp_path / name).write_text(json.dumps({"study": "trial", "figures": figures}))
    assert list(differences(tmp_path / "a", tmp_path / "b", tolerance=1)) == [
        "figures.x: only in the first",
        "figures.y: [1] and [1, 2]",
        "figures.z: only in the second",
    ]


@pytest.mark.parametrize(
    ("text", "match"),
    [("[1]", "no summary"), ("{", "cannot be read"), ('{"study": "other", "figures": {}}', "a summary of other")],
)
def test_what_is_no_summary_of_the_study_is_refused(tmp_path: Path, text: str, match: str) -> None:
    write_study(study(), tmp_path)
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(ConfigError, match=match):
        list(differences(tmp_path, tmp_path / "odd.json", tolerance=0))


def test_a_study_goes_on_with_the_same_settings_and_versions_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path / "study", {"seed": 1})
    begin(tmp_path / "study", {"seed": 1})
    with pytest.raises(ConfigError, match=r"other settings \(seed in settings.json\)"):
        begin(tmp_path / "study", {"seed": 2})
    monkeypatch.setattr("scenarios.study.version", lambda name: "another")
    with pytest.raises(ConfigError, match=r"other settings \(versions in"):
        begin(tmp_path / "study", {"seed": 1})
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").touch()
    with pytest.raises(ConfigError, match="holds something else"):
        begin(tmp_path / "foreign", {"seed": 1})
