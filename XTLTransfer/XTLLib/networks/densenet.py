"""DenseNet-121 (Huang et al., CVPR 2017, arXiv 1608.06993)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from .backbones import SequentialBackbone

_GROWTH = 32
_BOTTLENECK = 4
_REPEATS = (6, 12, 24, 16)


class _DenseLayer(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        width = _BOTTLENECK * _GROWTH
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, _GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(self.relu1(self.norm1(x)))
        return torch.cat([x, self.conv2(self.relu2(self.norm2(new)))], dim=1)


def _dense_block(in_channels: int, repeats: int) -> nn.Sequential:
    layers = ((f"denselayer{n + 1}", _DenseLayer(in_channels + n * _GROWTH)) for n in range(repeats))
    return nn.Sequential(OrderedDict(layers))


def _transition(in_channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(in_channels),
            relu=nn.ReLU(inplace=True),
            conv=nn.Conv2d(in_channels, in_channels // 2, 1, bias=False),
            pool=nn.AvgPool2d(2, 2),
        )
    )


class DenseNet121(SequentialBackbone):
    """The stages end before each halving; a transition belongs to the stage after it."""

    name = "densenet121"
    stage_channels = (64, 256, 512, 1024, 1024)
    _ends = (2, 4, 6, 8, 12)

    def __init__(self) -> None:
        super().__init__()
        layers = OrderedDict(
            conv0=nn.Conv2d(3, 64, 7, 2, 3, bias=False),
            norm0=nn.BatchNorm2d(64),
            relu0=nn.ReLU(inplace=True),
            pool0=nn.MaxPool2d(3, 2, 1),
        )
        channels = 64
        for number, repeats in enumerate(_REPEATS, start=1):
            layers[f"denseblock{number}"] = _dense_block(channels, repeats)
            channels += repeats * _GROWTH
            if number < len(_REPEATS):
                layers[f"transition{number}"] = _transition(channels)
                channels //= 2
        layers["norm5"] = nn.BatchNorm2d(channels)
        layers["relu5"] = nn.ReLU(inplace=True)
        self.features = nn.Sequential(layers)
