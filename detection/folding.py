"""What makes a frozen network faster to compute: folded batch normalisations, fused residual blocks."""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock

from detection.winograd import WinogradConvolution

_Network = TypeVar("_Network", bound=nn.Module)


def fold_batch_norms(network: _Network) -> _Network:
    """Return a copy whose convolutions do what the batch normalisation after each of them did."""
    pairs = _normalised_convolutions(network)
    folded = deepcopy(network)
    for first, second in pairs:
        convolution, batch_norm = folded.get_submodule(first), folded.get_submodule(second)
        assert isinstance(convolution, nn.Conv2d) and isinstance(batch_norm, nn.BatchNorm2d)
        for name, module in ((first, fuse_conv_bn_eval(convolution, batch_norm)), (second, nn.Identity())):
            parent, _, own_name = name.rpartition(".")
            setattr(folded.get_submodule(parent), own_name, module)
    return folded.eval().requires_grad_(False)


def _normalised_convolutions(network: nn.Module) -> list[tuple[str, str]]:
    """Names of every batch normalisation and of the convolution before it, as a picture without data meets them."""
    shadow = deepcopy(network).to("meta")
    made_by: dict[int, str] = {}
    pairs: list[tuple[str, str]] = []
    outputs: list[Tensor] = []  # kept, so that no other tensor gets the id of one

    for name, module in shadow.named_modules():

        def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
            if isinstance(module, nn.BatchNorm2d):
                pairs.append((made_by[id(inputs[0])], name))
            made_by[id(output)] = name
            outputs.append(output)

        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            module.register_forward_hook(watch)
    shadow(torch.zeros(1, 3, 32, 32, device="meta"))
    return pairs


def fuse_blocks(network: nn.Module) -> None:
    """Replace the residual blocks of a network of folded convolutions, float32 on the processor, by faster ones."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, BasicBlock) and WinogradConvolution.fits(child.conv2):
                setattr(parent, name, _FusedBlock(child))


class _FusedBlock(nn.Module):
    """A residual block whose convolutions by Winograd add what is to be added, and rectify, as they write."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.first = WinogradConvolution(block.conv1) if WinogradConvolution.fits(block.conv1) else block.conv1
        self.second = WinogradConvolution(block.conv2)
        self.shortcut = nn.Identity() if block.downsample is None else block.downsample

    def forward(self, pictures: Tensor) -> Tensor:
        first = self.first
        if isinstance(first, WinogradConvolution):
            inner: Tensor = first(pictures, rectify=True)
        else:
            inner = first(pictures).relu_()
        out: Tensor = self.second(inner, residual=self.shortcut(pictures), rectify=True)
        return out
