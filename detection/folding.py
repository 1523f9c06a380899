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
    folded = deepcopy(network)
    owner = {child: (parent, name) for parent in folded.modules() for name, child in parent.named_children()}
    made_by: dict[int, nn.Module] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.BatchNorm2d):
            convolution = made_by[id(inputs[0])]
            assert isinstance(convolution, nn.Conv2d)
            pairs.append((convolution, module))
        made_by[id(output)] = module
        outputs.append(output)  # kept, so that no other tensor gets its id

    outputs: list[Tensor] = []
    hooks = [module.register_forward_hook(watch) for module in owner if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))]
    with torch.no_grad():
        folded(torch.zeros(1, 3, 32, 32))
    for hook in hooks:
        hook.remove()
    for convolution, batch_norm in pairs:
        parent, name = owner[convolution]
        setattr(parent, name, fuse_conv_bn_eval(convolution, batch_norm))
        parent, name = owner[batch_norm]
        setattr(parent, name, nn.Identity())
    return folded.eval().requires_grad_(False)


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
