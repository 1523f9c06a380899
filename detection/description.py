"""What a model folder says of itself, and the vote: all that a cell needs to know before and after scoring."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from detection.config import BackboneName, DetectionConfig, NetworkArithmetic
from detection.datasets import NAME_PATTERN
from detection.decisions import part_statistic, reaches
from detection.errors import DecisionError, ModelError
from detection.storage import read_json, sha256_of_file

DESCRIPTION_FILE = "inspector.json"


@dataclass(frozen=True)
class Decision:
    """What all views together say.

    Attributes
    ----------
    statistic : float
        The k-th largest view score.
    threshold : float
        The model's.
    views_over : tuple of str
        Views whose score reaches the threshold.
    anomalous : bool
        Whether at least k views do.
    """

    statistic: float
    threshold: float
    views_over: tuple[str, ...]
    anomalous: bool


PartUse = Literal["training", "trimmed", "calibration", "defective"]


class TrainedPart(BaseModel):
    """A part that made the model what it is; `sha256` of each view's picture file recognises it anywhere.

    `use` is what for: the models learned from it, were about to but trimmed it, or had their threshold set by it,
    as by a good part held back or by one declared defective.
    `held_out_statistic` is what the part would have, or has, by models that have not seen it; None when only two
    were there to train with. A trimmed part's is the first pass's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    part_id: str
    use: PartUse
    sha256: dict[str, str]
    held_out_statistic: float | None


class Guarantee(BaseModel):
    """What holds whatever the distribution, over the draw of `parts` parts and the new one, if they are exchangeable.

    `event` happens with probability ≤ `bound`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: Literal["a good part is rejected", "a defective part is accepted"]
    bound: float = Field(gt=0, lt=1)
    parts: int = Field(ge=1)

    def __str__(self) -> str:
        return (
            f"P({self.event}) ≤ {self.bound:.3g} over the draw of the {self.parts} parts that set the threshold and "
            "of the new one, if they are exchangeable"
        )


class Extension(BaseModel):
    """What made a candidate of a model that was there before.

    `parent` is the SHA-256 of that model's `inspector.json`; `confirmed_by` names for each part that was learned in
    addition the person who confirmed it as good, `made_by` the one who had the candidate made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    parent: str
    confirmed_by: dict[str, str]
    made_by: str


_ViewName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class InspectorInfo(BaseModel):
    """`inspector.json`: everything about an inspector but its tensors.

    `frame_shapes` holds the height and width in pixels of each view's frames, in the views' order; None for
    photographs of any size.
    `masked` says whether pixels to ignore were named for the training pictures, as they then must be for others.
    `files` holds the SHA-256 of every other file of the folder, by its path; empty until the model is saved.
    `guarantee` is what is proved about the threshold, and None where it is an estimate.
    `made_for` is whatever the caller wants to be compared before the model is used.
    `extends` says of a candidate what it was made of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["twinspect-inspector"] = "twinspect-inspector"
    version: Literal[5] = 5
    config: DetectionConfig
    backbone: BackboneName
    network: NetworkArithmetic
    frame_shapes: dict[_ViewName, tuple[int, int] | None] = Field(min_length=1)
    threshold: float
    guarantee: Guarantee | None
    bottom_share: float = Field(ge=0, lt=1)
    picture_width_mm: float | None
    masked: bool = False
    made_for: dict[str, JsonValue]
    files: dict[str, str]
    trained_with: tuple[TrainedPart, ...]
    extends: Extension | None = None

    @classmethod
    def load(cls, folder: str | Path) -> "InspectorInfo":
        """Read a model folder's description; `ModelError` when it is missing, damaged or foreign."""
        return read_json(Path(folder) / DESCRIPTION_FILE, cls)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views that make a part complete, in order."""
        return tuple(self.frame_shapes)

    def refuse_changed_files(self, folder: Path) -> None:
        """Read every file of the model's folder whole; `ModelError` names one that is not what was saved."""
        for name, digest in self.files.items():
            if sha256_of_file(folder / name) != digest:
                raise ModelError(
                    f"{folder / name}: is not what was saved with this model; copy or train the model again"
                )

    def decide(self, scores: Mapping[str, float]) -> Decision:
        """Vote.

        Parameters
        ----------
        scores : mapping
            View → score, every view of the model and no other.

        Returns
        -------
        Decision
            Anomalous when at least k views reach the threshold.

        Raises
        ------
        DecisionError
            When a view is missing or unknown, or a score is not finite.
        """
        missing = [view for view in self.views if view not in scores]
        unknown = [view for view in scores if view not in self.views]
        if missing or unknown:
            raise DecisionError(
                f"no verdict: views {missing} are missing, {unknown} unknown; capture every view of the part again"
            )
        statistic = part_statistic(scores.values(), k=self.config.vote.k)
        over = tuple(view for view in self.views if reaches(scores[view], self.threshold))
        return Decision(statistic, self.threshold, over, reaches(statistic, self.threshold))
