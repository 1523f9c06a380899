import pytest
from pydantic import ValidationError

from detection import DetectionConfig, ModelConfig


def test_the_defaults_are_the_measured_winners_and_else_the_papers() -> None:
    config = DetectionConfig()
    assert (config.distance.covariance, config.vote.k) == ("layer", 1)
    assert (config.score.percentile, config.score.smoothing_sigma) == (99.99, 4.0)
    assert config.score.smallest_defect_mm == 0.5
    assert (ModelConfig().n_features, ModelConfig().epsilon, ModelConfig().resolution) == (100, 0.01, 256)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scores": {}},
        {"score": {"methods": "max"}},
        {"score": {"method": "mean"}},
        {"score": {"percentile": 101}},
        {"vote": {"k": 0}},
        {"threshold": {"alpha": 0}},
        {"threshold": {"method": "jackknife"}},
        {"threshold": {"calibration_share": 1}},
        {"threshold": {"grid_step": -1}},
        {"training": {"trim": 0.6}},
        {"distance": {"layers": 1}},
        {"distance": {"covariance": "none"}},
        {"distance": {"covariance": "layer"}, "threshold": {"method": "cross_conformal"}},
        {"distance": {"covariance": "layer"}, "score": {"method": "cluster"}},
        {"training": {"trim": 0.1}, "threshold": {"method": "cross_conformal"}},
        {"preprocess": {"classes": 1}},
    ],
)
def test_wrong_keys_and_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DetectionConfig.model_validate(wrong)


def test_a_configuration_survives_json() -> None:
    config = DetectionConfig.model_validate({"score": {"method": "percentile"}, "vote": {"k": 3}})
    assert DetectionConfig.model_validate_json(config.model_dump_json()) == config
