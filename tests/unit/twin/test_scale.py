from types import SimpleNamespace

import numpy as np
import pytest

import twin.scale
from cell.interfaces import ScaleOverload, ScaleUnstable
from twin.scale import TwinScale, TwinScaleConfig

STEP_S = 1 / 240
EXACT = {"noise_g": 0.0, "drift_g": 0.0, "vibration_g_s2": 0.0}


class Bench:
    """A world with a given force on the pan and an arm with a given velocity."""

    def __init__(self, *, grams=0.0, seed=(0, 0)):
        self.grams, self.speed, self.time_s, self.step_s = grams, 0.0, 0.0, STEP_S
        self.part = SimpleNamespace(seed=seed)

    def mount(self, load_cell):
        self.reading_g = load_cell.reading_g
        self.follow = load_cell.follow

    def step(self):
        self.time_s += STEP_S
        self.follow(self, STEP_S)

    def wait(self, seconds):
        for _ in range(round(seconds / STEP_S)):
            self.step()

    def pan_force_n(self):
        grams = self.grams(self.time_s) if callable(self.grams) else self.grams
        return grams / 1000 * 9.80665

    def joints(self):
        speed = self.speed(self.time_s) if callable(self.speed) else self.speed
        return np.zeros(7), np.full(7, speed)


@pytest.fixture
def scale_on(monkeypatch):
    """Return a function that puts a scale on a bench."""

    def put(bench, **options):
        monkeypatch.setattr(twin.scale, "world_of", lambda setup: bench)
        return TwinScale(TwinScaleConfig(**options), setup=None).__enter__()

    return put


def test_the_full_load_is_shown_to_one_step_after_the_settling_time(scale_on):
    bench = Bench(grams=100.0)
    scale_on(bench, settling_s=3.0, **EXACT)
    shown = []
    for _ in range(round(3 / STEP_S)):
        bench.step()
        shown.append(bench.reading_g())
    assert 99.998 < shown[-1] < 100 and shown[round(1.5 / STEP_S)] < 99.9


def test_a_part_that_was_just_put_down_is_waited_for(scale_on):
    bench = Bench(grams=23.0)
    weighing = scale_on(bench, **EXACT).weigh()
    assert weighing.mass_g == pytest.approx(23.0, abs=0.005) and weighing.stable
    assert 2 < weighing.timestamp_s == bench.time_s


def test_masses_are_whole_steps(scale_on):
    mass_g = scale_on(Bench(grams=12.3456)).weigh().mass_g
    assert mass_g == pytest.approx(round(mass_g, 3), abs=1e-12)


def test_what_was_tared_does_not_count(scale_on):
    bench = Bench(grams=10.0)
    scale = scale_on(bench, **EXACT)
    scale.tare()
    assert scale.weigh().mass_g == pytest.approx(0.0, abs=0.005)
    bench.grams = 30.0
    assert scale.weigh().mass_g == pytest.approx(20.0, abs=0.005)


def test_readings_scatter_and_the_zero_drifts_by_what_is_configured(scale_on):
    masses = [scale_on(Bench(grams=23.0, seed=(1, i)), drift_g=0.01).weigh().mass_g for i in range(100)]
    assert 0.008 < np.std(masses) < 0.012
    assert masses[3] == scale_on(Bench(grams=23.0, seed=(1, 3)), drift_g=0.01).weigh().mass_g


def test_a_rocking_part_does_not_settle(scale_on):
    rocking = Bench(grams=lambda t: 23 + 0.5 * np.sin(2 * np.pi * 3 * t))
    with pytest.raises(ScaleUnstable, match="did not settle in 8 s"):
        scale_on(rocking).weigh()


def test_a_moving_arm_shakes_it(scale_on):
    bench = Bench(grams=23.0)
    bench.speed = lambda t: np.sin(2 * np.pi * t)
    with pytest.raises(ScaleUnstable):
        scale_on(bench).weigh()
    bench.speed = 1.0  # what moves evenly shakes nothing
    assert scale_on(bench).weigh().mass_g == pytest.approx(23.0, abs=0.01)


def test_too_much_is_an_overload(scale_on):
    with pytest.raises(ScaleOverload, match="more than 100 g"):
        scale_on(Bench(grams=120.0)).weigh()


def test_an_arm_shakes_it_as_much_whatever_the_worlds_step(scale_on):
    scatter = {}
    for step_s in (STEP_S, STEP_S / 4):
        bench = Bench(grams=20.0)
        bench.speed = lambda time_s: 0.1 * np.sin(2 * np.pi * 5 * time_s)
        scale_on(bench, **{**EXACT, "vibration_g_s2": 0.012})
        shown = []
        for _ in range(round(60 / step_s)):
            bench.time_s += step_s
            bench.follow(bench, step_s)
            shown.append(bench.reading_g())
        scatter[step_s] = np.std(shown[len(shown) // 10 :])
    assert scatter[STEP_S / 4] == pytest.approx(scatter[STEP_S], rel=0.15) and scatter[STEP_S] > 1e-3
