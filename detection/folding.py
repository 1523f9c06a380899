"""What makes a frozen network faster to compute: folded batch normalisations, fused residual blocks."""

from copy import deepcopy
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.models.resnet import BasicBlock

from detection.winograd import WinogradConvolution

_Network = TypeVar("_Network", bound=nn.Module)


def fold_batch_norms(network: _Network, *, winograd: bool = False) -> _Network:
    """Return a copy whose convolutions do what the batch normalisation after each of them did.

    Parameters
    ----------
    network : Module
        In evaluation mode. What is not folded shares its memory with the copy.
    winograd : bool
        Whether 3×3 convolutions are computed by `WinogradConvolution`, and residual blocks with them in one go: in
        float32 on the processor.

    Returns
    -------
    Module
        Frozen.
    """
    pairs = _normalised_convolutions(network)
    folded = _copy(network)
    for first, second in pairs:
        convolution, norm = folded.get_submodule(first), folded.get_submodule(second)
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        assert norm.num_features == convolution.out_channels
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        _replace(folded, second, nn.Identity())
        if winograd and WinogradConvolution.fits(convolution):
            _replace(folded, first, WinogradConvolution(convolution))
    if winograd:
        _fuse_blocks(folded)
    return folded.eval().requires_grad_(False)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own_name = name.rpartition(".")
    setattr(network.get_submodule(parent), own_name, module)


def _copy(network: _Network) -> _Network:
    """Copy the modules; parameters and buffers are new tensors on the memory of the old ones."""
    tensors: dict[int, Tensor] = {id(buffer): buffer.detach() for buffer in network.buffers()}
    for parameter in network.parameters():
        tensors[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    return deepcopy(network, tensors)


def _normalised_convolutions(network: nn.Module) -> list[tuple[str, str]]:
    """Names of every batch normalisation and of the convolution before it, as networks list them in their order."""
    pairs: list[tuple[str, str]] = []
    convolution = ""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            convolution = name
        elif isinstance(module, nn.BatchNorm2d):
            pairs.append((convolution, name))
    return pairs


def _fuse_blocks(network: nn.Module) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, BasicBlock) and isinstance(child.conv2, WinogradConvolution):
                setattr(parent, name, _FusedBlock(child))


class _FusedBlock(nn.Module):
    """A residual block whose convolutions by Winograd add what is to be added, and rectify, as they write."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.first, self.second = block.conv1, block.conv2
        self.shortcut = nn.Identity() if block.downsample is None else block.downsample

    def forward(self, pictures: Tensor) -> Tensor:
        first = self.first
        if isinstance(first, WinogradConvolution):
            inner: Tensor = first(pictures, rectify=True)
        else:
            inner = first(pictures).relu_()
        # The sum takes the shortcut's place; without one that of the input, which must be of the same stage: what a
        # stage ends with is a layer of features. ResNet18's later stages begin with a shortcut that downsamples.
        out: Tensor = self.second(inner, residual=self.shortcut(pictures), rectify=True)
        return out
