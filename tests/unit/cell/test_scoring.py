import os
import signal

import numpy as np
import pytest

from cell.interfaces import CellError
from cell.scoring import ScoringProcess
from detection import DetectionConfig, Inspector, InspectorInfo, PaDiM


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One view, trained on noise."""
    rng = np.random.default_rng(0)
    padim = PaDiM(n_features=4).fit(rng.integers(0, 255, (256, 256, 3), dtype=np.uint8) for _ in range(3))
    preprocess = {"crop": "none", "registration": "none"}
    info = InspectorInfo(
        config=DetectionConfig.model_validate({"preprocess": preprocess}),
        backbone="efficientnet_lite0",
        network="folded",
        frame_shapes={"front": None},
        threshold=1.0,
        guarantee=None,
        bottom_share=0.0,
        picture_width_mm=None,
        made_for={},
        files={},
        trained_with=(),
    )
    folder = tmp_path_factory.mktemp("scoring") / "model"
    Inspector(info, {"front": padim}).save(folder)
    return folder


def test_a_scorer_that_was_killed_leaves_no_score_and_stops_the_line(model):
    picture = np.zeros((256, 256, 3), dtype=np.uint8)
    with ScoringProcess(model, threads=1) as scoring:
        scoring.submit("front", picture, None)
        scores, problems = scoring.collect()
        assert set(scores) == {"front"} and problems == ()
        scoring.require_alive()
        (worker,) = scoring._pool._processes
        os.kill(worker, signal.SIGKILL)
        scoring.submit("front", picture, None)
        scores, problems = scoring.collect()
        assert scores == {} and "view front: the scoring process has ended" in problems[0]
        with pytest.raises(CellError, match="has ended, and with it the line"):
            scoring.require_alive()
