"""Poses of a guided arm in a part file."""

import shutil

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cell.commands.teach import run_teach
from cell.config import load_cell, load_part
from cell.interfaces import CellError, ConfigError
from cell.motion.inverse import inverse
from cell.motion.round import grasp_pose, place_pose, view_pose
from cell.schema import GraspPoint, View
from cell.teaching import taught

SCENE = load_cell("twin").content.scene
RING = load_part("ring").content
Q7 = np.arange(-2.8, 2.8, 0.2)


def joints_at(pose):
    return inverse(pose, Q7)[0]


@given(st.floats(0.5, 60), st.floats(-179, 179), st.floats(-179, 179))
def test_a_view_that_is_shown_and_taught_is_the_same_view(tilt, azimuth, roll):
    view = View(name="V1", tilt_deg=tilt, azimuth_deg=azimuth, roll_deg=roll)
    pose = view_pose(view, RING.grasps[0], RING, SCENE.camera)
    found = inverse(pose, Q7)
    if len(found) == 0:
        return  # the arm cannot be guided there
    said = taught({"V1": found[0]}, RING, SCENE)
    again = View(name="V1", **{key: value for (_, _, key), value in said.items()})
    np.testing.assert_allclose(view_pose(again, RING.grasps[0], RING, SCENE.camera).rotation, pose.rotation, atol=1e-4)


@pytest.mark.parametrize("grasp", RING.grasps, ids=lambda grasp: grasp.name)
def test_a_grasp_that_is_taken_and_taught_is_the_same_grasp(grasp):
    pose = grasp_pose(grasp)
    said = taught({grasp.name: joints_at(place_pose(SCENE.feeder) @ pose)}, RING, SCENE)
    again = GraspPoint(**{**grasp.model_dump(), **{key: value for (_, _, key), value in said.items()}})
    np.testing.assert_allclose(grasp_pose(again).position_m, pose.position_m, atol=1e-6)
    np.testing.assert_allclose(grasp_pose(again).rotation, pose.rotation, atol=1e-5)


def test_taught_part_file_keeps_the_rest(tmp_path):
    file, poses = tmp_path / "part.yaml", tmp_path / "poses.yaml"
    shutil.copy(load_part("ring").path, file)
    shown = joints_at(view_pose(View(name="V3", tilt_deg=30, azimuth_deg=200), RING.grasps[0], RING, SCENE.camera))
    poses.write_text(yaml.safe_dump({"V3": shown.tolist()}))
    run_teach("twin", str(file), None, poses)

    part = load_part(str(file)).content
    assert (part.views[2].tilt_deg, part.views[2].azimuth_deg) == pytest.approx((30, -160), abs=0.01)
    assert part.version == 2 and part.views[:2] == RING.views[:2] and part.grasps == RING.grasps
    assert "# the fingers straddle the wall" in file.read_text()
    (kept,) = tmp_path.glob("part.yaml.*Z")
    assert kept.read_text() == load_part("ring").path.read_text()


@pytest.mark.parametrize(
    "said, why", [({"V99": [0.1] * 7}, "no grasp point or view V99; it has GP1"), ({"V1": [0.1] * 6}, "7 joint")]
)
def test_what_cannot_be_is_refused_and_nothing_is_written(said, why, tmp_path):
    file, poses = tmp_path / "part.yaml", tmp_path / "poses.yaml"
    shutil.copy(load_part("ring").path, file)
    poses.write_text(yaml.safe_dump(said))
    with pytest.raises(ConfigError, match=why):
        run_teach("twin", str(file), None, poses)
    assert file.read_text() == load_part("ring").path.read_text() and len(list(tmp_path.iterdir())) == 2


def test_teaching_needs_a_person_or_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: PTH123, SIM115
    with pytest.raises(CellError, match="at a terminal, or give the joints"):
        run_teach("twin", "ring", tmp_path / "new.yaml", None)
