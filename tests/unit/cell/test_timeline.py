import json

import pytest

from cell.gantt import cycle_figures, gantt
from cell.timeline import Step, Timeline, robot_time, scoring_steps


class Watch:
    def __init__(self):
        self.time = 100.0

    def now(self):
        return self.time


STEPS = (
    Step("motion", "feeder", 0.0, 1.0),
    Step("gripper", "take by A", 1.0, 2.0),
    Step("motion", "A-V1", 2.0, 3.0),
    Step("capture", "A-V1", 3.0, 3.1),
    Step("transfer", "A-V1", 3.1, 3.3),
    Step("gripper", "let go at scale", 4.0, 5.0),
    Step("weighing", "scale", 5.0, 8.0),
    Step("gripper", "take by B", 8.0, 9.0),
    Step("capture", "B-V1", 9.0, 9.5),
    Step("waiting", "verdict", 9.5, 10.5),
    Step("gripper", "let go at bin ok", 10.5, 11.0),
    Step("motion", "home", 11.0, 13.0),
)


def test_steps_are_timed_from_the_start_even_when_they_fail():
    watch = Watch()
    timeline = Timeline(watch)
    watch.time += 2
    with pytest.raises(ValueError), timeline.step("motion", "somewhere"):
        watch.time += 3
        raise ValueError
    assert timeline.steps == (Step("motion", "somewhere", 2.0, 5.0),)


def test_robot_time_is_from_grasp_to_release_without_the_scale_and_the_verdict():
    assert robot_time(STEPS) == pytest.approx(11.0 - 1.0 - 3.0 - 1.0)
    assert robot_time(STEPS[:5]) is None


def test_pictures_are_scored_in_turn_once_they_are_there():
    laid = scoring_steps(STEPS, {"A-V1": 7.0, "B-V1": 0.5})
    assert laid == (
        Step("scoring", "A-V1", 3.3, pytest.approx(10.3)),
        Step("scoring", "B-V1", pytest.approx(10.3), pytest.approx(10.8)),
    )


def test_figures_hold_every_step_in_order_of_time():
    figures = json.loads(json.dumps(cycle_figures((*STEPS[::-1],))))
    starts = [step["start_s"] for step in figures["steps"]]
    assert len(starts) == len(STEPS) and starts == sorted(starts)
    assert figures["seconds"]["gripper"] == pytest.approx(3.5)
    assert figures["seconds"]["scoring"] == 0


def test_gantt_draws_a_bar_for_each_step():
    (axes,) = gantt(STEPS).axes
    bars = [path for bars in axes.collections for path in bars.get_paths()]
    assert len(bars) == len(STEPS)
    assert sum(path.get_extents().width for path in bars) == pytest.approx(13.0 - 0.7)
