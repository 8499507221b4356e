"""Networks with all that a fine-tuning policy looks at, and few parameters."""

from __future__ import annotations

import torch
from torch import nn
from XTLLib.networks.backbones import SequentialBackbone


class TinyBackbone(SequentialBackbone):
    """Three stages of a convolution, BatchNorm and ReLU: the layer groups stem, level1 and level2."""

    name = "tiny"
    stage_channels = (4, 4, 4)
    _halvings = (1, 2, 3)
    _ends = (2, 5, 8)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (1, 4, 4):
            layers += [nn.Conv2d(channels, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()]
        self.features = nn.Sequential(*layers)


class TinyNetwork(nn.Module):
    """Images (N, 1, H, W) -> one logit each."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.backbone = TinyBackbone()
            self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(self.backbone(x)[-1].mean((2, 3)))
