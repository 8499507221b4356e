"""SqueezeNet 1.0 (Iandola et al. 2016, arXiv 1602.07360)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .backbones import SequentialBackbone


class _Fire(nn.Module):
    def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        wide = [self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))]
        return torch.cat(wide, dim=1)


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


class SqueezeNet10(SequentialBackbone):
    """No BatchNorm.

    The first convolution is padded by 3, which the original is not: so every stage is exactly half the
    size of the one before and a decoder's skip connections line up. Values away from the border are
    those of the original.
    """

    name = "squeezenet1_0"
    stage_channels = (96, 256, 512, 512)
    _halvings = (1, 2, 3, 4)
    _ends = (1, 5, 10, 12)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 7, 2, 3),
            nn.ReLU(inplace=True),
            _pool(),
            _Fire(96, 16, 64),
            _Fire(128, 16, 64),
            _Fire(128, 32, 128),
            _pool(),
            _Fire(256, 32, 128),
            _Fire(256, 48, 192),
            _Fire(384, 48, 192),
            _Fire(384, 64, 256),
            _pool(),
            _Fire(512, 64, 256),
        )
