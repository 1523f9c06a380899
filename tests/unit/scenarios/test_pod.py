import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from scenarios.pod import fit_pod, penalised_log_likelihood, visible_share

SIZES = np.geomspace(0.1, 3.0, 60)


def simulated(seed: int, alpha: float = 1.0, sizes: np.ndarray = SIZES) -> np.ndarray:
    """Hits and misses of POD = alpha · logistic(2 + 3 ln a)."""
    return np.asarray(np.random.default_rng(seed).random(len(sizes)) < alpha * expit(2 + 3 * np.log(sizes)))


@pytest.mark.parametrize("alpha", [1.0, 0.95])
def test_a90_95_lies_above_the_true_size_in_about_95_of_100_experiments(alpha: float) -> None:
    truth = np.exp((logit(0.9 / alpha) - 2) / 3)
    sizes = np.geomspace(0.1, 60.0, 112)
    bounds = [fit_pod(sizes, simulated(seed, alpha, sizes), alpha=alpha).a90_95_mm for seed in range(150)]
    covered = np.mean([bound is None or bound >= truth for bound in bounds])
    assert 0.90 <= covered <= 0.99
    assert sum(bound is None for bound in bounds) < 8


def test_many_parts_give_the_plain_maximum_of_an_independent_likelihood() -> None:
    sizes = np.geomspace(0.1, 3.0, 5000)
    hits = simulated(1, sizes=sizes)
    sign = np.where(hits, 1.0, -1.0)
    plain = minimize(lambda b: np.logaddexp(0, -sign * (b[0] + b[1] * np.log(sizes))).sum(), [0.0, 1.0])
    fit = fit_pod(sizes, hits)
    assert [fit.b0, fit.b1] == pytest.approx(plain.x, rel=5e-3)
    design = np.stack([np.ones_like(sizes), np.log(sizes)], axis=-1)
    assert penalised_log_likelihood(plain.x, design, hits, 1.0, weight=0) == pytest.approx(-plain.fun)


def test_the_fit_is_the_peak_of_the_penalised_likelihood() -> None:
    """Also where all but a few small ones are found, which an earlier search crept away from."""
    sizes = np.geomspace(0.3, 12.0, 60)
    design = np.stack([np.ones_like(sizes), np.log(sizes)], axis=-1)
    few_missed = ~np.isin(np.arange(60), [2, 4, 6, 7, 9, 15, 16, 34])
    for hits in (few_missed, *(simulated(seed, 0.95, sizes) for seed in range(20))):
        for alpha in (1.0, 0.97):
            fit = fit_pod(sizes, hits, alpha=alpha)
            reached = penalised_log_likelihood(np.array([fit.b0, fit.b1]), design, hits, alpha)
            for start in ([0.0, 1.0], [2.0, 2.0], [-3.0, 4.0]):
                peak = minimize(_loss, start, args=(design, hits, alpha), method="BFGS")
                assert reached >= -peak.fun - 1e-6


def _loss(beta: np.ndarray, design: np.ndarray, hits: np.ndarray, alpha: float) -> float:
    return -penalised_log_likelihood(beta, design, hits, alpha)


def test_perfect_separation_stays_finite() -> None:
    fit = fit_pod(SIZES, SIZES > 0.5)
    assert np.isfinite([fit.b0, fit.b1]).all() and fit.b1 > 0
    assert fit.a90_mm is not None and fit.a90_95_mm is not None
    assert 0.4 < fit.a90_mm < fit.a90_95_mm < 1.0


def test_no_a90_where_the_curve_never_reaches_it() -> None:
    for fit in (fit_pod(SIZES, simulated(0, 0.8), alpha=0.8), fit_pod(SIZES, SIZES < 0.5)):
        assert fit.a90_mm is None and fit.a90_95_mm is None


@pytest.mark.parametrize("miss", [None, 30])
def test_where_all_but_perhaps_one_are_found_a_size_is_bounded_and_none_is_made_up(miss: int | None) -> None:
    fit = fit_pod(SIZES, np.arange(60) != miss)
    assert fit.a90_mm is None and fit.a90_95_mm is not None and 0.1 <= fit.a90_95_mm < 1.0


def test_a_curve_that_reaches_nine_tenths_beyond_the_sizes_tried_has_no_a90() -> None:
    hits = SIZES > 0.25
    hits[[10, 12, 18]] = [True, True, False]
    whole, cut = fit_pod(SIZES, hits), fit_pod(SIZES[:20], hits[:20])
    assert whole.a90_mm is not None and whole.a90_95_mm is not None
    assert cut.b1 > 0 and cut.at(cut.largest_mm) < 0.9 and cut.a90_mm is None and cut.a90_95_mm is None


def test_no_bound_lies_below_the_sizes_tried() -> None:
    sizes = np.geomspace(1.0, 3.0, 300)
    assert fit_pod(sizes, np.full(300, True)).a90_95_mm == 1.0


def test_the_band_encloses_the_curve_and_stays_below_the_asymptote() -> None:
    fit = fit_pod(SIZES, simulated(2, 0.95), alpha=0.95)
    lower, upper = fit.band(SIZES)
    assert (lower < fit.at(SIZES)).all() and (fit.at(SIZES) < upper).all() and (upper <= 0.95).all()


def test_the_visible_share_counts_parts_that_enough_views_show() -> None:
    assert visible_share([0, 1, 2, 3], 2) == 0.5
    with pytest.raises(ValueError, match="no parts"):
        visible_share([], 2)


def test_wrong_data_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        fit_pod([0.0, 1.0], [False, True])
    with pytest.raises(ValueError, match="two different sizes"):
        fit_pod([1.0, 1.0], [False, True])
