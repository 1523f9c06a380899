"""The feeder: what of a part stays when it comes again, and what is drawn anew."""

from contextlib import ExitStack

import numpy as np
import pytest

from cell.config import load_cell, load_part, load_production
from cell.setup import Order, Setup
from twin.source import TwinPartSource, TwinPartSourceConfig
from twin.world import World, WorldConfig


@pytest.fixture
def parts_of():
    """Return a function that has parts made by numbers, with their tickets."""

    def make(numbers, **options):
        order = Order(load_cell("twin"), load_part("ring"), load_production("mixed"), numbers, seed=3)
        made = []
        with ExitStack() as stack:
            world = stack.enter_context(World(WorldConfig(), Setup(order, None)))
            config = TwinPartSourceConfig(**options)
            source = stack.enter_context(TwinPartSource(config, Setup(order, world)))
            for _ in numbers:
                made.append((source.next(), world.part))
        return made

    return make


def lies_on(part):
    return [(skin.mesh.vertices.tobytes(), skin.reflectance, skin.grasps) for skin in part.skins]


def test_a_piece_that_comes_again_is_the_same_and_is_taken_anew(parts_of):
    (ticket, first), (again, second), (other, third) = parts_of([3, 4, 6], visits=3)
    assert first.mesh.vertices.tobytes() == second.mesh.vertices.tobytes() and first.mass_g == second.mass_g
    assert lies_on(first) == lies_on(second) and first.defects == second.defects == ("dot",)
    assert first.conditions.light != second.conditions.light and first.seed != second.seed
    assert (first.conditions.slip_mm != second.conditions.slip_mm)[:, [0, 2]].all()
    assert ticket.part_id != again.part_id and ticket.shot == again.shot == 1 and other.shot == 2
    assert third.mass_g != first.mass_g


def test_pieces_that_come_once_are_what_they_are_without_visits(parts_of):
    ((_, once),) = parts_of([2])
    ((_, first), _) = parts_of([10, 11], visits=5)
    assert once.mesh.vertices.tobytes() == first.mesh.vertices.tobytes() and lies_on(once) == lies_on(first)


def test_errors_grow_by_their_factor_and_nothing_else_changes(parts_of):
    ((_, plain),), ((_, worse),) = parts_of([2]), parts_of([2], misplaced=2.0, arm_error=4.0)
    np.testing.assert_allclose(worse.conditions.slip_mm, 2 * plain.conditions.slip_mm)
    assert worse.conditions.arm_error_rad == 4 * plain.conditions.arm_error_rad
    assert worse.conditions.light == plain.conditions.light and lies_on(worse) == lies_on(plain)
