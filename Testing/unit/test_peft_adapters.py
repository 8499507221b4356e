"""Adapters: the identity at the start, and part of the network through conversions, descriptions and files."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from XTLLib.errors import InputError
from XTLLib.networks.backbones import BACKBONES, build_backbone
from XTLLib.networks.build import build_network, convert_network
from XTLLib.networks.flatten import flatten_backbone
from XTLLib.networks.peft import apply_peft
from XTLLib.networks.peft_adapters import Adapter, adapter_rank, add_adapters
from XTLLib.networks.spec import NetworkSpec

torch.set_num_threads(1)

# Residual blocks, dense blocks, fire modules, stages: the figures of the papers' tables.
BLOCKS = {"resnet18": 8, "resnet50": 16, "mobilenet_v2": 17, "densenet121": 4, "squeezenet1_0": 8, "vgg16_bn": 5}


def with_adapters(backbone: nn.Module, rank: int = 3) -> nn.Module:
    """Adapters that do something."""
    add_adapters(backbone, rank)
    generator = torch.Generator().manual_seed(5)
    for part in backbone.modules():
        if isinstance(part, Adapter):
            nn.init.normal_(part.up, std=0.1, generator=generator)
            nn.init.normal_(part.up_bias, std=0.1, generator=generator)
    return backbone


@pytest.mark.parametrize("name", BACKBONES)
def test_every_block_gets_one_and_the_function_stays(name):
    torch.manual_seed(0)
    backbone = build_backbone(name).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = backbone(image)
        add_adapters(backbone, 2)
        for a, b in zip(before, backbone(image), strict=True):
            assert torch.equal(a, b)
        adapters = [part for part in backbone.modules() if isinstance(part, Adapter)]
        assert len(adapters) == BLOCKS[name] and adapter_rank(backbone) == 2
        nn.init.constant_(adapters[-1].up_bias, 1.0)
        assert not torch.allclose(before[-1], backbone(image)[-1])


def test_the_arithmetic_of_an_adapter_on_images_and_volumes():
    adapter = Adapter(2, 1)
    with torch.no_grad():
        adapter.down.copy_(torch.tensor([[2.0, -1.0]]))
        adapter.down_bias.fill_(0.5)
        adapter.up.copy_(torch.tensor([[1.0], [3.0]]))
        adapter.up_bias.copy_(torch.tensor([0.0, 0.25]))
        x = torch.tensor([1.0, 2.0])  # relu(2 - 2 + 0.5) = 0.5
        expected = torch.tensor([1.5, 3.75])
        assert torch.equal(adapter(x.reshape(1, 2, 1, 1)).flatten(), expected)
        assert torch.equal(adapter(x.reshape(1, 2, 1, 1, 1)).flatten(), expected)
        # relu(2 - 4 + 0.5) = 0: only the bias is added
        assert torch.equal(adapter(torch.tensor([1.0, 4.0]).reshape(1, 2, 1, 1)).flatten(), torch.tensor([1.0, 4.25]))


@pytest.mark.parametrize(("name", "rule"), [("resnet18", "acs"), ("mobilenet_v2", "inflate")])
def test_a_conversion_carries_them_and_its_self_test_sees_them(name, rule):
    torch.manual_seed(0)
    source = with_adapters(build_backbone(name))
    spec = NetworkSpec("classification", name, 2, rule, patch_shape=(4, 32, 32), adapters=3)
    network, report = convert_network(spec, source)
    assert report.max_relative_error < 1e-3 and adapter_rank(network.backbone) == 3
    for key, value in source.state_dict().items():
        if ".adapter." in key:
            assert torch.equal(network.backbone.state_dict()[key], value)


def test_the_way_back_to_2d_carries_them():
    torch.manual_seed(0)
    spec = NetworkSpec("segmentation", "resnet18", 3, "inflate", patch_shape=(1, 64, 64))
    network = build_network(spec).eval()
    with_adapters(network.backbone)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for flat, deep in zip(flatten_backbone(network.backbone)(image), network.backbone(image.unsqueeze(2))):
            torch.testing.assert_close(flat, deep.squeeze(2))


def test_a_description_builds_them_again():
    torch.manual_seed(0)
    spec = NetworkSpec("segmentation", "mobilenet_v2", 2, "inflate", patch_shape=(4, 32, 32), adapters=3)
    network = build_network(dataclasses.replace(spec, adapters=0)).eval()
    with_adapters(network.backbone)
    again = build_network(NetworkSpec.from_dict(spec.to_dict())).eval()
    again.load_state_dict(network.state_dict())
    volume = torch.randn(1, 2, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again(volume), network(volume))


def test_a_later_stage_goes_on_with_those_that_are_there():
    network = build_network(NetworkSpec("classification", "squeezenet1_0", 1, "inflate"))
    with_adapters(network.backbone)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    report = apply_peft(network, "adapters", 3)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert 0 < report.trainable < 0.1 * report.total
    with pytest.raises(InputError, match=r"peft_rank 4 .* rank 3 .*Set peft_rank to 3"):
        apply_peft(network, "adapters", 4)


def test_a_negative_rank_is_refused():
    with pytest.raises(InputError, match="adapters -1"):
        NetworkSpec("classification", "resnet18", 1, "inflate", adapters=-1)
