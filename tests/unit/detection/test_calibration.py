import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection import ModelError, held_out_threshold, middle_of_means
from detection.decisions import reaches


def test_middle_of_means() -> None:
    assert middle_of_means([1, 2, 3], [8, 12]) == 6
    with pytest.raises(ModelError, match="missing"):
        middle_of_means([1.0], [])


@given(statistics=st.lists(st.floats(0, 1000), min_size=1, max_size=60), alpha=st.floats(0.01, 0.9))
def test_the_threshold_lets_the_ranked_part_pass(statistics: list[float], alpha: float) -> None:
    count = len(statistics)
    rank = int(np.ceil((1 - alpha) * (count + 1)))
    ranked = sorted(statistics)[min(rank, count) - 1]
    threshold = held_out_threshold(statistics, alpha=alpha)
    assert not reaches(ranked, threshold)
    assert all(reaches(value, threshold) for value in statistics if value > ranked)


def test_the_largest_is_taken_when_there_are_too_few_parts() -> None:
    statistics = [float(value) for value in range(1, 19)]
    assert held_out_threshold(statistics, alpha=0.05) == np.nextafter(18.0, np.inf)  # 18 < 1/0.05 − 1
    assert held_out_threshold([*statistics, 19.0, 20.0], alpha=0.05) == np.nextafter(20.0, np.inf)
    assert held_out_threshold([float(value) for value in range(1, 40)], alpha=0.05) == np.nextafter(38.0, np.inf)


def test_without_parts_everything_is_anomalous() -> None:
    assert reaches(0.0, held_out_threshold([], alpha=0.05))
