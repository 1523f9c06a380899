from pathlib import Path

import pytest
import yaml

from cell.config import load_cell, load_detection, load_part, load_production
from cell.interfaces import ConfigError


def changed(tmp_path: Path, source: Path, change) -> str:
    content = yaml.safe_load(source.read_text())
    change(content)
    path = tmp_path / source.name
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture
def cell_file() -> Path:
    return load_cell("twin").path


@pytest.mark.parametrize("kind, names", [("cell", ["twin"]), ("part", ["ring"]), ("production", ["good", "mixed"])])
def test_shipped_files_load_from_any_folder(kind, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load = {"cell": load_cell, "part": load_part, "production": load_production}[kind]
    for name in names:
        assert load(name).path.is_file()


def test_shipped_detection_files_load():
    assert load_detection("default").content.vote.k == 1
    assert load_detection("paper").content.score.method == "percentile"


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"no file twinn.*known names:.*twin"):
        load_cell("twinn")


def test_wrong_key_is_one_sentence_with_file_and_key(tmp_path, cell_file):
    path = changed(tmp_path, cell_file, lambda c: c["scene"].update(feder=1))
    with pytest.raises(ConfigError) as error:
        load_cell(path)
    assert str(error.value) == f"{path}: scene.feder: is not a known key"


def test_missing_key_is_named(tmp_path, cell_file):
    path = changed(tmp_path, cell_file, lambda c: c["scene"]["bins"].pop("recheck"))
    with pytest.raises(ConfigError, match=r"scene\.bins\.recheck: Field required"):
        load_cell(path)


@pytest.mark.parametrize(
    "name, said",
    [
        ("twin.nothing:Camera", "there is no module twin.nothing"),
        ("twin.camera:Nothing", "twin.camera has no class Nothing"),
        ("cell.interfaces:Pose", "has no model Config"),
    ],
)
def test_unknown_device_class_names_file_and_key(tmp_path, cell_file, name, said):
    path = changed(tmp_path, cell_file, lambda c: c["camera"].update({"class": name}))
    with pytest.raises(ConfigError, match=rf"camera.class: .*{said}") as error:
        load_cell(path)
    assert str(path) in str(error.value)


def test_wrong_key_of_a_device_is_named(tmp_path, cell_file):
    path = changed(tmp_path, cell_file, lambda c: c["camera"].update(wdth=3))
    with pytest.raises(ConfigError, match=r"camera: wdth: is not a known key"):
        load_cell(path)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda c: c["camera"].update({"class": "twin.scale:TwinScale"}), "twin.scale:TwinScale is no Camera"),
        (lambda c: c["camera"].update({"class": "..a:B"}), "camera.class"),
        (lambda c: c["scene"]["camera"].update(look_at_m=c["scene"]["camera"]["position_m"]), "scene.camera"),
        (lambda c: c["scene"]["boxes"][0].update(size_m=[-1, 0, 0]), r"scene\.boxes\.0\.size_m"),
        (lambda c: c["hand"]["finger"][0].update(low_mm=[0, 40, 0]), r"hand\.finger\.0: .*less than its counterpart"),
        (lambda c: c["hand"].update(finger=[]), r"hand\.finger"),
        (lambda c: c["motion"].update(home_rad=[float("nan")] * 7), r"motion\.home_rad"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, cell_file, change, said):
    with pytest.raises(ConfigError, match=said):
        load_cell(changed(tmp_path, cell_file, change))


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda c: c["mass"].update(tolerance_g=float("inf")), r"mass\.tolerance_g"),
        (lambda c: c["grasps"][0].update(approach=[0, 0, 0]), r"grasps\.0"),
        (lambda c: c["views"][0].update(name="../up"), r"views\.0\.name"),
    ],
)
def test_part_that_cannot_be_is_refused(tmp_path, change, said):
    with pytest.raises(ConfigError, match=said):
        load_part(changed(tmp_path, load_part("ring").path, change))


def test_lot_cannot_lead_out_of_the_dataset(tmp_path):
    with pytest.raises(ConfigError, match="lot"):
        load_production(changed(tmp_path, load_production("good").path, lambda c: c.update(lot="../../escaped")))


def test_value_out_of_range_is_named(tmp_path, cell_file):
    path = changed(tmp_path, cell_file, lambda c: c["motion"].update(speed=1.5))
    with pytest.raises(ConfigError, match=r"motion\.speed: .*less than or equal to 1"):
        load_cell(path)


@pytest.mark.parametrize("text", ["kind: [", "kind: twin\nkind: other\n", "- a\n- b\n", "\x00", "? [a]\n: b\n"])
def test_broken_yaml_names_the_file(tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_cell(str(path))


def test_yaml_cannot_run_code(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("kind: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_cell(str(path))


def test_batches_repeat():
    production = load_production("mixed").content
    kinds = [[defect.kind for defect in production.batch_of(n).defects] for n in range(8)]
    assert kinds == [[], ["dot"], [], ["scratch"], [], ["missing"], [], ["dot"]]


def test_defect_range_must_ascend(tmp_path):
    source = load_production("mixed").path
    path = changed(tmp_path, source, lambda c: c["batches"][1]["defects"][0].update(size_mm=[2.0, 1.0]))
    with pytest.raises(ConfigError, match=r"batches\.1\.defects.*smaller one first"):
        load_production(path)


def test_view_names_are_every_view_at_every_grasp():
    names = load_part("ring").content.view_names
    assert len(set(names)) == 16
    assert names[0] == "GP1-V1" and names[-1] == "GP2-V8"
