"""The 2D backbones against torchvision: key names, sizes and numbers."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from XTLLib.errors import InputError
from XTLLib.networks.backbones import BACKBONES, build_backbone

torch.set_num_threads(1)

# torchvision's published parameter totals, and its ImageNet classifiers' share of them
PUBLISHED = {
    "mobilenet_v2": 3_504_872 - (1280 + 1) * 1000,
    "squeezenet1_0": 1_248_424 - (512 + 1) * 1000,
    "resnet18": 11_689_512 - (512 + 1) * 1000,
    "resnet50": 25_557_032 - (2048 + 1) * 1000,
    "densenet121": 7_978_856 - (1024 + 1) * 1000,
    "vgg16_bn": 138_365_992 - (512 * 49 + 1) * 4096 - (4096 + 1) * 4096 - (4096 + 1) * 1000,
}

# Deepest response of torchvision 0.28.0 with the weights of known_weights() to the image of known_image():
# shape, mean, standard deviation, sum(sin(n) * value n), maximum.
# VGG without its last pooling, DenseNet with its last ReLU, SqueezeNet with its own unpadded first convolution.
TORCHVISION = {
    "mobilenet_v2": ((1, 1280, 3, 3), 1.10761, 1.60276, -73.1683, 6),
    "squeezenet1_0": ((1, 512, 5, 5), 1.24821, 1.8753, -25.4815, 11.4974),
    "resnet18": ((1, 512, 3, 3), 11.31, 13.8619, 161.548, 88.5617),
    "resnet50": ((1, 2048, 3, 3), 119.754, 140.958, 1041.51, 1059.37),
    "densenet121": ((1, 1024, 3, 3), 0.384196, 0.613734, -4.57246, 4.75378),
    "vgg16_bn": ((1, 512, 6, 6), 0.585181, 0.932542, 123.259, 7.33264),
}

KEYS = {
    "mobilenet_v2": ("features.0.0.weight", "features.1.conv.1.weight", "features.17.conv.1.1.running_var"),
    "squeezenet1_0": ("features.0.bias", "features.3.squeeze.weight", "features.12.expand3x3.bias"),
    "resnet18": ("conv1.weight", "layer1.0.conv1.weight", "layer4.0.downsample.1.running_mean"),
    "resnet50": ("bn1.bias", "layer1.0.downsample.0.weight", "layer4.2.conv3.weight"),
    "densenet121": ("features.denseblock1.denselayer1.norm1.weight", "features.transition3.conv.weight"),
    "vgg16_bn": ("features.0.weight", "features.1.running_mean", "features.41.weight"),
}


def known_weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    known = {}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        values = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(tensor.shape))
        if tensor.ndim == 4:
            values *= np.sqrt(2 / np.prod(tensor.shape[1:]))
        elif key.endswith("running_var"):
            values = 1 + 0.2 * np.abs(values)
        elif key.endswith("weight"):
            values = 1 + 0.1 * values
        else:
            values *= 0.1
        known[key] = torch.tensor(values, dtype=torch.float32)
    return known


def known_image() -> torch.Tensor:
    return torch.tensor(np.random.RandomState(0).standard_normal((1, 3, 96, 96)), dtype=torch.float32)


@pytest.mark.parametrize("name", BACKBONES)
def test_numbers_are_those_of_torchvision(name):
    backbone = build_backbone(name).eval()
    backbone.load_state_dict(known_weights(backbone.state_dict()), strict=False)
    if name == "squeezenet1_0":
        backbone.features[0].padding = (0, 0)
    with torch.no_grad():
        deepest = backbone(known_image())[-1].double()
    waves = torch.sin(torch.arange(deepest.numel(), dtype=torch.float64))
    shape, *expected = TORCHVISION[name]
    found = [deepest.mean(), deepest.std(), (deepest.flatten() * waves).sum(), deepest.max()]
    assert tuple(deepest.shape) == shape
    assert [float(value) for value in found] == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("name", BACKBONES)
def test_parameter_count_is_the_published_one(name):
    with torch.device("meta"):
        backbone = build_backbone(name)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == PUBLISHED[name]
    assert set(KEYS[name]) <= set(backbone.state_dict())


@pytest.mark.parametrize("name", BACKBONES)
def test_pyramid_is_as_declared(name):
    backbone = build_backbone(name).eval()
    with torch.no_grad():
        pyramid = backbone(torch.randn(1, 3, 64, 64))
    assert tuple(stage.shape[1] for stage in pyramid) == backbone.stage_channels
    assert tuple((64 // stage.shape[2], 64 // stage.shape[3]) for stage in pyramid) == backbone.stage_strides
    assert [parameter.dtype for parameter in backbone.parameters() if parameter.dtype != torch.float32] == []


def test_unknown_backbone_names_the_known_ones():
    with pytest.raises(InputError, match=r"resnet34.*mobilenet_v2"):
        build_backbone("resnet34")
