"""The photo-real renderer: how long a picture takes, and whether few samples keep small defects."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cell.config import load_cell, load_part
from cell.interfaces import ConfigError, Intrinsics
from cell.motion.panda import forward
from cell.motion.round import grasp_pose
from cell.motion.stored import planned_round
from cell.schema import Defect
from twin.camera import TwinCameraConfig, picture
from twin.conditions import Conditions
from twin.parts.defects import make_defect
from twin.parts.made import MadeDefect
from twin.parts.ring import Ring, RingConfig
from twin.rendering.geometry import PART
from twin.rendering.photoreal import SAMPLES
from twin.rendering.pinhole import Pinhole
from twin.rendering.shading import Lamp
from twin.rendering.skins import lay_skins
from twin.snapshot import PartBody, Snapshot

FILE, RING = load_cell("twin").content, load_part("ring")
CONFIG = TwinCameraConfig.model_validate(FILE.camera.options | {"renderer": "photoreal"})
CAMERA = CONFIG.pinhole(FILE.scene.camera)
SHAPE = Ring(RingConfig()).make()
GRASP, STOPS = RING.content.grasps[0], planned_round(FILE, RING.content, RING.path.parent).views[0]
_HALF = 48
_MANY = 529
_PLACES, _SEEDS = 4, 3
# What a mark changes lies under it; what glass of another shape changes also lies beside it.
_BESIDE_PX = {"dot": 1, "scratch": 1, "crack": 1}
_GLASS_BESIDE_PX = 6


@pytest.fixture(scope="module")
def renderer():
    try:
        with CONFIG.scene(FILE.scene, 0.13) as scene:
            yield scene
    except ConfigError as error:
        pytest.skip(str(error))


def held(view: str, made: MadeDefect | None = None) -> Snapshot:
    q = STOPS[view].q
    mesh, *lists = SHAPE.mesh, (), (), ()
    if made is not None:
        found = (made.skin, made.removed, made.altered)
        mesh, *lists = made.mesh, *(() if each is None else (each,) for each in found)
    part = PartBody("ring", mesh, (), 23.0, *lists, 1.0, Conditions(), (0, 0))
    return Snapshot(q, np.full(2, GRASP.width_mm / 2000), part, forward(q) @ grasp_pose(GRASP).inverse(), 0)


def test_a_clear_part_is_drawn(benchmark, renderer) -> None:
    snapshot = held("GP1-V2")
    benchmark.pedantic(
        lambda: picture(CONFIG, renderer, FILE.scene, snapshot, CAMERA, np.random.default_rng(0)),
        rounds=3,
        warmup_rounds=1,
    )


def _light(renderer, snapshot: Snapshot, camera: Pinhole, *, samples: int, seed: int):
    """Light (C, H, W) as the lens's blur and full wells leave it."""
    materials = CONFIG.materials(FILE.scene, gloss=1.0, background=1.0)
    lamp = Lamp.ring(0.1, lamps=8, white=CONFIG.white, distance_m=0.42, ambient=CONFIG.light_around)
    drawn = renderer.render(snapshot, camera)
    renderer.samples = samples
    light = renderer.trace(snapshot, camera, lamp, materials, drawn.surface == PART, seed=seed)
    white = materials.albedo[PART] * np.float32(CONFIG.white)
    bare, around = white * np.float32(0.42**2), white * np.float32(lamp.ambient)
    lay_skins(light, drawn, snapshot, camera.pose, camera.intrinsics, bare=bare, around=around)
    # As in a camera: first the lens, then wells that are full.
    return np.stack([np.minimum(cv2.GaussianBlur(plane, (0, 0), 0.4), 1) for plane in light])


def _closeups(renderer, kind: str, size: float):
    """Views of a defect somewhere on the ring, from where most of it is seen: (snapshot, one without, camera)."""
    straight = CAMERA.undistorted()
    k, found, seed = straight.intrinsics, 0, 0
    swallows = {"contrast": (0.5, 0.5)} if kind in _BESIDE_PX else {}
    defect = Defect.model_validate({"kind": kind, "size_mm": (size, size), **swallows})
    while found < _PLACES:
        seed += 1
        made = make_defect(defect, SHAPE, np.random.default_rng(seed), seen_by=lambda points: len(STOPS))
        shown = []
        for view in STOPS:
            shot = held(view, made)
            (place,), _ = straight.project(shot.part_pose.apply(made.points.mean(axis=0, keepdims=True) / 1000))
            x, y = np.round(place)
            crop = Intrinsics(k.fx, k.fy, k.cx - x + _HALF, k.cy - y + _HALF, 2 * _HALF, 2 * _HALF)
            camera = Pinhole(straight.pose, crop)
            shown.append((_seen(renderer, shot, camera).sum(), view, shot, camera))
        pixels, view, shot, camera = max(shown, key=lambda each: each[0])
        if pixels < 0.5:
            continue
        found += 1
        yield shot, held(view), camera


def _seen(renderer, shot: Snapshot, camera: Pinhole):
    nothing = np.zeros((1, 2 * _HALF, 2 * _HALF), np.float32)
    bare = np.zeros(1, np.float32)
    return lay_skins(nothing, renderer.render(shot, camera), shot, camera.pose, camera.intrinsics, bare=bare).share


SMALL = [("dot", 0.2), ("dot", 0.5), ("dot", 1.0), ("scratch", 1.0), ("crack", 1.0)]
SMALL += [("missing", 0.5), ("missing", 1.0), ("short_shot", 0.5), ("short_shot", 1.0)]
SMALL += [("flash", 0.2), ("flash", 0.5), ("deformation", 0.2), ("deformation", 0.5), ("deformation", 1.0)]


@pytest.mark.parametrize("kind, size", SMALL)
def test_few_samples_keep_the_contrast_of_small_defects(renderer, kind: str, size: float) -> None:
    """Against 529 samples and more where it glints: the share of a defect's contrast that is left, over several places.

    The change that the defect makes is projected on the change it makes in the reference (a matched filter). Two
    references of their own seeds are held against each other, so that what noise they have does not count.
    """
    kept, whole = 0.0, 0.0
    for shot, bare, camera in _closeups(renderer, kind, size):
        across = 2 * _BESIDE_PX.get(kind, _GLASS_BESIDE_PX) + 1
        there = cv2.dilate((_seen(renderer, shot, camera) > 0).astype(np.uint8), np.ones((across, across))) > 0

        def change(seed: int, *, samples: int, pair=(shot, bare), camera=camera, there=there):
            with_it, without = (_light(renderer, each, camera, samples=samples, seed=seed) for each in pair)
            return (with_it - without)[:, there]

        references = [change(seed, samples=_MANY) for seed in (1, 2)]
        whole += float((references[0] * references[1]).sum())
        for seed in range(3, 3 + _SEEDS):
            kept += float((change(seed, samples=SAMPLES) * sum(references)).sum()) / 2 / _SEEDS
    print(f"{kind} of {size} mm: {kept / whole:.3f} of the contrast is left")
    assert kept / whole == pytest.approx(1.0, abs=0.1)
