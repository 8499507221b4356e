"""Adapters: small residual layers between the blocks of a backbone, which stay part of the network."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .backbones import Backbone, build_backbone
from .branches import Branches, branches_of

_MARK = ".adapter."  # in the names of an adapter's tensors


class Adapter(nn.Module):
    """x + up(relu(down(x))), both 1x1: a bottleneck of ``rank`` channels (Houlsby et al. 2019, arXiv 1902.00751;
    for convolutional networks Rebuffi et al. 2018, arXiv 1803.10082).

    ``up`` begins at zero, and so the adapter as the identity. One set of tensors serves images and volumes,
    (N, C, H, W) and (N, C, D, H, W): a conversion copies them.
    """

    def __init__(self, channels: int, rank: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, channels, generator=generator) * math.sqrt(2 / channels))
        self.down_bias = nn.Parameter(torch.zeros(rank))
        self.up = nn.Parameter(torch.zeros(channels, rank))
        self.up_bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        ones = (1,) * (x.ndim - 2)
        convolve = F.conv2d if x.ndim == 4 else F.conv3d
        narrow = F.relu(convolve(x, self.down.reshape(*self.down.shape, *ones), self.down_bias))
        return x + convolve(narrow, self.up.reshape(*self.up.shape, *ones), self.up_bias)


def add_adapters(backbone: Backbone | Branches, rank: int, generator: torch.Generator | None = None) -> None:
    """Put an adapter behind every block, in place; the function stays as it is.

    Random numbers are the generator's, or torch's global ones.

    Blocks: residual blocks (ResNets, MobileNetV2), dense blocks (DenseNet), fire modules (SqueezeNet), and the
    ends of the stages of VGG.

    Raises
    ------
    InputError : the backbone has adapters of another rank. With those of this rank nothing is done.
    """
    present = adapter_rank(backbone)
    if present == rank:
        return
    if present:
        raise InputError(
            f"peft_rank {rank} for a backbone with adapters of rank {present} from an earlier stage",
            f"Set peft_rank to {present}",
        )
    like = next(backbone.parameters())
    for branch in branches_of(backbone):
        for block, channels in zip(_blocks(branch), _block_channels(branch.name), strict=True):
            block.adapter = Adapter(channels, rank, generator).to(like)
            block.register_forward_hook(_adapted)


def adapter_rank(backbone: nn.Module) -> int:
    """Rank of a backbone's adapters; 0 where it has none."""
    return next((len(part.down) for part in backbone.modules() if isinstance(part, Adapter)), 0)


def carry_adapters(source: Backbone, target: Backbone) -> None:
    """Give a converted backbone the adapters of the one that it was made from, if there are any."""
    rank = adapter_rank(source)
    if rank:
        add_adapters(target, rank)
        target.load_state_dict({k: v for k, v in source.state_dict().items() if is_adapter_key(k)}, strict=False)


def is_adapter_key(key: str) -> bool:
    """Whether a key of a state dict names a tensor of an adapter."""
    return _MARK in key


def _adapted(block: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return block.adapter(output)


def _blocks(backbone: Backbone) -> list[nn.Module]:
    if backbone.name == "densenet121":
        # The last layer of a dense block gives the whole block's output.
        return [layers[-1] for name, layers in backbone.features.named_children() if name.startswith("denseblock")]
    if backbone.name == "vgg16_bn":
        return [backbone.features[end] for end in backbone._ends]
    return [
        part
        for part in backbone.modules()
        if part is not backbone and not isinstance(part, nn.Sequential) and next(part.children(), None) is not None
    ]


def _block_channels(name: str) -> list[int]:
    """Channels of the output of every block, measured on the 2D backbone."""
    with torch.device("meta"):
        flat = build_backbone(name).eval()
        size = 2 ** (flat.halvings + 1)
        channels: list[int] = []
        for block in _blocks(flat):
            block.register_forward_hook(lambda _, inputs, output: channels.append(output.shape[1]))
        flat(torch.zeros(1, flat.in_channels, size, size))
    return channels
