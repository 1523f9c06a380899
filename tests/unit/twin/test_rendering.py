import numpy as np
import pytest
import trimesh

from cell.config import load_cell
from cell.interfaces import Pose
from twin.camera import TwinCameraConfig
from twin.conditions import Conditions
from twin.parts.skin import Skin
from twin.world import PartBody, Snapshot

FILE = load_cell("twin").content


@pytest.mark.parametrize("width, height", [(160, 120), (201, 151)])
def test_pictures_lie_where_the_intrinsics_say_to_a_fraction_of_a_pixel(width, height):
    """A plate that faces the camera, at many places: its pixels' centre is where its centre is projected."""
    config = TwinCameraConfig(width=width, height=height)
    camera = config.pinhole(FILE.scene.camera)
    plate, within = trimesh.creation.box((30.0, 24.0, 0.2)), trimesh.creation.box((1.0, 1.0, 0.1))
    part = PartBody("plate", within, (), 1.0, (Skin(plate, 1.0),), (), (), 1.0, Conditions(), (0, 0))
    away = []
    with config.tiny_scene(FILE.scene, pan_m=0.13) as scene:
        for x, y in np.random.default_rng(0).uniform(-0.02, 0.02, (40, 2)):
            pose = camera.pose @ Pose(np.eye(3), np.array([x, y, 0.42]))
            rendered = scene.render(Snapshot(np.array(FILE.motion.home_rad), np.full(2, 0.04), part, pose), camera)
            ((u, v),), _ = camera.project(pose.apply(np.array([[0, 0, -0.0001]])))
            rows, columns = np.nonzero(rendered.defect)
            away.append((columns.mean() + 0.5 - u, rows.mean() + 0.5 - v))
    assert np.abs(away).max() < 0.75
    np.testing.assert_allclose(np.mean(away, axis=0), 0, atol=0.15)
