"""The round is free of collisions and named where it cannot be; checked with distances of a simulator of its own."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pybullet as p
import pytest

from cell.config import load_cell, load_part
from cell.interfaces import ArmState, Intrinsics, MotionRejected
from cell.motion import stored
from cell.motion.collision import Load
from cell.motion.legs import LegTimer
from cell.motion.order import shortest_round
from cell.motion.panda import A_MAX, J_MAX, TOOL_A_MAX, V_MAX, forward
from cell.motion.paths import move_time, planned_path
from cell.motion.round import grasp_pose
from cell.motion.stillness import expected_blur_px
from cell.motion.stored import planned_round, way_home
from cell.schema import Box
from twin.world import panda_urdf

FILE, PART, FOLDER = load_cell("twin").content, load_part("ring").content, load_part("ring").path.parent
HOME = np.array(FILE.motion.home_rad)


@pytest.fixture(scope="module")
def planned():
    return planned_round(FILE, PART, FOLDER)


@pytest.fixture
def empty_store(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "twinspect"


def with_box(box: Box):
    return FILE.model_copy(update={"scene": FILE.scene.model_copy(update={"boxes": (*FILE.scene.boxes, box)})})


def test_every_leg_keeps_its_limits_and_joins_the_next(planned):
    ends = {}
    for (start, end), leg in planned.legs.items():
        at_rest = np.pad(leg.positions_rad, ((4, 4), (0, 0)), mode="edge")
        for order, limit in enumerate((V_MAX, A_MAX, J_MAX), start=1):
            assert (np.abs(np.diff(at_rest, n=order, axis=0)) / 0.001**order <= limit).all(), (start, end, order)
        for name, q in ((start, leg.positions_rad[0]), (end, leg.positions_rad[-1])):
            np.testing.assert_allclose(ends.setdefault(name, q), q, atol=1e-9)
    for shown in planned.views:
        assert len(shown) == 8
        for name, stop in shown.items():
            np.testing.assert_allclose(ends[name], stop.q, atol=1e-9)


def test_no_link_touches_the_scene_on_any_leg(planned):
    """Against a PyBullet world that shares no code with the planner's."""
    client = p.connect(p.DIRECT)
    try:
        robot = p.loadURDF(str(panda_urdf()), useFixedBase=True, physicsClientId=client)
        boxes = []
        for box in FILE.scene.boxes:
            shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=np.array(box.size_m) / 2, physicsClientId=client)
            boxes.append(p.createMultiBody(0, shape, -1, box.position_m, physicsClientId=client))
        for names, leg in planned.legs.items():
            for q in leg.positions_rad[::40]:
                for joint, angle in enumerate(q):
                    p.resetJointState(robot, joint, angle, physicsClientId=client)
                p.performCollisionDetection(physicsClientId=client)
                touching = [
                    contact
                    for body in boxes
                    for contact in p.getContactPoints(robot, body, physicsClientId=client)
                    if contact[3] >= 0 and contact[8] < 0
                ]
                assert touching == [], names
    finally:
        p.disconnect(client)


def test_warm_start_plans_nothing(empty_store, planned, monkeypatch):
    path = empty_store / f"round-{stored._key(FILE, PART, stored._hulls_m(PART, FOLDER))}.npz"
    stored._write(path, planned)
    monkeypatch.setattr(stored, "_planner", lambda *_: pytest.fail("it planned"))
    again = planned_round(FILE, PART, FOLDER)
    assert list(again.legs) == list(planned.legs)
    for names, leg in planned.legs.items():
        np.testing.assert_array_equal(again.legs[names].positions_rad, leg.positions_rad)
    assert [list(shown) for shown in again.views] == [list(shown) for shown in planned.views]
    slower = FILE.model_copy(update={"motion": FILE.motion.model_copy(update={"speed": 0.5})})
    planned_round(slower, PART, FOLDER)


@pytest.mark.parametrize("change", ["scene", "part", "limits"])
def test_what_a_round_depends_on_names_its_file(change, monkeypatch):
    hulls = stored._hulls_m(PART, FOLDER)
    before = stored._key(FILE, PART, hulls)
    file, part = FILE, PART
    if change == "scene":
        file = with_box(Box(name="new", size_m=(0.1, 0.1, 0.1), position_m=(0.0, 0.6, 0.05)))
    elif change == "part":
        part = PART.model_copy(update={"centre_mm": (0.0, 0.0, 9.0)})
    else:
        monkeypatch.setattr("cell.motion.panda.V_MAX", V_MAX * 0.9)
    assert stored._key(file, part, hulls) != before


def test_damaged_file_is_planned_anew(tmp_path, planned):
    path = tmp_path / "round.npz"
    stored._write(path, planned)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert stored._read(path) is None


def test_unreachable_pose_is_named(empty_store):
    scene = FILE.scene.model_copy(update={"scale": FILE.scene.scale.model_copy(update={"position_m": (2.0, 0, 0.1)})})
    with pytest.raises(MotionRejected, match=r"planning the pose scale; |reach .* planning the pose scale"):
        planned_round(FILE.model_copy(update={"scene": scene}), PART, FOLDER)
    assert not empty_store.exists()


@pytest.mark.parametrize(
    "box, said",
    [
        (Box(name="cupboard", size_m=(0.3, 0.3, 0.3), position_m=(0.55, -0.10, 0.30)), r"cupboard.* pose feeder"),
        (Box(name="lamp", size_m=(0.2, 0.05, 0.2), position_m=(0.45, 0.36, 0.50)), r"lamp.* pose GP1-V1"),
        (Box(name="shelf", size_m=(0.1, 0.1, 0.1), position_m=(0.30, 0.0, 0.60)), r"shelf.* pose home"),
    ],
    ids=["on a place", "at a view", "at home"],
)
def test_obstacle_at_a_pose_is_named_with_what_would_touch_it(empty_store, box, said):
    with pytest.raises(MotionRejected, match=said):
        planned_round(with_box(box), PART, FOLDER)


def test_arm_that_stands_elsewhere_goes_home_around_what_is_in_the_way():
    here = HOME + np.array([1.2, 0, 0, 0, 0, 0, 0])
    post = with_box(Box(name="mast", size_m=(0.04, 0.04, 0.6), position_m=(0.253, 0.173, 0.3)))
    (way,) = way_home(post, PART, FOLDER, here, 0.08)
    (straight,) = way_home(FILE, PART, FOLDER, here, 0.08)
    np.testing.assert_allclose(way.positions_rad[[0, -1]], [here, HOME], atol=1e-9)
    assert way.duration_s > straight.duration_s
    for q in way.positions_rad[::20]:
        away = np.abs(forward(q).position_m - (0.253, 0.173, 0.3)) - (0.02, 0.02, 0.3)
        assert away.max() > 0.01


def test_arm_that_stopped_over_a_nest_rises_before_it_goes_home(planned):
    here = planned.legs["home", "feeder"].positions_rad[-1]
    rise, way = way_home(FILE, PART, FOLDER, here, 0.08)
    places = np.array([forward(q).position_m for q in rise.positions_rad])
    assert np.abs(places[:, :2] - places[0, :2]).max() < 1e-3 and (np.diff(places[:, 2]) > -1e-6).all()
    assert places[-1, 2] - places[0, 2] == pytest.approx(FILE.scene.clearance_m, abs=1e-3)
    np.testing.assert_allclose(way.positions_rad[[0, -1]], [rise.positions_rad[-1], HOME], atol=1e-9)


def test_wall_that_nothing_leads_around_is_named():
    here = HOME + np.array([1.2, 0, 0, 0, 0, 0, 0])
    walls = with_box(Box(name="wall", size_m=(2.0, 0.02, 3.0), position_m=(1.06, 0.25, 1.5)))
    with pytest.raises(MotionRejected, match=r"of wall while planning the way to home|wall"):
        way_home(walls, PART, FOLDER, here, 0.08)


def test_planned_paths_are_free_and_the_same_whatever_was_planned_before():
    def check(q):
        return None if abs(q[0]) > 0.3 or abs(q[1]) > 0.8 else "in the way"

    start, end = HOME - np.array([1.0, -0.8, 0, 0, 0, 0, 0]), HOME + np.array([1.0, 0.8, 0, 0, 0, 0, 0])
    first = planned_path(start, end, check, seed=4)
    planned_path(start, end, check, seed=5)
    np.testing.assert_array_equal(planned_path(start, end, check, seed=4), first)
    for one, other in itertools.pairwise(first):
        for share in np.linspace(0, 1, 50):
            assert check(one + share * (other - one)) is None or share in (0, 1)


def test_shortest_round_against_trying_every_order():
    rng = np.random.default_rng(3)
    cost = rng.uniform(1, 9, size=(14, 14))
    stages = [[np.array([1, 2])], [np.array([3, 4]), np.array([5]), np.array([6, 7, 8]), np.array([9])]]
    stages.append([np.array([10, 11]), np.array([12])])
    end = rng.uniform(0, 5, size=14)

    def every():
        for first in stages[0][0]:
            for middle in itertools.permutations(stages[1]):
                for last in itertools.permutations(stages[2]):
                    for nodes in itertools.product(*middle, *last):
                        yield [first, *nodes]

    def total(nodes):
        return sum(cost[a, b] for a, b in itertools.pairwise([0, *nodes])) + end[nodes[-1]]

    best = min(every(), key=total)
    found, nodes = shortest_round(stages, cost, start=0, end_s=end)
    assert found == pytest.approx(total(best)) and nodes == best
    assert shortest_round(stages, np.full((14, 14), np.inf), start=0, end_s=end) == (float("inf"), [])


def test_move_time_is_that_of_a_trapezoid():
    way = np.zeros(7)
    way[0] = 2.0
    assert move_time(np.zeros(7), way) == pytest.approx(2.0 / 2.175 + 2.175 / 15)
    way[0] = 0.01
    assert move_time(np.zeros(7), way) == pytest.approx(2 * np.sqrt(0.01 / 15))


def test_blur_is_that_of_the_fastest_point_in_the_picture(planned):
    """Against points of the shown part projected before and after the exposure."""
    stop = next(iter(planned.views[0].values()))
    k = Intrinsics(2740.0, 2740.0, 640.0, 480.0, 1280, 960)
    mount, exposure_s = FILE.scene.camera, 0.008
    rates = np.array([0.02, -0.01, 0.03, 0.01, -0.02, 0.05, 0.04])
    blur = expected_blur_px(ArmState(stop.q, rates, None), mount, PART, k, exposure_s * 1e6)

    from cell.motion.round import camera_pose

    ring = [(50 * np.cos(a), 50 * np.sin(a), z) for a in np.linspace(0, 6.28, 60) for z in (0, 16)]
    pixels = []
    for q in (stop.q, stop.q + rates * exposure_s):
        seen = (camera_pose(mount).inverse() @ forward(q) @ grasp_pose(PART.grasps[0]).inverse()).apply(
            np.array(ring) / 1000
        )
        pixels.append(seen[:, :2] / seen[:, 2:] * k.fx)
    moved = np.linalg.norm(pixels[1] - pixels[0], axis=1).max()
    assert moved <= blur <= 4 * moved
    assert expected_blur_px(ArmState(stop.q, 0 * rates, None), mount, PART, k, 8000.0) == 0


def test_weak_grasp_is_moved_slowly_or_refused(empty_store):
    slippery = FILE.model_copy(update={"motion": FILE.motion.model_copy(update={"pad_friction": 0.01})})
    heavy = PART.model_copy(update={"mass": PART.mass.model_copy(update={"nominal_g": 500.0})})
    with pytest.raises(MotionRejected, match=r"gripper: .*raise force_n"):
        planned_round(slippery, heavy, FOLDER)


def _lowered(by_mm: float):
    grasps = tuple(
        grasp.model_copy(update={"position_mm": tuple(np.subtract(grasp.position_mm, (0, 0, by_mm)))})
        for grasp in PART.grasps
    )
    return PART.model_copy(update={"grasps": grasps})


def test_an_empty_hand_brakes_as_the_gap_below_its_tips_asks_for():
    """The ring's grasps leave 5 mm."""
    gaps = {by_mm: LegTimer(FILE, _lowered(by_mm), None).tool(Load(0.08)) for by_mm in (-100.0, 0.0, 2.5)}
    assert gaps[-100.0].acceleration_m_s2 == TOOL_A_MAX
    assert gaps[0.0].acceleration_m_s2 == pytest.approx(2 * gaps[2.5].acceleration_m_s2)


def test_a_tilted_hand_brakes_as_the_lower_of_its_open_fingers_asks_for():
    def limit(opening_m: float, height_mm: float) -> float:
        turn = {"opening": (0.0, np.cos(tilt), np.sin(tilt)), "approach": (0.0, np.sin(tilt), -np.cos(tilt))}
        grasp = PART.grasps[0].model_copy(update={**turn, "position_mm": (0.0, 0.0, height_mm)})
        timer = LegTimer(FILE, PART.model_copy(update={"grasps": (grasp, grasp)}), None)
        return timer.tool(Load(opening_m)).acceleration_m_s2

    tilt = np.radians(30)
    lower_mm = (0.080 - 0.072) * 1000 / 2 * np.sin(tilt)
    assert limit(0.080, 40.0) < limit(0.072, 40.0) < TOOL_A_MAX
    assert limit(0.072, 40.0) == pytest.approx(limit(0.080, 40.0 + lower_mm))


def test_stored_round_is_plain_data(tmp_path, planned):
    path = tmp_path / "round.npz"
    stored._write(path, planned)
    with np.load(path, allow_pickle=False) as arrays:
        assert json.dumps(arrays["stops"].tolist())
    assert replace(planned).legs.keys() == stored._read(path).legs.keys()
