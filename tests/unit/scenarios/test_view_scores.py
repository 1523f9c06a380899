from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detection import DetectionConfig, ModelConfig, train
from detection.config import DistanceConfig, PreprocessConfig, ScoreConfig
from detection.pictures import read_picture
from scenarios.material import read_material
from scenarios.view_scores import ViewJob, vote_statistics

TRAINED = (0, 2, 3, 5, 6, 8)


@pytest.mark.parametrize("distance", [DistanceConfig(covariance="layer"), DistanceConfig(covariance="position")])
def test_scores_are_those_of_an_inspector_that_trained_with_the_same_parts(
    distance: DistanceConfig, photographs: Path, tmp_path: Path
) -> None:
    material = read_material(photographs)
    config = DetectionConfig(preprocess=PreprocessConfig(registration="none"), distance=distance, score=ScoreConfig())
    model = ModelConfig(n_features=20)
    views = []
    for view in material.views:
        job = ViewJob(
            pictures=material.pictures_of(view, masked=False),
            preprocess=config.preprocess,
            distance=distance,
            model=model,
            weights=None,
            draws=(TRAINED[:4], TRAINED),
            ways=(config.score,),
            keep=(),
            out=tmp_path / f"{view}.npz",
        )
        job.run()
        views.append(job.read())
    scores = np.stack([view.scores[1, 0] for view in views])
    chosen = tuple(material.parts[i].part for i in TRAINED)
    inspector = train(replace(material.dataset, parts=chosen), config=config, model=model)
    for i in sorted({1, 4, 10, 13}):
        found = [
            inspector.score_view(view, read_picture(material.parts[i].part.pictures[view])).score
            for view in material.views
        ]
        np.testing.assert_allclose(scores[:, i], found, rtol=1e-3)
    if distance.covariance == "layer":
        held_out = [part.held_out_statistic for part in inspector.info.trained_with]
        np.testing.assert_allclose(vote_statistics(scores, k=config.vote.k)[list(TRAINED)], held_out, rtol=1e-3)


def test_a_part_with_a_picture_that_cannot_be_scored_is_let_pass_by_no_threshold() -> None:
    scores = np.array([[1.0, 1.0, np.inf], [2.0, 5.0, 1.0], [3.0, 4.0, 1.0]], np.float32)  # views by parts
    assert vote_statistics(scores, k=2).tolist() == [2.0, 4.0, np.inf]
    assert vote_statistics(scores, k=9).tolist() == [1.0, 1.0, np.inf]
    assert vote_statistics(scores[:, np.newaxis, :], k=1).tolist() == [[3.0, 5.0, np.inf]]
