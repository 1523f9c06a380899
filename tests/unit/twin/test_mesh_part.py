"""A part from a file: what is read, repaired with a warning, or refused with the reason."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml

from cell.config import load_part
from cell.interfaces import ConfigError
from twin.parts.cap import Cap, CapConfig
from twin.parts.mesh import PartRepairedWarning
from twin.parts.shape import make_shape

CAP = Cap(CapConfig()).make().mesh


@pytest.fixture
def part_of(tmp_path):
    """Return a function that writes a mesh beside a part file and loads that."""

    def write(mesh: trimesh.Trimesh, name: str = "part.stl", **shape: object):
        mesh.export(tmp_path / name)
        shipped = load_part("cap")
        content = yaml.safe_load(shipped.path.read_text())
        content["shape"] = {"class": "twin.parts.mesh:MeshPart", "file": name, "hulls": 8, **shape}
        (tmp_path / "part.yaml").write_text(yaml.safe_dump(content))
        return load_part(str(tmp_path / "part.yaml"))

    return write


@pytest.mark.parametrize("name", ["part.stl", "part.obj", "part.ply"])
def test_every_format_gives_the_part(part_of, name):
    shape = make_shape(part_of(CAP, name))
    assert shape.mesh.is_volume and shape.mesh.volume == pytest.approx(CAP.volume, rel=1e-4)
    assert len(shape.hulls) > 1 and shape.structures == ()


def test_unit_and_origin_are_applied(part_of):
    moved = CAP.copy()
    moved.apply_translation((5, 6, 7))
    moved.apply_scale(0.001)
    shape = make_shape(part_of(moved, unit="m", origin_mm=[5.0, 6.0, 7.0]))
    np.testing.assert_allclose(shape.mesh.bounds, CAP.bounds, atol=1e-3)


def test_boxes_name_the_structures(part_of):
    block = {"low_mm": [29.9, -5, 8], "high_mm": [33, 5, 14]}
    (hook,) = make_shape(part_of(CAP, structures=[block])).structures
    assert hook.volume == pytest.approx(1.2 * 8 * 2 + 0.1 * 10 * 6, rel=0.02)


def test_metres_are_refused_with_the_way_out(part_of):
    mesh = CAP.copy()
    mesh.apply_scale(0.001)
    with pytest.raises(ConfigError, match=r"0\.0624 mm long, but picture_width_mm is 80: is the mesh in metres\?"):
        make_shape(part_of(mesh))


def test_inverted_normals_are_turned_with_a_warning(part_of):
    mesh = CAP.copy()
    mesh.invert()
    with pytest.warns(PartRepairedWarning, match=r"part\.stl: .*normals pointed inwards"):
        shape = make_shape(part_of(mesh))
    assert shape.mesh.volume == pytest.approx(CAP.volume, rel=1e-4)


def test_a_few_inverted_triangles_are_turned_with_a_warning(part_of):
    mesh = CAP.copy()
    mesh.faces[:7] = mesh.faces[:7, ::-1]
    with pytest.warns(PartRepairedWarning, match="inside out"):
        shape = make_shape(part_of(mesh, "part.ply"))
    assert shape.mesh.is_volume and shape.mesh.volume == pytest.approx(CAP.volume, rel=1e-4)


def test_a_small_hole_is_closed_with_a_warning(part_of):
    mesh = trimesh.Trimesh(CAP.vertices, CAP.faces[1:])
    with pytest.warns(PartRepairedWarning, match="3 open edges were closed with 1 triangles"):
        shape = make_shape(part_of(mesh))
    assert shape.mesh.volume == pytest.approx(CAP.volume, rel=1e-4)


def test_a_large_hole_is_refused_with_its_place(part_of):
    keep = CAP.triangles_center[:, 2] > 0.01
    with pytest.raises(ConfigError, match=r"has holes: \d+ edges .* around \(.*, .*, 0\)"):
        make_shape(part_of(trimesh.Trimesh(CAP.vertices, CAP.faces[keep])))


def test_part_that_would_stick_in_the_feeder_is_refused_with_its_origin(part_of):
    mesh = CAP.copy()
    mesh.apply_translation((0, 0, -7))
    with pytest.raises(ConfigError, match=r"lowest point is at z = -7\.00 mm, where it would stick in"):
        make_shape(part_of(mesh))


def test_two_bodies_are_refused(part_of):
    other = trimesh.creation.box((2, 2, 2))
    other.apply_translation((40, 0, 1))
    with pytest.raises(ConfigError, match="2 separate bodies"):
        make_shape(part_of(trimesh.util.concatenate([CAP, other])))


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("part.stl", b"no mesh", r"part\.stl"),
        ("part.stp", b"", r"is none of \.stl, \.obj, \.ply"),
        ("part.ply", b"", r"part\.ply"),
        ("missing.stl", None, "there is no such file"),
    ],
)
def test_what_is_no_mesh_is_refused(part_of, name, content, said):
    part = part_of(CAP)
    entry = part.content.shape
    if content is not None:
        Path(part.path.parent / name).write_bytes(content)
    shape = entry.model_validate({"class": entry.path, "file": name})
    with pytest.raises(ConfigError, match=said):
        make_shape(dataclasses.replace(part, content=part.content.model_copy(update={"shape": shape})))
