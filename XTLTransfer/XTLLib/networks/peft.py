"""Parameter-efficient fine-tuning: little of a pretrained encoder is trained, and the new layers as ever."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import InputError
from .normalisation import batchnorms
from .peft_adapters import Adapter, add_adapters

PeftKind = Literal["none", "ssf", "bias", "norm", "adapters", "lora", "linear-probe"]
PEFT_KINDS = ("none", "ssf", "bias", "norm", "adapters", "lora", "linear-probe")


@dataclass(frozen=True)
class PeftReport:
    """Numbers of parameters of a network, head included: those that learn, and all."""

    trainable: int
    total: int

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


class ChannelScale(nn.Module):
    """Kernels (O, I, ...) times one number for each output channel, which begins at 1."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(weight.new_ones(weight.shape[0]))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.scale.reshape(-1, *(1,) * (weight.ndim - 1))


class LowRankUpdate(nn.Module):
    """Kernels (O, I, ...) plus B A, (O, r) times (r, I ...), where B begins at zero.

    In a grouped convolution I counts the channels of one group, and the groups share A.
    """

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape[0], math.prod(weight.shape[1:])
        rank = min(rank, rows, columns)
        start = torch.randn(rank, columns, generator=generator) / math.sqrt(columns)
        self.a = nn.Parameter(start.to(weight))
        self.b = nn.Parameter(weight.new_zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.b @ self.a).reshape(weight.shape)


def apply_peft(network: nn.Module, kind: PeftKind, rank: int = 4, seed: int = 0) -> PeftReport:
    """Choose, in place, what of a network's ``backbone`` learns; its function stays as it is, and the head learns.

    - "ssf" (Lian et al. 2022, arXiv 2210.08823; best of its kind in Dutt et al. 2024): a scale and a shift for each
      channel behind every convolution and BatchNorm. Behind a BatchNorm these are its own weight and bias, and
      the shift of a convolution is its own bias, so both are trained as they are; what is new are the scales
      of the convolutions. A convolution without a bias gets no shift, which could not be merged into it.
    - "bias" (Ben Zaken et al. 2022, arXiv 2106.10199): the biases of convolutions and BatchNorms.
    - "norm" (Frankle et al. 2021, arXiv 2003.00152): the weights and biases of BatchNorms.
    - "adapters": see ``peft_adapters``. They stay part of the network.
    - "lora" (Hu et al. 2022, arXiv 2106.09685): an update of every kernel of a low rank.
    - "linear-probe": nothing.
    - "none": everything.

    A convolution is any module with a ``weight`` of four axes or more, (output channels, ...), in which it is linear:
    2D, 3D and ACS convolutions, grouped ones too. Whether BatchNorm statistics follow the images is no matter
    of this function, see ``set_batchnorm``; a linear probe wants them frozen.

    Parameters
    ----------
    rank : of "lora" and of the adapters' bottleneck. seed : of what begins at random there.

    Raises
    ------
    InputError : the kind is not known, the network holds unmerged parts of an earlier call, or adapters of
        another rank.
    """
    if kind not in PEFT_KINDS:
        raise InputError(f"the fine-tuning {kind!r}", f"Choose one of {', '.join(PEFT_KINDS)}")
    backbone = network.backbone
    if any(_added(part) for part in backbone.modules()):
        raise InputError("a network with parts of an earlier fine-tuning", "Merge them first, with merge_peft")
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    if kind != "none":
        for parameter in backbone.parameters():
            parameter.requires_grad_(False)
        for parameter in _learning(backbone, kind, rank, seed):
            parameter.requires_grad_(True)
    return count_parameters(network)


def merge_peft(network: nn.Module) -> None:
    """Make what "ssf" and "lora" learned part of the plain weights, in place; nothing to do for the other kinds.

    The function stays as it is, names and order of parameters are again those of a network that was never
    fine-tuned so, and all of them may learn. Adapters stay.
    """
    for part in list(network.backbone.modules()):
        if _added(part):
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)
            # It has been put in anew, behind the bias.
            part._parameters = {"weight": part._parameters.pop("weight"), **part._parameters}
    for parameter in network.parameters():
        parameter.requires_grad_(True)


def count_parameters(network: nn.Module) -> PeftReport:
    """How many parameters of a network learn."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    return PeftReport(sum(size for size, learns in sizes if learns), sum(size for size, _ in sizes))


def _learning(backbone: nn.Module, kind: PeftKind, rank: int, seed: int) -> Iterator[nn.Parameter]:
    """The encoder's parameters that learn; those that the kind needs are added."""
    generator = torch.Generator().manual_seed(seed)
    convolutions = list(_convolutions(backbone))
    biases = [part.bias for part in (*convolutions, *batchnorms(backbone)) if part.bias is not None]
    if kind == "ssf":
        for part in convolutions:
            scale = ChannelScale(part.weight)
            parametrize.register_parametrization(part, "weight", scale)
            yield scale.scale
        yield from biases
        yield from (norm.weight for norm in batchnorms(backbone))
    elif kind == "bias":
        yield from biases
    elif kind == "norm":
        yield from (parameter for norm in batchnorms(backbone) for parameter in (norm.weight, norm.bias))
    elif kind == "lora":
        for part in convolutions:
            update = LowRankUpdate(part.weight, rank, generator)
            parametrize.register_parametrization(part, "weight", update)
            yield from update.parameters()
    elif kind == "adapters":
        add_adapters(backbone, rank, generator)
        for part in backbone.modules():
            if isinstance(part, Adapter):
                yield from part.parameters()


def _convolutions(backbone: nn.Module) -> Iterator[nn.Module]:
    for part in backbone.modules():
        weight = getattr(part, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim >= 4:
            yield part


def _added(part: nn.Module) -> bool:
    return parametrize.is_parametrized(part, "weight") and isinstance(
        part.parametrizations.weight[0], (ChannelScale, LowRankUpdate)
    )
