"""What can be configured about detection, with units, ranges and one good default for each."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

BackboneName = Literal["efficientnet_lite0", "resnet18"]
Precision = Literal["float32", "bfloat16"]
NetworkArithmetic = Literal["exact", "folded", "bfloat16"]
Covariance = Literal["position", "layer"]


MAX_SIGMA = 64.0
"""Of the heatmap's Gaussian filter, in pixels."""


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PreprocessConfig(_Config):
    """From a camera's frame to the square that the network sees."""

    crop: Literal["otsu", "none"] = Field(
        default="otsu",
        description="Crop to the part's outline by Multi-Otsu thresholding, or keep the whole frame.",
    )
    classes: int = Field(
        default=3,
        ge=2,
        le=5,
        description="Multi-Otsu: number of brightness classes; the darkest is background.",
    )
    margin: float = Field(
        default=0.02, ge=0, le=0.5, description="Kept around the outline, as a share of its longer side."
    )
    pad_value: int = Field(
        default=0, ge=0, le=255, description="Brightness that pads the shorter side to a square, 0 to 255."
    )
    registration: Literal["ecc", "none"] = Field(
        default="ecc",
        description="Lay the crop where the part is, by correlation with the view's first training picture, or crop "
        "each picture for itself.",
    )
    registration_quality: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="Correlation with the reference below which a picture is refused.",
    )


class DistanceConfig(_Config):
    """How a view's model measures how far a feature is from those of good pictures."""

    covariance: Covariance = Field(
        default="layer",
        description="`position`: one Gaussian of picked channels of all layers at each position, as in the paper. "
        "`layer`: one of the network's layers on its own grid, with all its channels: the finest in which parts lie "
        "alike, as good pictures tell, or the last if they do in none; a covariance at each position that is drawn "
        "towards the layer's common one, and smoothing of its own. With `efficientnet_lite0` a sixteenth of "
        "the memory, or a thirteenth in its last layer.",
    )


class ScoreConfig(_Config):
    """From a heatmap to one number for the picture."""

    method: Literal["max", "percentile", "cluster"] = Field(
        default="max", description="How a heatmap becomes one score."
    )
    percentile: float = Field(
        default=99.99,
        gt=0,
        le=100,
        description="For `percentile`: of the heatmap's valid pixels, in percent.",
    )
    smallest_defect_mm: float = Field(
        default=0.5,
        gt=0,
        description="For `cluster`: diameter of the smallest defect to find, in millimetres.",
    )
    smoothing_sigma: float = Field(
        default=4.0,
        gt=0,
        le=MAX_SIGMA,
        description="For covariances of `position`: standard deviation of the heatmap's Gaussian filter, in pixels.",
    )


class VoteConfig(_Config):
    """From the views' scores to the part's."""

    k: int = Field(default=1, ge=1, description="A part is anomalous when at least k of its views reach the threshold.")


class ThresholdConfig(_Config):
    """Where the threshold comes from; `alpha` is for the first three methods, which need no defective part."""

    method: Literal["held_out", "split_conformal", "cross_conformal", "middle_of_means", "swept_grid"] = Field(
        default="held_out",
        description="`held_out`: from training parts, each scored as models of all the others would; an estimate. "
        "`split_conformal`: from good parts that are held back from training; guaranteed. "
        "`cross_conformal`: as `held_out`, raised by as much as the left-out part can change; guaranteed. "
        "`middle_of_means`, `swept_grid`: from parts that the dataset declares defective.",
    )
    alpha: float = Field(default=0.05, gt=0, lt=1, description="Share of good parts that may be rejected.")
    calibration_share: float = Field(
        default=0.4,
        gt=0,
        lt=1,
        description="For `split_conformal`: share of the good parts that is held back, rounded up.",
    )
    grid_step: float = Field(
        default=1.0,
        ge=0,
        description="For `swept_grid`: between the thresholds that are tried, from 0 on; 0 tries every one.",
    )


class TrainingConfig(_Config):
    """Which of the good parts the models learn from."""

    trim: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of the training parts, rounded up, that a first pass finds the most unlike the others and "
        "that is left out of a second one, for parts that were declared good by mistake.",
    )


class DetectionConfig(_Config):
    """Everything between frame and verdict except the model itself."""

    preprocess: PreprocessConfig = PreprocessConfig()
    training: TrainingConfig = TrainingConfig()
    distance: DistanceConfig = DistanceConfig()
    score: ScoreConfig = ScoreConfig()
    vote: VoteConfig = VoteConfig()
    threshold: ThresholdConfig = ThresholdConfig()

    @model_validator(mode="after")
    def _guarantees_hold(self) -> Self:
        if self.threshold.method == "cross_conformal" and self.distance.covariance != "position":
            raise ValueError(
                "threshold.method cross_conformal is proved for distance.covariance position alone; choose that, or "
                "split_conformal"
            )
        if self.score.method == "cluster" and self.distance.covariance != "position":
            raise ValueError(
                "score.method cluster knows how far distance.covariance position smooths a defect; choose that, or max"
            )
        if self.threshold.method == "cross_conformal" and self.training.trim > 0:
            raise ValueError(
                "threshold.method cross_conformal guarantees nothing with training.trim, because the trimmed part "
                "would have to be chosen anew for each part left out; choose split_conformal, or trim 0"
            )
        return self


class ModelConfig(_Config):
    """The model of one view."""

    backbone: BackboneName = Field(default="efficientnet_lite0", description="Network, trained on ImageNet.")
    resolution: Literal[256, 512, 1024] = Field(
        default=256, description="Side of the network's square input, in pixels."
    )
    n_features: int = Field(
        default=100,
        ge=1,
        description="For covariances of `position`: channels picked at random from all of the network's layers.",
    )
    precision: Precision = Field(default="float32", description="How whitening factors are stored.")
    network: Literal["auto"] | NetworkArithmetic = Field(
        default="auto",
        description="How the network computes. `exact`: in float32, as it was published. `folded`: its batch "
        "normalisations are folded into its convolutions, and ResNet18's 3×3 ones multiply a quarter as often, "
        "which takes a third less time; features differ by two millionths, as much as by another order of summation. "
        "`bfloat16`: folded, in bfloat16; features differ by a few percent. `auto`: `folded`; for models of precision "
        "bfloat16 what is fastest where they are trained. A trained model says which it was.",
    )
    seed: int = Field(default=0, ge=0, description="Picks the channels, and the parts that are held back.")
    epsilon: float = Field(default=0.01, gt=0, description="Added to the covariance's diagonal.")
