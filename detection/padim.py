"""PaDiM: one Gaussian of pretrained features for each position of a picture grid."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import save_file

from detection.backbones import Backbone, Features, fastest_arithmetic, pretrained, restored, total_channels
from detection.config import (
    MAX_SIGMA,
    BackboneName,
    Covariance,
    ModelConfig,
    NetworkArithmetic,
    Precision,
    PreprocessConfig,
)
from detection.errors import ModelError, PictureError, WeightsError
from detection.gaussian import Gaussians
from detection.heatmap import positions_of
from detection.layer import LayeredMoments, LayerGaussians
from detection.moments import Moments
from detection.pictures import Image
from detection.preprocess import Prepared, prepare
from detection.storage import READABLE, new_folder, read_json, read_tensors, write_json, write_tensors
from detection.training_state import (
    LayerScale,
    gaussians_from,
    gaussians_of,
    has_moments,
    learn,
    no_moments,
    read_moments,
    scale_of,
    shapes_of,
    tensors_of,
    write_moments,
)

BACKBONE_FILE = "backbone.safetensors"
DESCRIPTION_FILE = "padim.json"
TENSORS_FILE = "padim.safetensors"

_WHOLE_PICTURE = PreprocessConfig(crop="none")


class _Description(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal["twinspect-padim"] = "twinspect-padim"
    version: Literal[5] = 5
    config: ModelConfig
    scale: LayerScale | None
    smoothing_sigma: float = Field(gt=0, le=MAX_SIGMA)
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
        Of "position": channels picked at random from all layers, d.
    precision : str
        "float32" or "bfloat16" storage of the whitening factors.
    seed : int
        Picks these channels.
    network : str
        How the network computes: "exact", "folded", "bfloat16" or "auto"; see `ModelConfig.network`.
    epsilon : float
        Added to the covariance's diagonal.
    smoothing_sigma : float
        Of the heatmap's Gaussian filter, in pixels; of "position".
    covariance : str
        "position": one Gaussian at each position, as in the paper; "layer": see `detection.layer.LayerGaussians`.

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
        network: Literal["auto"] | NetworkArithmetic = "auto",
        epsilon: float = 0.01,
        smoothing_sigma: float = 4.0,
        covariance: Covariance = "position",
    ) -> None:
        try:
            config = ModelConfig(
                backbone=backbone,
                resolution=resolution,
                n_features=n_features,
                precision=precision,
                seed=seed,
                network=network,
                epsilon=epsilon,
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise ModelError(f"PaDiM: {first['loc'][0]} = {first['input']!r}: {first['msg']}") from error
        if covariance not in get_args(Covariance):
            raise ModelError(f"PaDiM: covariance = {covariance!r}: choose {' or '.join(get_args(Covariance))}")
        if not 0 < smoothing_sigma <= MAX_SIGMA:
            raise ModelError(f"PaDiM: smoothing_sigma = {smoothing_sigma}: must be above 0 and at most {MAX_SIGMA:g}")
        self.config = resolved(config)
        self.channels = pick_channels(self.config, covariance)
        self.smoothing_sigma = smoothing_sigma
        self._covariance = covariance
        self._weights = None if weights is None else Path(weights)
        self._backbone: Backbone | None = None
        self._gaussians: Gaussians | None = None
        self._moments: Moments | LayeredMoments | None = None

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
        covariance: Covariance = "layer" if isinstance(gaussians, LayerGaussians) else "position"
        model = cls(**config.model_dump(), smoothing_sigma=smoothing_sigma, covariance=covariance)
        model.channels = channels
        model._backbone = backbone
        model._gaussians = gaussians
        return model

    @property
    def backbone(self) -> Backbone:
        """The feature extractor, loaded when first needed; `WeightsError` when its weights cannot be had."""
        if self._backbone is None:
            self._backbone = pretrained(
                self.config.backbone, weights=self._weights, arithmetic=arithmetic_of(self.config)
            )
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
        moments = no_moments(self.config, self._covariance)
        self._learn(images, moments)
        self._moments = None
        self._gaussians = gaussians_of(moments, self.config)
        return self

    def partial_fit(self, images: Iterable[Image]) -> "PaDiM":
        """Learn from more good pictures.

        Parameters
        ----------
        images : iterable of (H, W, 3) uint8
            RGB; at least two before or with these. None at all leaves the model as it is.

        Returns
        -------
        PaDiM
            Itself, as if trained with `fit` on all pictures so far.

        Raises
        ------
        ModelError
            With fewer than two pictures, or when `fit` trained the model: whitening factors alone cannot be updated.
        PictureError
            When one is unusable; the pictures of this call are then forgotten.

        Notes
        -----
        The moments stay in memory, with a covariance for each position as large as its factors in float32, and `save`
        writes them into a file of their own.
        """
        if self._moments is None and self._gaussians is not None:
            raise ModelError(
                "this PaDiM keeps no training state that could be continued; train it with partial_fit from the "
                "first picture on"
            )
        moments = no_moments(self.config, self._covariance) if self._moments is None else self._moments.copy()
        self._learn(images, moments)
        self._gaussians = gaussians_of(moments, self.config, keep_moments=True)
        self._moments = moments
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
            Mahalanobis distance, enlarged to the network's input and smoothed; over the padded square. That of a layer
            with d channels is divided by √d, or in an inspector's model by what good pictures stay below.

        Raises
        ------
        ModelError
            Before `fit`.
        PictureError
            When the picture is unusable.
        """
        square = self._square(image, "picture")
        unseen = unseen_positions(square, self._covariance)
        return self.gaussians.heatmap(self.features(square.image), sigma=self.smoothing_sigma, unseen=unseen)

    def features(self, image: Image) -> NDArray[np.float32]:
        """Return the features (P, d) float32 of an (R, R, 3) uint8 picture on the grid of a trained model."""
        gaussians = self.gaussians
        if isinstance(gaussians, LayerGaussians):
            return self.backbone.layers(image, count=gaussians.layer + 1)[-1]
        return features_of(self.backbone, image, channels=self.channels, covariance="position")[0]

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
            if self._moments is not None:
                write_moments(target, self._moments)

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
        config = read_json(place / DESCRIPTION_FILE, _Description).config
        backbone = read_backbone(place / BACKBONE_FILE, config.backbone, arithmetic=arithmetic_of(config))
        model = cls.read_gaussians(place, backbone)
        if has_moments(place):
            model._moments = read_moments(place, config, model.gaussians)
        return model

    def write_gaussians(self, folder: Path, gaussians: Gaussians) -> None:
        """Write everything but the backbone into an existing folder."""
        description = _Description(
            config=self.config,
            scale=scale_of(gaussians),
            smoothing_sigma=self.smoothing_sigma,
            pictures=gaussians.pictures,
        )
        write_json(folder / DESCRIPTION_FILE, description)
        picked = {"channels": self.channels} if description.scale is None else {}
        write_tensors(folder / TENSORS_FILE, picked | tensors_of(gaussians))

    @classmethod
    def read_gaussians(cls, folder: Path, backbone: Backbone) -> "PaDiM":
        """Read everything but the backbone; `ModelError` when a file is not what it should be."""
        description = read_json(folder / DESCRIPTION_FILE, _Description)
        config, scale = description.config, description.scale
        if (config.backbone, arithmetic_of(config)) != (backbone.name, backbone.arithmetic):
            raise ModelError(
                f"{folder}: made for {config.backbone} ({arithmetic_of(config)}), not for {backbone.name} "
                f"({backbone.arithmetic}); train it again"
            )
        picked = {"channels": ((config.n_features,), np.int64)} if scale is None else {}
        tensors = read_tensors(folder / TENSORS_FILE, picked | shapes_of(config, scale))
        channels = tensors.pop("channels") if scale is None else pick_channels(config, "layer")
        if channels[0] < 0 or channels[-1] >= total_channels(config.backbone) or (np.diff(channels) <= 0).any():
            raise ModelError(f"{folder / TENSORS_FILE}: the channels are no ascending indices; train it again")
        return cls.assemble(
            config,
            backbone=backbone,
            gaussians=gaussians_from(tensors, scale=scale, pictures=description.pictures),
            smoothing_sigma=description.smoothing_sigma,
            channels=channels,
        )

    def _learn(self, images: Iterable[Image], moments: Moments | LayeredMoments) -> None:
        if isinstance(images, np.ndarray) and images.ndim < 4:
            raise PictureError(f"an array of shape {images.shape} is one picture; give several, e.g. in a list")
        squares = (self._square(image, f"picture {i}") for i, image in enumerate(images))
        learn(moments, (self._seen(square) for square in squares))

    def _seen(self, square: Prepared) -> tuple[Features, NDArray[np.bool_] | None]:
        """Features on all grids, and which positions are not seen."""
        features = features_of(self.backbone, square.image, channels=self.channels, covariance=self._covariance)
        return features, unseen_positions(square, self._covariance)

    def _square(self, image: Image, name: str) -> Prepared:
        return prepare(image, resolution=self.config.resolution, config=_WHOLE_PICTURE, name=name)


def resolved(config: ModelConfig) -> ModelConfig:
    """Return a configuration that says how the network computes, whatever machine it is read on later."""
    return config.model_copy(update={"network": arithmetic_of(config)})


def arithmetic_of(config: ModelConfig) -> NetworkArithmetic:
    """Return how the network of a configuration computes; of a `resolved` one, on every machine the same."""
    if config.network != "auto":
        return config.network
    return fastest_arithmetic() if config.precision == "bfloat16" else "folded"


def pick_channels(config: ModelConfig, covariance: Covariance) -> NDArray[np.int64]:
    """Pick `config.n_features` of the backbone's channels at random, ascending (d,) int64; for `layer`, all.

    Raises
    ------
    ModelError
        When the backbone has fewer.
    """
    total = total_channels(config.backbone)
    if covariance == "layer":
        return np.arange(total)
    if config.n_features > total:
        raise ModelError(f"{config.backbone} has {total} channels, {config.n_features} features asked; ask for fewer")
    return np.sort(np.random.default_rng(config.seed).choice(total, size=config.n_features, replace=False))


def features_of(
    backbone: Backbone,
    image: Image,
    *,
    channels: NDArray[np.int64],
    covariance: Covariance,
) -> Features:
    """Return the features (P, d) float32 of an (R, R, 3) uint8 picture: on the finest grid, or of all layers."""
    if covariance == "layer":
        return backbone.layers(image)
    return (backbone.features(image[np.newaxis], channels=channels)[0],)


def unseen_positions(prepared: Prepared, covariance: Covariance) -> NDArray[np.bool_] | None:
    """Return which positions (P,) of the finest grid a prepared picture does not show, to learn from or to score.

    Those of which a pixel is masked; None without a mask. For `layer` also those that touch these, since the finest
    layer sees that far and what is masked lies elsewhere each time, and those of which a pixel is padding, where all
    pictures agree whatever they show.
    """
    masked = None if prepared.masked is None else positions_of(prepared.masked)
    if covariance != "layer":
        return masked
    padding = positions_of(~prepared.valid)
    return padding if masked is None else padding | _with_neighbours(masked)


def _with_neighbours(marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    grid = math.isqrt(len(marked))
    grown = cv2.dilate(marked.reshape(grid, grid).astype(np.uint8), np.ones((3, 3), dtype=np.uint8))
    return np.asarray(grown, dtype=np.bool_).reshape(-1)


def write_backbone(path: Path, backbone: Backbone) -> None:
    """Write the truncated network's weights as safetensors."""
    state = {name: tensor.contiguous() for name, tensor in backbone.trunk.state_dict().items()}
    save_file(state, path)
    path.chmod(READABLE)


def read_backbone(path: Path, name: BackboneName, *, arithmetic: NetworkArithmetic) -> Backbone:
    """Read what `write_backbone` wrote; `ModelError` when it is something else."""
    try:
        return restored(name, path, arithmetic=arithmetic)
    except WeightsError as error:
        raise ModelError(f"the model's backbone is not usable: {error}") from error
