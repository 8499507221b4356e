"""VGG-16 with BatchNorm (Simonyan & Zisserman, ICLR 2015, arXiv 1409.1556, configuration D)."""

from __future__ import annotations

from torch import nn

from .backbones import SequentialBackbone

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG16BN(SequentialBackbone):
    """The stages end before each pooling; the last pooling, which has no parameters, is left out."""

    name = "vgg16_bn"
    stage_channels = (64, 128, 256, 512, 512)
    _halvings = (0, 1, 2, 3, 4)
    _ends = (5, 12, 22, 32, 42)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage in _STAGES:
            if layers:
                layers.append(nn.MaxPool2d(2, 2))
            for width in stage:
                layers += [
                    nn.Conv2d(channels, width, 3, padding=1),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                ]
                channels = width
        self.features = nn.Sequential(*layers)
