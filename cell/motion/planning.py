"""The whole round, planned before anything moves: free of collisions, within limits, in the shortest order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cell.interfaces import JointTrajectory, MotionRejected, Pose
from cell.motion.collision import CollisionModel, Contact, Load
from cell.motion.inverse import inverse, inverse_near
from cell.motion.legs import LegTimer
from cell.motion.order import shortest_round
from cell.motion.panda import OPENING_MAX_M, forward
from cell.motion.paths import Check, move_time, planned_path, straight_contact
from cell.motion.round import (
    FEEDER,
    HOME,
    LET_GO_M,
    SCALE,
    Round,
    Stop,
    beside_scale,
    camera_pose,
    grasp_pose,
    on_scale,
    over_bin,
    place_pose,
    view_pose,
)
from cell.motion.trajectory import time_path
from cell.schema import CellFile, GraspPoint, PartFile, Place

# The redundant joint is tried in steps of so much.
_Q7_RAD = np.arange(-2.85, 2.86, 0.1)
_LIFT_STEPS = 5
_LIFT_JUMP_RAD = 0.35
# So much nearer to something it may come on its way out of where it stands.
_LEAVING_M = 0.0005
# Paths keep this much more distance than is asked for: rounding their corners takes some of it.
_SPARE_M = 0.003
# Straight ways between two poses that are found blocked before one is planned around what is in the way, and
# configurations between which that is tried.
_STRAIGHT_TRIED = 8
_DETOURS = 2
_REMEDY = "nothing has moved; change the pose or the scene in the cell or part file"


@dataclass
class _Node:
    """One way of taking a pose: where free motion arrives and leaves, and how the hand goes down from there."""

    name: str
    q: NDArray[np.float64]
    lift: NDArray[np.float64]
    """Joint positions from the pose up to where free motion begins, (L, 7); the pose alone where it begins there."""

    @property
    def free(self) -> NDArray[np.float64]:
        """Where free motion begins and ends."""
        top: NDArray[np.float64] = self.lift[-1]
        return top


@dataclass
class _Graph:
    """All nodes, what it costs to go between them, and the ways that were looked at."""

    nodes: list[_Node] = field(default_factory=list)
    cost_s: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    least_s: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    """What straight ways would cost, free or not."""
    loads: dict[tuple[str, str], Load] = field(default_factory=dict)
    paths: dict[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict)
    blocked: dict[tuple[str, str], Contact] = field(default_factory=dict)
    tried: Counter[tuple[str, str]] = field(default_factory=Counter)

    def named(self, name: str) -> NDArray[np.intp]:
        """Return the indices of all nodes of a pose."""
        return np.array([index for index, node in enumerate(self.nodes) if node.name == name])


class RoundPlanner:
    """Plans the round of a cell and a part.

    Parameters
    ----------
    file : CellFile
    part : PartFile
    model : CollisionModel
        Entered.
    """

    def __init__(self, file: CellFile, part: PartFile, model: CollisionModel) -> None:
        self._file = file
        self._part = part
        self._model = model
        self._graph = _Graph()
        self._legs = LegTimer(file, part, model)
        self._distance_m = file.motion.distance_m

    def plan(self) -> Round:
        """Plan it.

        Raises
        ------
        MotionRejected
            A pose cannot be reached or a way is blocked; the pose is named, and what would touch what.
        """
        first, second = self._part.grasps
        scene, graph = self._file.scene, self._graph
        home = np.array(self._file.motion.home_rad)
        self._look()
        self._legs.tool(self._held(first))
        empty = Load(OPENING_MAX_M)
        contact = self._model.contact(home, empty)
        if contact is not None:
            raise MotionRejected("arm", f"planning the pose {HOME}", str(contact), _REMEDY)
        graph.nodes.append(_Node(HOME, home, home[np.newaxis]))
        views = [[f"{grasp.name}-{view.name}" for view in self._part.views] for grasp in self._part.grasps]
        bins = {over_bin(name): getattr(scene.bins, name) for name in ("ok", "reject", "recheck")}

        self._handle(FEEDER, scene.feeder, first)
        self._handle(SCALE, scene.scale, first, above_m=LET_GO_M)
        self._handle(on_scale(second), scene.scale, second)
        for name, place in bins.items():
            self._handle(name, place, second)
        for grasp, names in zip(self._part.grasps, views, strict=True):
            for view, name in zip(self._part.views, names, strict=True):
                self._show(name, view_pose(view, grasp, self._part, scene.camera), grasp)

        # What the hand does on the way from one pose to another; a part that lies is an obstacle to the hand.
        for name in views[0]:
            self._connect(FEEDER, name, self._held(first))
            self._connect(name, SCALE, self._held(first))
        self._connect_all(views[0], self._held(first))
        self._connect(HOME, FEEDER, replace(empty, lying=place_pose(scene.feeder)))
        self._connect(SCALE, on_scale(second), replace(empty, lying=place_pose(scene.scale)))
        for name in views[1]:
            self._connect(on_scale(second), name, self._held(second))
        self._connect_all(views[1], self._held(second))
        for name, place in bins.items():
            for shown in views[1]:
                self._connect(shown, name, self._held(second))
            self._connect(name, HOME, replace(empty, lying=place_pose(place)))
        self._weigh()

        chosen = self._choose(views, list(bins))
        return self._assemble(chosen, views, list(bins))

    def way_home(self, here: NDArray[np.float64], opening_m: float) -> tuple[JointTrajectory, ...]:
        """Plan the way home of an empty hand from where the arm stands, (7,) rad.

        Where it stands too near to something, as after a fault over a nest, it first goes straight up, no nearer to
        anything than it is.

        Raises
        ------
        MotionRejected
            Something is in the way.
        """
        load = Load(opening_m)
        home = np.array(self._file.motion.home_rad)

        def check(q: NDArray[np.float64]) -> Contact | None:
            return self._model.contact(q, load)

        def blocked(contact: Contact) -> MotionRejected:
            return MotionRejected("arm", f"planning the way to {HOME}", str(contact), "lead the arm home by hand")

        legs: list[JointTrajectory] = []
        near = check(here)
        if near is not None:
            rise = self._lift(forward(here), here)
            if rise is None or near.distance_m <= 0:
                raise blocked(near)
            for q in rise:
                nearer = self._model.contact(q, load, clearance_m=near.distance_m - _LEAVING_M)
                if nearer is not None:
                    raise blocked(nearer)
            legs.append(time_path(rise, goal="above where it stands", tool=self._legs.tool(load)))
            here = rise[-1]
        path: NDArray[np.float64] | None = np.stack([here, home])
        contact = straight_contact(here, home, check)
        if contact is not None:
            path = planned_path(here, home, check, seed=0)
            if path is None:
                raise blocked(contact)
        assert path is not None
        return (*legs, self._legs.time("where it stands", HOME, [path], load))

    def _held(self, grasp: GraspPoint) -> Load:
        return Load(grasp.width_mm / 1000, held=grasp_pose(grasp).inverse())

    def _look(self) -> None:
        """Keep the arm out of the line of sight to the part."""
        mount, part = self._file.scene.camera, self._part
        radius = part.picture_width_mm / 2000
        distance = float(np.linalg.norm(np.subtract(mount.look_at_m, mount.position_m))) - radius
        angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        rim = np.stack([radius * np.cos(angles), radius * np.sin(angles), np.full(16, distance)], axis=1)
        self._model.look(np.array(mount.position_m), camera_pose(mount).apply(rim))

    def _reach(self, name: str, goal: Pose) -> NDArray[np.float64]:
        found = inverse(goal, _Q7_RAD)
        if len(found) == 0:
            x, y, z = goal.position_m
            raise MotionRejected(
                "arm",
                f"planning the pose {name}",
                f"no joint positions within the limits reach ({x:.3f}, {y:.3f}, {z:.3f}) m in that direction",
                _REMEDY,
            )
        return found

    def _refuse(self, name: str, contacts: Sequence[Contact]) -> MotionRejected:
        """Name the contact that is the easiest to do away with."""
        return MotionRejected(
            "arm", f"planning the pose {name}", str(max(contacts, key=lambda contact: contact.distance_m)), _REMEDY
        )

    def _show(self, name: str, goal: Pose, grasp: GraspPoint) -> None:
        load, contacts, nodes = self._held(grasp), [], []
        for q in self._reach(name, goal):
            contact = self._model.contact(
                q, load, clearance_m=self._distance_m + _SPARE_M
            ) or self._model.before_the_lens(q, load)
            if contact is None:
                nodes.append(_Node(name, q, q[np.newaxis]))
            else:
                contacts.append(contact)
        if not nodes:
            raise self._refuse(name, contacts)
        self._graph.nodes += nodes

    def _handle(self, name: str, place: Place, grasp: GraspPoint, *, above_m: float = 0.0) -> None:
        """Add the ways of taking a part from a place or letting it go there: straight down, and straight up again."""
        lying = place_pose(place)
        on_it = lying @ grasp_pose(grasp)
        at = Pose(on_it.rotation, on_it.position_m + np.array([0, 0, above_m]))
        support = self._model.support(lying)
        empty = Load(OPENING_MAX_M, lying=lying, support=support)
        held = replace(self._held(grasp), support=support)
        contacts, nodes = [], []
        for q in self._reach(name, at):
            lift = self._lift(at, q)
            if lift is None:
                continue
            contact = None
            for height, step in enumerate(lift):
                at_top = height == len(lift) - 1
                for load in (held, empty):
                    load = replace(load, support=frozenset()) if at_top else load
                    spare = _SPARE_M if at_top else 0.0
                    contact = contact or self._model.contact(step, load, clearance_m=self._distance_m + spare)
            if contact is None:
                nodes.append(_Node(name, q, lift))
            else:
                contacts.append(contact)
        if not nodes and not contacts:
            raise MotionRejected(
                "arm",
                f"planning the pose {name}",
                f"no joint positions within the limits lead {self._file.scene.clearance_m} m straight up from it",
                _REMEDY,
            )
        if not nodes:
            raise self._refuse(name, contacts)
        self._graph.nodes += nodes

    def _lift(self, at: Pose, q: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return joint positions along the vertical above a pose, or None where it cannot be followed."""
        steps = [q]
        for height in np.linspace(0, self._file.scene.clearance_m, _LIFT_STEPS + 1)[1:]:
            raised = inverse_near(Pose(at.rotation, at.position_m + np.array([0, 0, height])), steps[-1])
            if raised is None or np.abs(raised - steps[-1]).max() > _LIFT_JUMP_RAD:
                return None
            steps.append(raised)
        return np.stack(steps)

    def _connect(self, start: str, end: str, load: Load) -> None:
        self._graph.loads[start, end] = load

    def _connect_all(self, names: Sequence[str], load: Load) -> None:
        for start in names:
            for end in names:
                if start != end:
                    self._connect(start, end, load)

    def _weigh(self) -> None:
        """Give every allowed way the time that it takes at least, its part straight up and down included."""
        graph = self._graph
        free = np.stack([node.free for node in graph.nodes])
        lift = np.array([move_time(node.q, node.free) for node in graph.nodes])
        graph.cost_s = np.full((len(graph.nodes), len(graph.nodes)), np.inf)
        for start, end in graph.loads:
            rows, columns = graph.named(start), graph.named(end)
            way = move_time(free[rows, np.newaxis], free[np.newaxis, columns])
            graph.cost_s[np.ix_(rows, columns)] = way + lift[rows, np.newaxis] + lift[np.newaxis, columns]
        graph.least_s = graph.cost_s.copy()

    def _choose(self, views: Sequence[Sequence[str]], bins: Sequence[str]) -> list[int]:
        """Return the nodes of the shortest round whose every way is free, then one for each bin.

        Ways are looked at only when a shortest round uses them. A straight move takes the least time there can be,
        so once a round needs no way that was not looked at, no other round is shorter. Where several straight ways
        between two poses are blocked, one planned way around stands for all that were not looked at.
        """
        graph = self._graph
        first, second = ([graph.named(name) for name in names] for names in views)
        repick = on_scale(self._part.grasps[1])
        stages = [[graph.named(FEEDER)], first, [graph.named(SCALE)], [graph.named(repick)], second]
        home = 0
        while True:
            to_bins = [graph.cost_s[:, graph.named(name)] + graph.cost_s[graph.named(name), home] for name in bins]
            end_s = np.mean([ways.min(axis=1) for ways in to_bins], axis=0)
            total, chosen = shortest_round(stages, graph.cost_s, start=home, end_s=end_s)
            if not np.isfinite(total):
                (start, end), contact = next(reversed(graph.blocked.items()))
                raise MotionRejected("arm", f"planning the way from {start} to {end}", str(contact), _REMEDY)
            in_bins = [
                int(graph.named(name)[np.argmin(ways[chosen[-1]])]) for name, ways in zip(bins, to_bins, strict=True)
            ]
            ways = list(zip([home, *chosen], chosen, strict=False))
            ways += [(chosen[-1], node) for node in in_bins] + [(node, home) for node in in_bins]
            unknown = [way for way in ways if way not in graph.paths]
            if not unknown:
                return chosen + in_bins
            for way in unknown:
                self._look_at(*way)

    def _look_at(self, start: int, end: int) -> None:
        """Find out whether a way is free, and put right what it costs."""
        graph = self._graph
        names = graph.nodes[start].name, graph.nodes[end].name
        contact = straight_contact(graph.nodes[start].free, graph.nodes[end].free, self._check(names))
        if contact is None:
            graph.paths[start, end] = np.stack([graph.nodes[start].free, graph.nodes[end].free])
            return
        graph.cost_s[start, end] = np.inf
        graph.blocked.setdefault(names, contact)
        graph.tried[names] += 1
        if graph.tried[names] == _STRAIGHT_TRIED:
            self._lead_around(names)

    def _lead_around(self, names: tuple[str, str]) -> None:
        """Plan a way around what stands between two poses, instead of trying their other configurations."""
        graph = self._graph
        pairs = [(int(start), int(end)) for start in graph.named(names[0]) for end in graph.named(names[1])]
        for pair in pairs:
            if pair not in graph.paths:
                graph.cost_s[pair] = np.inf
        for start, end in sorted(pairs, key=lambda pair: graph.least_s[pair])[:_DETOURS]:
            leaving, arriving = graph.nodes[start].free, graph.nodes[end].free
            seed = start * len(graph.nodes) + end
            path = planned_path(leaving, arriving, self._check(names), seed=seed)
            if path is not None:
                graph.paths[start, end] = path
                extra = move_time(path[:-1], path[1:]).sum() - move_time(path[0], path[-1])
                graph.cost_s[start, end] = graph.least_s[start, end] + max(0.0, float(extra))
                return

    def _check(self, names: tuple[str, str]) -> Check:
        load = self._graph.loads[names]

        def check(q: NDArray[np.float64]) -> Contact | None:
            return self._model.contact(q, load, clearance_m=self._distance_m + _SPARE_M)

        return check

    def _assemble(self, chosen: Sequence[int], views: Sequence[Sequence[str]], bins: Sequence[str]) -> Round:
        graph = self._graph
        beside = beside_scale(self._part.grasps[1])
        legs: dict[tuple[str, str], JointTrajectory] = {}
        in_round, in_bins = chosen[: -len(bins)], chosen[-len(bins) :]
        ways = list(zip([0, *in_round], in_round, strict=False))
        ways += [(in_round[-1], node) for node in in_bins] + [(node, 0) for node in in_bins]
        for start, end in ways:
            leaving, arriving = graph.nodes[start], graph.nodes[end]
            way = graph.paths[start, end]
            load = graph.loads[leaving.name, arriving.name]
            if leaving.name == SCALE:
                # The hand waits above the part while it is weighed.
                legs[SCALE, beside] = self._legs.time(SCALE, beside, [leaving.lift[:-1], way], load)
                legs[beside, arriving.name] = self._legs.time(beside, arriving.name, [arriving.lift[::-1]], load)
            else:
                pieces = [leaving.lift[:-1], way, arriving.lift[-2::-1]]
                lands = arriving.name == SCALE
                legs[leaving.name, arriving.name] = self._legs.time(
                    leaving.name, arriving.name, pieces, load, lands=lands
                )
        stops = {graph.nodes[index].name: graph.nodes[index].q for index in in_round}
        shown = [{name: Stop(name, q) for name, q in stops.items() if name in names} for names in views]
        return Round(Stop(HOME, graph.nodes[0].q), (shown[0], shown[1]), legs)
