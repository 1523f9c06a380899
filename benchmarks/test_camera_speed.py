"""How long one picture takes, from a snapshot of the world to grey values, the arm in the scene."""

import numpy as np
import pytest

from cell.config import load_cell, load_part
from cell.motion.panda import forward
from cell.motion.round import grasp_pose
from cell.motion.stored import planned_round
from twin.camera import TwinCameraConfig, picture
from twin.conditions import Conditions
from twin.parts.ring import Ring, RingConfig
from twin.rendering.egl import egl_found
from twin.snapshot import PartBody, Snapshot

FILE, PART = load_cell("twin").content, load_part("ring").content


@pytest.mark.parametrize(
    "renderer, pixel_format, width, height",
    [
        ("tiny", "RGB8", 1280, 960),
        ("egl", "RGB8", 1280, 960),
        ("egl", "Mono8", 1280, 960),
        ("egl", "Mono8", 5472, 3648),
    ],
)
def test_a_picture_is_drawn(benchmark, renderer: str, pixel_format: str, width: int, height: int) -> None:
    if renderer == "egl" and not egl_found():
        pytest.skip("EGL is not here: apt-get install libegl1 libegl-mesa0")
    picked = {"renderer": renderer, "pixel_format": pixel_format, "width": width, "height": height}
    config = TwinCameraConfig.model_validate(FILE.camera.options | picked)
    grasp, views = PART.grasps[0], planned_round(FILE, PART, load_part("ring").path.parent).views[0]
    q = views["GP1-V2"].q
    body = PartBody("ring", Ring(RingConfig()).make().mesh, (), 23.0, (), (), (), 1.0, Conditions(), (0, 0))
    snapshot = Snapshot(q, np.full(2, grasp.width_mm / 2000), body, forward(q) @ grasp_pose(grasp).inverse())
    camera = config.pinhole(FILE.scene.camera)
    with config.scene(FILE.scene, 0.13) as scene:
        benchmark.pedantic(
            lambda: picture(config, scene, FILE.scene, snapshot, camera, np.random.default_rng(0)),
            rounds=5,
            warmup_rounds=1,
        )
