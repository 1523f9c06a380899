"""What the hand's mask covers when the camera's calibration is off, and what it costs of the part; see docs/twin.md."""

import numpy as np
from scipy.spatial.transform import Rotation

from cell.config import load_cell, load_part
from cell.interfaces import Pose
from cell.motion.panda import forward
from cell.motion.round import grasp_pose
from cell.motion.stored import planned_round
from cell.schema import HandShape
from cell.silhouette import hand_mask
from twin.camera import TwinCameraConfig
from twin.parts.ring import Ring, RingConfig
from twin.rendering.hand import fingers_m, palm_m
from twin.rendering.raster import nearest_faces, project_triangles

FILE, RING = load_cell("twin").content, load_part("ring")
CAMERA = TwinCameraConfig(width=640, height=480).pinhole(FILE.scene.camera)
_DRAWS = 5
_OFF_M, _OFF_DEG = 0.0005, 0.1

MASKS = {
    "0 mm": HandShape(margin_mm=0.0),
    "0.5 mm": HandShape(margin_mm=0.5),
    "1 mm": HandShape(margin_mm=1.0),
    "assets/cells/twin.yaml": FILE.hand,
    "0 mm, and the palm": HandShape(margin_mm=0.0, palm=True),
    "1 mm, and the palm": HandShape(margin_mm=1.0, palm=True),
}


def _faces(triangles_m):
    """Which triangle (H, W) is seen, of those in the camera's frame."""
    k = CAMERA.intrinsics
    return nearest_faces(project_triangles(triangles_m, k), k.height, k.width)[0]


def _off(rng: np.random.Generator) -> Pose:
    shift, turn = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
    return Pose(Rotation.from_rotvec(np.radians(_OFF_DEG) * turn).as_matrix(), _OFF_M * shift)


def test_what_the_mask_covers_and_costs(capsys) -> None:
    """Of each mask: overlap (IoU) with the hand's own silhouette, the fingers' share covered, the part's hidden."""
    part_m, to_camera = Ring(RingConfig()).make().mesh.triangles / 1000, CAMERA.pose.inverse()
    overlaps, covered, hidden = ({name: [] for name in MASKS} for _ in range(3))
    best = []
    for grasp, views in zip(
        RING.content.grasps, planned_round(FILE, RING.content, RING.path.parent).views, strict=True
    ):
        opening = grasp.width_mm / 1000
        fingers, palm = fingers_m(np.full(2, opening / 2)), palm_m()
        for stop in views.values():
            hand = to_camera @ forward(stop.q)
            held = (hand @ grasp_pose(grasp).inverse()).apply(part_m)
            shows_fingers = _faces(hand.apply(fingers)) >= 0
            whole = _faces(hand.apply(np.concatenate([palm, fingers]))) >= 0
            part = _faces(np.concatenate([held, hand.apply(palm), hand.apply(fingers)]))
            part = (part >= 0) & (part < len(held))
            rng = np.random.default_rng(0)
            for off in [_off(rng) for _ in range(_DRAWS)]:
                moved = _faces((off.inverse() @ hand).apply(np.concatenate([palm, fingers]))) >= 0
                best.append((moved & whole).sum() / (moved | whole).sum())
                for name, shape in MASKS.items():
                    mask = hand_mask(shape, stop.q, opening, CAMERA.pose @ off, CAMERA.intrinsics)
                    drawn = whole if shape.palm else shows_fingers
                    overlaps[name].append((mask & drawn).sum() / (mask | drawn).sum())
                    covered[name].append(mask[shows_fingers].mean())
                    hidden[name].append(mask[part].mean())
    by_view = {name: np.mean(np.reshape(overlaps[name], (-1, _DRAWS)), axis=1) for name in MASKS}
    with capsys.disabled():
        print(f"\nthe hand's own silhouette, as much off: IoU {np.mean(best):.3f} mean, {min(best):.3f} worst")
        for name in MASKS:
            print(
                f"{name}: IoU {np.mean(overlaps[name]):.3f} mean, {by_view[name].min():.3f} the worst view's, "
                f"{min(overlaps[name]):.3f} worst; fingers covered {np.mean(covered[name]):.3f} mean, "
                f"{min(covered[name]):.3f} worst; part hidden {np.mean(hidden[name]):.3f}"
            )
    assert by_view["0 mm, and the palm"].min() >= 0.95
    assert min(covered["assets/cells/twin.yaml"]) >= 0.999
