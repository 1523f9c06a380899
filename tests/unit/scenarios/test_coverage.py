from itertools import combinations

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scenarios.coverage import Coverage, covered_share, fewest_views, summary_of

SEEN = arrays(np.bool_, st.tuples(st.integers(1, 6), st.integers(1, 12)))


def coverable(seen, k):
    return seen.sum(axis=0) >= k


@given(seen=SEEN, k=st.integers(1, 3))
def test_the_chosen_views_keep_what_all_of_them_see_often_enough(seen, k):
    chosen = fewest_views(seen, np.ones(seen.shape[1]), k=k)
    np.testing.assert_array_equal(coverable(seen[chosen], k), coverable(seen, k))
    assert len(set(chosen)) == len(chosen)


@given(seen=SEEN, k=st.integers(1, 3))
def test_the_choice_is_as_near_to_the_least_as_greedy_covers_are(seen, k):
    chosen = fewest_views(seen, np.ones(seen.shape[1]), k=k)
    least = next(
        n
        for n in range(len(seen) + 1)
        if any(
            (coverable(seen[list(some)], k) == coverable(seen, k)).all() for some in combinations(range(len(seen)), n)
        )
    )
    harmonic = sum(1 / n for n in range(1, seen.shape[1] + 1))
    assert least <= len(chosen) <= max(least, harmonic * least)


def test_larger_areas_come_first():
    seen = np.array([[True, False, False], [False, True, True]])
    assert fewest_views(seen, np.array([5.0, 1, 1]), k=1) == [0, 1]
    assert fewest_views(seen, np.array([1.0, 1, 1]), k=1) == [1, 0]


def test_shares_count_area():
    seen = np.array([[True, True, False], [True, False, False]])
    areas = np.array([1.0, 2, 5])
    assert covered_share(seen, areas, k=1) == pytest.approx(3 / 8)
    assert covered_share(seen, areas, k=2) == pytest.approx(1 / 8)


@pytest.fixture
def half_seen_box():
    """A cube of 10 mm of which one view sees the top, two see the front, and nothing else is seen."""
    mesh = trimesh.creation.box((10, 10, 10)).subdivide()
    top, front = mesh.face_normals[:, 2] > 0.5, mesh.face_normals[:, 1] < -0.5
    seen = np.stack([top | front, front])
    angle = np.where(seen, 20.0, 90.0).astype(np.float32)
    return Coverage(mesh, ("A", "B"), seen, np.where(seen, 9.5, 0).astype(np.float32), angle)


def test_regions_are_connected_pieces_with_their_place_and_direction(half_seen_box):
    top, *_ = half_seen_box.regions(1)
    assert len(half_seen_box.regions(1)) == 1 and top.area_mm2 == pytest.approx(400) and top.seen_by == 0
    (rest,) = half_seen_box.regions(2)  # the top joins the unseen sides
    assert rest.area_mm2 == pytest.approx(500) and rest.seen_by == 1


def test_the_summary_says_what_the_vote_can_never_catch(half_seen_box):
    summary = summary_of(half_seen_box, k=2)
    assert summary["surface_mm2"] == pytest.approx(600)
    assert (summary["share_seen_by_1"], summary["share_seen_by_k"]) == pytest.approx((1 / 3, 1 / 6))
    assert summary["seen_by_fewer_than_k"]["area_mm2"] == pytest.approx(500)
    assert [step["view"] for step in summary["fewest_views"]] == ["A", "B"]
    assert summary["fewest_views"][-1]["share_seen_by_k"] == pytest.approx(1 / 6)
    assert summary["best_px_per_mm_percentiles"] == {"5": 9.5, "50": 9.5, "95": 9.5}
