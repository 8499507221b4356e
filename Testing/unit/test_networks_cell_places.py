"""Cells of the deepest stage look where arithmetic on paper, and a gradient, say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from XTLLib.networks.acs import AcsConvolution
from XTLLib.networks.build import build_network
from XTLLib.networks.cell_places import deepest_cells
from XTLLib.networks.spec import NetworkSpec


def backbone(name: str, shape=(1, 96, 96), conversion="inflate"):
    spec = NetworkSpec("classification", name, 3, conversion, spacing_mm=(1, 1, 1), patch_shape=shape)
    return build_network(spec).backbone.eval()


@pytest.mark.parametrize(
    ("name", "first", "step"),
    [
        ("resnet18", 0, 32),  # 7 / 2 padded by 3, then 3 / 2 padded by 1: each begins where the one before does
        ("mobilenet_v2", 0, 32),
        ("densenet121", (4 + 8 + 16) / 2, 32),  # three transitions average two cells each
        ("vgg16_bn", (1 + 2 + 4 + 8) / 2, 16),  # four poolings of two; the stage ends before the fifth
        ("squeezenet1_0", 2 + 4 + 8, 16),  # three poolings of three without padding, at steps 2, 4, 8
    ],
)
def test_places_in_plane_are_those_of_paper(name, first, step):
    places = deepest_cells(backbone(name), (1, 96, 96))
    assert places.first[1:] == (first, first) and places.step[1:] == (step, step)
    assert (places.first[0], places.step[0]) == (0, 1)  # a single slice is never pooled


def _linear(network: nn.Module) -> None:
    """All weights positive, all activations open: the gradient is then the weight of a receptive field."""
    for part in network.modules():
        if isinstance(part, (nn.Conv3d, AcsConvolution)):
            nn.init.constant_(part.weight, 1 / part.weight[0].numel())
            if part.bias is not None:
                nn.init.zeros_(part.bias)


@pytest.mark.parametrize(("name", "conversion"), [("resnet18", "acs"), ("mobilenet_v2", "inflate")])
def test_the_gradient_of_a_cell_lies_around_its_place(name, conversion):
    shape = (16, 160, 160)
    net = backbone(name, shape, conversion)
    _linear(net)
    for part in list(net.named_modules()):
        if isinstance(part[1], nn.MaxPool3d):  # an average sees where a maximum may look
            pool = nn.AvgPool3d(part[1].kernel_size, part[1].stride, part[1].padding)
            parent, _, child = part[0].rpartition(".")
            setattr(net.get_submodule(parent), child, pool)
    image = torch.full((1, 3, *shape), 0.01, requires_grad=True)  # far below where ReLU6 closes
    deepest = net(image)[-1]
    cell = np.array(deepest.shape[2:]) // 2
    (gradient,) = torch.autograd.grad(deepest[0, :, cell[0], cell[1], cell[2]].sum(), image)
    places = deepest_cells(net, shape)
    expected = np.array(places.first) + cell * np.array(places.step)
    weights = gradient[0].sum(0).numpy()
    for axis in (1, 2):  # in plane, where the image is large enough for the field not to be cut off much
        profile = weights.sum(axis=tuple(other for other in range(3) if other != axis))
        middle = float((profile * np.arange(shape[axis])).sum() / profile.sum())
        assert middle == pytest.approx(expected[axis], abs=places.step[axis] / 8)


def test_depth_has_places_too():
    places = deepest_cells(backbone("resnet18", (16, 64, 64)), (16, 64, 64))
    assert places.step[0] > 1 and places.first[0] == 0
