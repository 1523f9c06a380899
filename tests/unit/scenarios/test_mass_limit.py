"""The smallest short shot that mass finds, against parts that are drawn and weighed one by one."""

import numpy as np
import pytest

from cell.config import load_part
from cell.interfaces import ConfigError
from scenarios.mass_limit import good_spread, mass_limits, scale_spread_g, smallest_missing_g
from twin.parts.moulding import mould
from twin.parts.shape import make_shape
from twin.scale import TwinScaleConfig

RING = load_part("ring")


def test_good_parts_scatter_as_the_shots_that_the_twin_makes():
    bare = RING.content.moulding.model_copy(update={"haze": 0.0, "gate": None, "weld": None})
    part, shape = RING.content.model_copy(update={"moulding": bare}), make_shape(RING)

    def spread(shots) -> float:
        return float(np.std([np.linalg.det(shot.strain) * shot.density for shot in shots]))

    between_shots, between_cavities = good_spread(bare)
    assert spread(mould(part, shape, 1, (0, n)) for n in range(3000)) == pytest.approx(between_shots, rel=0.05)
    many = spread(mould(part, shape, n, (0, 0)) for n in range(3000))
    assert many == pytest.approx(between_cavities, rel=0.05)


def test_a_scale_with_one_source_of_noise_has_that_noise():
    quiet = {"noise_g": 0.0, "drift_g": 0.0, "step_g": 1e-9}
    assert scale_spread_g(TwinScaleConfig(**quiet | {"drift_g": 0.002})) == pytest.approx(0.002)
    assert scale_spread_g(TwinScaleConfig(**quiet | {"step_g": 0.01})) == pytest.approx(0.01 / 12**0.5)
    noisy = TwinScaleConfig(**quiet | {"noise_g": 0.01, "stable_readings": 10})
    drawn = np.random.default_rng(0).normal(0, 0.01, (20000, 2, 10)).mean(axis=2)
    assert scale_spread_g(noisy) == pytest.approx(np.std(drawn[:, 0] - drawn[:, 1]), rel=0.03)


def test_so_many_short_shots_are_found_as_was_asked():
    missing = smallest_missing_g(0.05, 0.1, 0.9)
    masses = np.random.default_rng(0).normal(-missing, 0.05, 100_000)
    assert (masses < -0.1).mean() == pytest.approx(0.9, abs=0.005)


@pytest.mark.parametrize("part", ["ring", "cap"])
def test_a_tighter_tolerance_finds_smaller_ones_and_rejects_as_many_good_parts_as_allowed(part):
    own, tightest, by_cavity, scale = mass_limits("twin", part, found=0.95, good_rejected=0.01)
    assert tightest.good_rejected == pytest.approx(0.01)
    assert scale.smallest_g < by_cavity.smallest_g < tightest.smallest_g
    assert own.smallest_g > own.tolerance_g
    assert own.smallest_share < 0.05


def test_a_scale_whose_noise_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match="twin's cell"):
        mass_limits("replay", "ring", found=0.95, good_rejected=0.01)
