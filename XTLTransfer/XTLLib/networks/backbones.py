"""The 2D convolutional networks that travel through a chain."""

from __future__ import annotations

import math
from importlib import import_module

import torch
from torch import Tensor, nn

from ..errors import InputError
from .acs import AcsConvolution
from .spec import BACKBONES, ConversionRule

__all__ = ["BACKBONES", "Backbone", "SequentialBackbone", "build_backbone", "initialise"]

_HOMES = {
    "mobilenet_v2": ("mobilenet", "MobileNetV2"),
    "squeezenet1_0": ("squeezenet", "SqueezeNet10"),
    "resnet18": ("resnet", "ResNet18"),
    "resnet50": ("resnet", "ResNet50"),
    "densenet121": ("densenet", "DenseNet121"),
    "vgg16_bn": ("vgg", "VGG16BN"),
}


class Backbone(nn.Module):
    """A convolutional encoder without a classifier; parameter names are those of torchvision.

    The modules are 2D as built; ``conversion.convert`` returns a copy whose modules are volumetric, and the same
    ``forward`` serves both. All pooling is done by modules, so that a conversion is a walk over modules.

    Attributes
    ----------
    name : one of ``BACKBONES``.
    in_channels : channels of the input (3: RGB).
    stage_channels : channels of each stage's output, finest first.
    stage_strides : cumulative stride of each stage's output, (h, w), or (d, h, w) after conversion.
    plan : the ``DepthPlan`` of a volumetric backbone, None in 2D.
    rule : the conversion rule that made it volumetric, None in 2D.
    """

    name = ""
    stage_channels: tuple[int, ...] = ()
    _halvings: tuple[int, ...] = (1, 2, 3, 4, 5)

    def __init__(self) -> None:
        super().__init__()
        self.in_channels = 3
        self.stage_strides: tuple[tuple[int, ...], ...] = tuple((2**n, 2**n) for n in self._halvings)
        self.plan = None
        self.rule: ConversionRule | None = None

    @property
    def halvings(self) -> int:
        """How often the deepest stage has been halved in plane."""
        return self._halvings[-1]

    @property
    def stage_levels(self) -> tuple[int, ...]:
        """For each stage, how often its output has been halved in plane."""
        return self._halvings

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W), or (N, C, D, H, W) after conversion -> the stages' outputs, finest first."""
        raise NotImplementedError


class SequentialBackbone(Backbone):
    """A backbone whose layers stand in a row, ``self.features``; a stage ends at each index of ``_ends``."""

    features: nn.Sequential
    _ends: tuple[int, ...] = ()

    def forward(self, x: Tensor) -> list[Tensor]:
        stages = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self._ends:
                stages.append(x)
        return stages


def build_backbone(name: str) -> Backbone:
    """A 2D backbone with random weights (from torch's global random state), RGB input, float32."""
    if name not in _HOMES:
        raise InputError(f"the backbone {name!r} is not known", f"Choose one of {', '.join(BACKBONES)}")
    module, kind = _HOMES[name]
    backbone = getattr(import_module(f".{module}", __package__), kind)()
    initialise(backbone)
    return backbone


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Random weights: He et al. 2015 (fan out, within a group) for convolutions, identity for BatchNorm.

    A module on the meta device, which has no values, is left alone: to draw none, torch loads its compiler.
    """
    if any(parameter.is_meta for parameter in module.parameters()):
        return
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Conv3d, AcsConvolution)):
            fan_out = part.out_channels // part.groups * math.prod(part.weight.shape[2:])
            nn.init.normal_(part.weight, std=math.sqrt(2 / fan_out))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, (nn.BatchNorm2d, nn.BatchNorm3d)):
            part.reset_running_stats()
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
