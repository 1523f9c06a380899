"""The shortest round through groups of poses, each of which the arm can take in several ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Alternatives = NDArray[np.intp]
"""Indices of the nodes (arm configurations) that all stand for one pose, (C,)."""


@dataclass(frozen=True)
class _Entry:
    """Cheapest ways to each alternative of a pose, and the (state, alternative) each comes from."""

    cost: NDArray[np.float64]
    came_from: NDArray[np.intp]
    before: tuple[int, ...]


def shortest_round(
    stages: Sequence[Sequence[Alternatives]], cost_s: NDArray[np.float64], *, start: int, end_s: NDArray[np.float64]
) -> tuple[float, list[int]]:
    """Return the cheapest way through all stages in turn, in each through one alternative of every pose.

    Parameters
    ----------
    stages : sequence of sequence of (C,) int
        The poses of a stage may be visited in any order.
    cost_s : (N, N) float64
        From node to node; inf where there is no way.
    start : int
        The node to start from.
    end_s : (N,) float64
        What it costs to end at a node.

    Returns
    -------
    float
        The total; inf where there is no way.
    list of int
        The nodes in order, without the start; empty where there is no way.

    Notes
    -----
    Exact: dynamic programming over the subsets of a stage's poses (Held and Karp, 1962) with the alternatives as
    part of the state. A stage of eight poses with 50 alternatives each takes about 0.1 s.
    """
    arriving, at = np.zeros(1), np.array([start])
    tables = []
    for stage in stages:
        table = _visit_all(stage, arriving, at, cost_s)
        tables.append(table)
        whole = (1 << len(stage)) - 1
        arriving = np.concatenate([table[whole, last].cost for last in range(len(stage))])
        at = np.concatenate(stage)
    total = arriving + end_s[at]
    best = int(np.argmin(total))
    if not np.isfinite(total[best]):
        return float("inf"), []
    nodes: list[int] = []
    place = best
    for stage, table in zip(reversed(stages), reversed(tables), strict=True):
        place, visited = _trace(stage, table, place)
        nodes = visited + nodes
    return float(total[best]), nodes


def _visit_all(
    stage: Sequence[Alternatives], arriving: NDArray[np.float64], at: Alternatives, cost_s: NDArray[np.float64]
) -> dict[tuple[int, int], _Entry]:
    """Return the cheapest ways by (subset of poses visited, the last of them)."""
    table: dict[tuple[int, int], _Entry] = {}
    for pose, nodes in enumerate(stage):
        ways = arriving[:, np.newaxis] + cost_s[np.ix_(at, nodes)]
        came_from = np.argmin(ways, axis=0)
        table[1 << pose, pose] = _Entry(ways[came_from, np.arange(len(nodes))], came_from, ())
    for subset in range(1, 1 << len(stage)):
        members = [pose for pose in range(len(stage)) if subset >> pose & 1]
        if len(members) < 2:
            continue
        for pose in members:
            rest = subset & ~(1 << pose)
            before = tuple(other for other in members if other != pose)
            reached = np.concatenate([table[rest, other].cost for other in before])
            nodes = np.concatenate([stage[other] for other in before])
            ways = reached[:, np.newaxis] + cost_s[np.ix_(nodes, stage[pose])]
            came_from = np.argmin(ways, axis=0)
            table[subset, pose] = _Entry(ways[came_from, np.arange(len(stage[pose]))], came_from, before)
    return table


def _trace(stage: Sequence[Alternatives], table: dict[tuple[int, int], _Entry], place: int) -> tuple[int, list[int]]:
    """Follow a stage back from `place` among its last alternatives; return the place before it and its nodes."""
    subset = (1 << len(stage)) - 1
    pose, place = _among(stage, range(len(stage)), place)
    visited: list[int] = []
    while True:
        visited.append(int(stage[pose][place]))
        entry = table[subset, pose]
        place = int(entry.came_from[place])
        if not entry.before:
            return place, visited[::-1]
        subset &= ~(1 << pose)
        pose, place = _among(stage, entry.before, place)


def _among(stage: Sequence[Alternatives], poses: Sequence[int], place: int) -> tuple[int, int]:
    """Return to which of the poses' concatenated alternatives a place belongs, and its index there."""
    for pose in poses:
        if place < len(stage[pose]):
            return pose, place
        place -= len(stage[pose])
    raise AssertionError("the place lies inside the alternatives")
