"""A model for each view, one threshold, one verdict on the part."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from detection.backbones import Backbone
from detection.decisions import image_score
from detection.description import DESCRIPTION_FILE, Decision, InspectorInfo
from detection.errors import DecisionError, PictureError
from detection.geometry import Mask
from detection.heatmap import pixels_of
from detection.padim import BACKBONE_FILE, PaDiM, read_backbone, unseen_positions, write_backbone
from detection.pictures import Image
from detection.preprocess import Reference, prepare
from detection.scores import ViewScore
from detection.storage import new_folder, sha256_of_file, write_json

_REFERENCE_FILE = "reference.safetensors"

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Inspector:
    """Models of all views of a part, and how their scores become a verdict.

    Attributes
    ----------
    info : InspectorInfo
        Configuration, threshold, training record and what it was made for.
    models : mapping
        View → trained model; they share one backbone.
    references : mapping
        View → what its pictures are registered to; empty without registration.
    """

    info: InspectorInfo
    models: Mapping[str, PaDiM]
    references: Mapping[str, Reference] = field(default_factory=dict)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views that make a part complete, in order."""
        return self.info.views

    @property
    def threshold(self) -> float:
        """A score, or a part's statistic, is anomalous when it is ≥ this."""
        return self.info.threshold

    def score_view(self, view: str, image: Image, *, mask: Mask | None = None, name: str = "") -> ViewScore:
        """Score one picture.

        Parameters
        ----------
        view : str
            Which view it shows.
        image : (H, W, 3) uint8
            The camera's frame, RGB; of the size that the model was trained with.
        mask : (H, W) bool, optional
            True on pixels to ignore, such as the gripper's; given where the training pictures had one, and only there.
        name : str
            What to call the picture in an error; the view by default.

        Returns
        -------
        ViewScore
            Score and heatmap.

        Raises
        ------
        DecisionError
            When there is no model of this view.
        PictureError
            When the picture is unusable or of another size, has no mask where the training pictures had one or the
            other way round, cannot be registered, or no pixel is valid.
        """
        if view not in self.models:
            raise DecisionError(f"view {view!r}: the model has {', '.join(self.views)}; use the model of this part")
        called = name or f"view {view}"
        expected = self.info.frame_shapes[view]
        if expected is not None and image.shape[:2] != expected:
            raise PictureError(
                f"{called}: {image.shape[:2]} pixels, the model was trained with {expected}; set the camera "
                "back or train again"
            )
        if (mask is not None) != self.info.masked:
            here, there = ("no mask", "had one") if mask is None else ("a mask", "had none")
            raise PictureError(
                f"{called}: {here} comes with it, those that the model was trained with {there}; use a model of this "
                "cell"
            )
        model, config = self.models[view], self.info.config
        prepared = prepare(
            image,
            resolution=model.config.resolution,
            config=config.preprocess,
            bottom_share=self.info.bottom_share,
            mask=mask,
            reference=self.references.get(view),
            name=called,
        )
        unseen = unseen_positions(prepared, config.distance.covariance)
        gaussians, features = model.gaussians, model.features(prepared.image)
        heatmap = gaussians.heatmap(features, sigma=model.smoothing_sigma, unseen=unseen)
        valid = prepared.valid & pixels_of(~gaussians.hidden(unseen), resolution=model.config.resolution)
        score = image_score(
            heatmap,
            valid,
            config=config.score,
            picture_width_mm=self.info.picture_width_mm,
            name=called,
        )
        return ViewScore(view, score, heatmap, valid, prepared.geometry, prepared.quality)

    def decide(self, scores: Mapping[str, float]) -> Decision:
        """Vote; see `InspectorInfo.decide`."""
        return self.info.decide(scores)

    def save(self, folder: str | Path) -> None:
        """Write `inspector.json`, the backbone once, and `views/<view>/` with each view's model.

        Parameters
        ----------
        folder : path
            New, empty, or an earlier inspector, which is replaced.

        Raises
        ------
        ModelError
            When the folder is something else or cannot be written; then nothing is left behind.
        """
        with new_folder(Path(folder), marker=DESCRIPTION_FILE) as target:
            write_backbone(target / BACKBONE_FILE, next(iter(self.models.values())).backbone)
            for view, model in self.models.items():
                write_view(target, view, model, self.references.get(view))
            write_description(target, self.info)

    @classmethod
    def load(cls, folder: str | Path, *, verify: bool = False) -> "Inspector":
        """Read what `save` wrote.

        Parameters
        ----------
        folder : path
            Model folder.
        verify : bool
            Read every file whole and compare it with the hash that `save` noted; without, headers, shapes and
            sizes are checked, and tensors are read when they are used.

        Returns
        -------
        Inspector
            Ready to score.

        Raises
        ------
        ModelError
            When a file is missing, damaged or foreign.
        """
        place = Path(folder)
        info = InspectorInfo.load(place)
        if verify:
            info.refuse_changed_files(place)
        backbone = read_backbone(place / BACKBONE_FILE, info.backbone, arithmetic=info.network)
        models = {view: read_view(place, view, backbone) for view in info.views}
        references: dict[str, Reference] = {}
        if info.config.preprocess.registration != "none":
            references = {view: Reference.read(place / "views" / view / _REFERENCE_FILE) for view in info.views}
        return cls(info, models, references)


def new_view_folder(folder: Path, view: str) -> Path:
    """Return the folder of a view in one that is to become an inspector's, made where it is not there yet."""
    place = folder / "views" / view
    place.mkdir(parents=True, exist_ok=True)
    return place


def write_view(folder: Path, view: str, model: PaDiM, reference: Reference | None) -> None:
    """Write one view's model and reference into a folder that is to become an inspector's."""
    place = new_view_folder(folder, view)
    model.write_gaussians(place, model.gaussians)
    if reference is not None:
        reference.write(place / _REFERENCE_FILE)


def read_view(folder: Path, view: str, backbone: Backbone) -> PaDiM:
    """Read the model that `write_view` wrote; tensors are mapped, not read."""
    return PaDiM.read_gaussians(folder / "views" / view, backbone)


def write_description(folder: Path, info: InspectorInfo) -> None:
    """Write what makes a folder with backbone and views an inspector's: the description, with all files' hashes."""
    write_json(folder / DESCRIPTION_FILE, info.model_copy(update={"files": _hashes(folder)}))


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a model but its description, by its path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / DESCRIPTION_FILE)
    return {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in files}
