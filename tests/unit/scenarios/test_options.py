import re
from pathlib import Path

import pytest

from cell.config import load_part
from detection.errors import DatasetError
from scenarios.options import material_settings


def test_parts_of_another_file_of_the_same_name_are_other_settings(tmp_path: Path) -> None:
    own = tmp_path / "part.yaml"
    text = load_part("ring").path.read_text(encoding="utf-8")
    own.write_text(text, encoding="utf-8")
    before = material_settings(cell="twin", part=str(own), dataset=None)
    own.write_text(f"# a remark\n{text}", encoding="utf-8")
    assert material_settings(cell="twin", part=str(own), dataset=None) == before
    own.write_text(text.replace("tolerance_g: ", "tolerance_g: 1"), encoding="utf-8")
    after = material_settings(cell="twin", part=str(own), dataset=None)
    assert {name for name in before if before[name] != after[name]} == {"contents"}
    assert {name for name in before["contents"] if before["contents"][name] != after["contents"][name]} == {"part"}


def test_another_mesh_under_the_same_name_is_another_part(tmp_path: Path) -> None:
    own, mesh = tmp_path / "part.yaml", tmp_path / "housing.stl"
    text = load_part("ring").path.read_text(encoding="utf-8")
    shape = "shape: {class: twin.parts.mesh:MeshPart, file: housing.stl}"
    own.write_text(re.sub(r"^shape:.*?(?=^\S)", f"{shape}\n", text, flags=re.M | re.S), encoding="utf-8")
    mesh.write_bytes(b"one")
    before = material_settings(cell="twin", part=str(own), dataset=None)
    assert material_settings(cell="twin", part=str(own), dataset=None) == before
    mesh.write_bytes(b"two")
    assert material_settings(cell="twin", part=str(own), dataset=None) != before


def test_a_dataset_with_more_parts_or_other_labels_is_another(photographs: Path, with_columns) -> None:
    def of(folder: Path) -> str:
        return material_settings(cell="twin", part="ring", dataset=folder)["contents"]["dataset"]

    assert of(photographs) == of(photographs)
    changed = with_columns(lambda number: {"condition": "training"})
    assert of(changed) != of(photographs)
    before = of(changed)
    (changed / "out").mkdir()
    (changed / "out" / "summary.json").write_text("{}")
    assert of(changed) == before  # nothing that a study reads
    picture = changed / "p03-left.png"
    picture.write_bytes(bytes(len(picture.read_bytes())))
    assert of(changed) != before  # as large as before


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        material_settings(cell="twin", part="ring", dataset=tmp_path / "nowhere")
