"""PaDiM: one Gaussian of pretrained features for each position of a picture grid."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import save_file

from detection.backbones import STRIDE, Backbone, pretrained, read_state_dict, restored, total_channels
from detection.config import BackboneName, ModelConfig, Precision, PreprocessConfig
from detection.errors import ModelError, WeightsError
from detection.gaussian import Moments, packed_length, whitening_factors
from detection.heatmap import smooth_heatmap
from detection.mahalanobis import squared_mahalanobis, to_bfloat16
from detection.pictures import Image
from detection.preprocess import prepare
from detection.storage import READABLE, new_folder, read_json, read_tensors, write_json, write_tensors

BACKBONE_FILE = "backbone.safetensors"
DESCRIPTION_FILE = "padim.json"
TENSORS_FILE = "padim.safetensors"

_BATCH = 8  # pictures whose features join the moments at a time: 0.2 GB of features at 1024²
_WHOLE_PICTURE = PreprocessConfig(crop="none")


@dataclass(frozen=True)
class Gaussians:
    """What training learns.

    Attributes
    ----------
    pictures : int
        Number of training pictures, ≥ 2.
    mean : (P, d) float32
        Mean feature of each grid position.
    factors : (P, d(d+1)/2) float32 or uint16
        Packed whitening factors; uint16 holds bfloat16.
    """

    pictures: int
    mean: NDArray[np.float32]
    factors: NDArray[np.float32] | NDArray[np.uint16]

    @classmethod
    def from_moments(cls, moments: Moments, *, epsilon: float, precision: Precision) -> "Gaussians":
        """Factorise moments; `moments.comoment` is overwritten, so that no second set is needed.

        Parameters
        ----------
        moments : Moments
            Of at least two pictures.
        epsilon : float
            Added to the covariance's diagonal.
        precision : str
            "float32" or "bfloat16", for the factors.

        Returns
        -------
        Gaussians
            Ready to score.

        Raises
        ------
        ModelError
            With fewer than two pictures.
        """
        factors = whitening_factors(moments, epsilon=epsilon, out=moments.comoment)
        stored = to_bfloat16(factors) if precision == "bfloat16" else factors
        return cls(moments.count, moments.mean.astype(np.float32), stored)

    def heatmap(self, features: NDArray[np.float32], *, sigma: float) -> NDArray[np.float32]:
        """Smooth heatmap of one picture.

        Parameters
        ----------
        features : (P, d) float32
            The picture's features.
        sigma : float
            Of the Gaussian filter, in pixels.

        Returns
        -------
        (R, R) float32
            Mahalanobis distance, enlarged to the network's input.
        """
        squared = np.empty(len(features), dtype=np.float32)
        squared_mahalanobis(features - self.mean, self.factors, out=squared)
        return heatmap_of(squared, sigma=sigma)


def heatmap_of(squared: NDArray[np.float32], *, sigma: float) -> NDArray[np.float32]:
    """Return the smooth heatmap (R, R) float32 of squared distances (P,) float32."""
    grid = math.isqrt(len(squared))
    return smooth_heatmap(np.sqrt(squared).reshape(grid, grid), resolution=STRIDE * grid, sigma=sigma)


class _Description(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["twinspect-padim"] = "twinspect-padim"
    version: Literal[1] = 1
    config: ModelConfig
    smoothing_sigma: float = Field(gt=0)
    pictures: int = Field(ge=2)


class PaDiM:
    """Anomaly heatmaps from good pictures alone.

    Parameters
    ----------
    backbone : str
        "efficientnet_lite0" (its weights are installed with it) or "resnet18" (downloaded on first use).
    weights : path, optional
        The backbone's weights as a state dict, instead of the pretrained ones.
    resolution : int
        Side R of the network's input and of the heatmap: 256, 512 or 1024 pixels.
    n_features : int
        Channels picked at random from all layers, d.
    precision : str
        "float32" or "bfloat16" storage of the whitening factors.
    seed : int
        Picks the channels.
    epsilon : float
        Added to the covariance's diagonal.
    smoothing_sigma : float
        Of the heatmap's Gaussian filter, in pixels.

    Raises
    ------
    ModelError
        When an argument is out of its range.

    Notes
    -----
    Pictures are padded to a square and resized to R×R; grey, 16-bit and RGBA pictures are converted.
    Defard, Setkov, Loesch, Audigier, *PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection
    and Localization*, 2021.
    """

    def __init__(
        self,
        *,
        backbone: BackboneName = "efficientnet_lite0",
        weights: str | Path | None = None,
        resolution: Literal[256, 512, 1024] = 256,
        n_features: int = 100,
        precision: Precision = "float32",
        seed: int = 0,
        epsilon: float = 0.01,
        smoothing_sigma: float = 4.0,
    ) -> None:
        try:
            self.config = ModelConfig(
                backbone=backbone,
                resolution=resolution,
                n_features=n_features,
                precision=precision,
                seed=seed,
                epsilon=epsilon,
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise ModelError(f"PaDiM: {first['loc'][0]} = {first['input']!r}: {first['msg']}") from error
        if not smoothing_sigma > 0:
            raise ModelError(f"PaDiM: smoothing_sigma = {smoothing_sigma}: must be greater than 0")
        self.channels = pick_channels(self.config)
        self.smoothing_sigma = smoothing_sigma
        self._weights = None if weights is None else Path(weights)
        self._backbone: Backbone | None = None
        self._gaussians: Gaussians | None = None

    @classmethod
    def assemble(
        cls,
        config: ModelConfig,
        *,
        backbone: Backbone,
        gaussians: Gaussians,
        smoothing_sigma: float,
        channels: NDArray[np.int64],
    ) -> "PaDiM":
        """Put a trained model together from what is there already, so that many can share one backbone."""
        model = cls(**config.model_dump(), smoothing_sigma=smoothing_sigma)
        model.channels = channels
        model._backbone = backbone
        model._gaussians = gaussians
        return model

    @property
    def backbone(self) -> Backbone:
        """The feature extractor, loaded when first needed; `WeightsError` when its weights cannot be had."""
        if self._backbone is None:
            self._backbone = pretrained(self.config.backbone, weights=self._weights)
        return self._backbone

    @property
    def gaussians(self) -> Gaussians:
        """What training learned; `ModelError` before `fit`."""
        if self._gaussians is None:
            raise ModelError("this PaDiM has not been trained; call fit with good pictures, or load a model")
        return self._gaussians

    def fit(self, images: Iterable[Image]) -> "PaDiM":
        """Learn from good pictures, in one pass.

        Parameters
        ----------
        images : iterable of (H, W, 3) uint8
            At least two RGB pictures. Memory does not grow with their number.

        Returns
        -------
        PaDiM
            Itself.

        Raises
        ------
        ModelError
            With fewer than two pictures.
        PictureError
            When one is unusable.
        """
        moments = moments_of(
            (self.features(self._square(image, f"picture {i}")) for i, image in enumerate(images)),
            config=self.config,
        )
        self._gaussians = Gaussians.from_moments(moments, epsilon=self.config.epsilon, precision=self.config.precision)
        return self

    def score(self, image: Image) -> NDArray[np.float32]:
        """Anomaly heatmap of a picture.

        Parameters
        ----------
        image : (H, W, 3) uint8
            RGB.

        Returns
        -------
        (R, R) float32
            Mahalanobis distance, enlarged to the network's input and smoothed; over the padded square.

        Raises
        ------
        ModelError
            Before `fit`.
        PictureError
            When the picture is unusable.
        """
        features = self.features(self._square(image, "picture"))
        return self.gaussians.heatmap(features, sigma=self.smoothing_sigma)

    def features(self, image: Image) -> NDArray[np.float32]:
        """Return the picked features ((R/4)², d) float32 of an (R, R, 3) uint8 picture."""
        batch = self.backbone.features(image[np.newaxis], channels=self.channels)
        features: NDArray[np.float32] = batch[0]
        return features

    def save(self, folder: str | Path) -> None:
        """Write the model, backbone included, to a folder.

        Parameters
        ----------
        folder : path
            New, empty, or an earlier model, which is replaced.

        Raises
        ------
        ModelError
            Before `fit`, or when the folder is something else or cannot be written; then nothing is left
            behind.
        """
        gaussians, backbone = self.gaussians, self.backbone
        with new_folder(Path(folder), marker=DESCRIPTION_FILE) as target:
            write_backbone(target / BACKBONE_FILE, backbone)
            self.write_gaussians(target, gaussians)

    @classmethod
    def load(cls, folder: str | Path) -> "PaDiM":
        """Read what `save` wrote.

        Parameters
        ----------
        folder : path
            Model folder.

        Returns
        -------
        PaDiM
            Trained.

        Raises
        ------
        ModelError
            When a file is missing, damaged or foreign.
        """
        place = Path(folder)
        description = read_json(place / DESCRIPTION_FILE, _Description)
        backbone = read_backbone(place / BACKBONE_FILE, description.config.backbone)
        return cls.read_gaussians(place, backbone)

    def write_gaussians(self, folder: Path, gaussians: Gaussians) -> None:
        """Write everything but the backbone into an existing folder."""
        description = _Description(
            config=self.config, smoothing_sigma=self.smoothing_sigma, pictures=gaussians.pictures
        )
        write_json(folder / DESCRIPTION_FILE, description)
        tensors = {"mean": gaussians.mean, "factors": gaussians.factors, "channels": self.channels}
        write_tensors(folder / TENSORS_FILE, tensors)

    @classmethod
    def read_gaussians(cls, folder: Path, backbone: Backbone) -> "PaDiM":
        """Read everything but the backbone; `ModelError` when a file is not what it should be."""
        description = read_json(folder / DESCRIPTION_FILE, _Description)
        config = description.config
        if config.backbone != backbone.name:
            raise ModelError(f"{folder}: made for {config.backbone}, not for {backbone.name}; train it again")
        positions, dimensions = (config.resolution // STRIDE) ** 2, config.n_features
        factor_type = np.uint16 if config.precision == "bfloat16" else np.float32
        tensors = read_tensors(
            folder / TENSORS_FILE,
            {
                "mean": ((positions, dimensions), np.float32),
                "factors": ((positions, packed_length(dimensions)), factor_type),
                "channels": ((dimensions,), np.int64),
            },
        )
        channels = tensors["channels"]
        if channels[0] < 0 or channels[-1] >= total_channels(config.backbone) or (np.diff(channels) <= 0).any():
            raise ModelError(f"{folder / TENSORS_FILE}: the channels are no ascending indices; train it again")
        return cls.assemble(
            config,
            backbone=backbone,
            gaussians=Gaussians(description.pictures, tensors["mean"], tensors["factors"]),
            smoothing_sigma=description.smoothing_sigma,
            channels=channels,
        )

    def _square(self, image: Image, name: str) -> Image:
        return prepare(image, resolution=self.config.resolution, config=_WHOLE_PICTURE, name=name).image


def pick_channels(config: ModelConfig) -> NDArray[np.int64]:
    """Pick `config.n_features` of the backbone's channels at random, ascending (d,) int64.

    Raises
    ------
    ModelError
        When the backbone has fewer.
    """
    total = total_channels(config.backbone)
    if config.n_features > total:
        raise ModelError(f"{config.backbone} has {total} channels, {config.n_features} features asked; ask for fewer")
    return np.sort(np.random.default_rng(config.seed).choice(total, size=config.n_features, replace=False))


def moments_of(features: Iterable[NDArray[np.float32]], *, config: ModelConfig) -> Moments:
    """Gather the moments of pictures' features, each ((R/4)², d) float32, a few at a time."""
    moments = Moments.empty(positions=(config.resolution // STRIDE) ** 2, dimensions=config.n_features)
    for batch in _batches(features):
        moments.update(np.stack(batch))
    return moments


def write_backbone(path: Path, backbone: Backbone) -> None:
    """Write the truncated network's weights as safetensors."""
    state = {name: tensor.contiguous() for name, tensor in backbone.trunk.state_dict().items()}
    save_file(state, path)
    path.chmod(READABLE)


def read_backbone(path: Path, name: BackboneName) -> Backbone:
    """Read what `write_backbone` wrote; `ModelError` when it is something else."""
    try:
        return restored(name, read_state_dict(path), source=str(path))
    except WeightsError as error:
        raise ModelError(f"the model's backbone is not usable: {error}") from error


def _batches(features: Iterable[NDArray[np.float32]]) -> Iterator[list[NDArray[np.float32]]]:
    batch: list[NDArray[np.float32]] = []
    for one in features:
        batch.append(one)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
