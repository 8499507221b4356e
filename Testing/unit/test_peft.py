"""Parameter-efficient fine-tuning: nothing changes at the start, little learns, and it merges exactly."""

from __future__ import annotations

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn
from XTLLib.errors import InputError
from XTLLib.networks.backbones import BACKBONES
from XTLLib.networks.build import build_network
from XTLLib.networks.normalisation import batchnorms
from XTLLib.networks.peft import PEFT_KINDS, apply_peft, merge_peft
from XTLLib.networks.spec import NetworkSpec

torch.set_num_threads(1)

RULES = {  # every backbone once, every kind of convolution
    "mobilenet_v2": "inflate",
    "resnet18": "soft-acs",
    "resnet50": "acs",
    "densenet121": "slice-encoder",
    "squeezenet1_0": "mean-acs",
    "vgg16_bn": "slice-stack",
}
SHAPE = (4, 32, 32)


def spec(name: str) -> NetworkSpec:
    return NetworkSpec("classification", name, 1, RULES[name], patch_shape=SHAPE)


def volumetric(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_network(spec(name)).eval()


class Small(nn.Module):
    """A network of every kind of convolution whose parameters can be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            OrderedDict(
                plain=nn.Conv2d(3, 8, 3, padding=1),
                norm=nn.BatchNorm2d(8),
                relu=nn.ReLU(),
                grouped=nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False),
                depthwise=nn.Conv2d(8, 8, 3, padding=1, groups=8),
            )
        )
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.backbone(x).mean((2, 3)))


def learn(network: nn.Module, image: torch.Tensor, steps: int = 2) -> None:
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        optimiser.zero_grad()
        network(image).square().sum().backward()
        optimiser.step()


@pytest.mark.parametrize("name", BACKBONES)
def test_nothing_changes_at_the_start(name):
    network, volume = volumetric(name), torch.randn(1, 1, *SHAPE)
    with torch.no_grad():
        before = network(volume)
        for kind in PEFT_KINDS:
            changed = copy.deepcopy(network)
            report = apply_peft(changed, kind)
            torch.testing.assert_close(changed(volume), before)
            learning = sum(p.numel() for p in changed.parameters() if p.requires_grad)
            assert report.trainable == learning and report.total == sum(p.numel() for p in changed.parameters())
            assert all(p.requires_grad for p in changed.head.parameters())
            assert report.trainable < 0.1 * report.total or kind == "none"


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "mobilenet_v2"])
@pytest.mark.parametrize("kind", ["ssf", "lora"])
def test_what_was_learned_merges_into_the_weights_of_a_plain_network(name, kind):
    network, volume = volumetric(name), torch.randn(2, 1, *SHAPE)
    names = [key for key, _ in network.named_parameters()]
    apply_peft(network, kind, 2, seed=3)
    learn(network, volume)
    with torch.no_grad():
        learned = network(volume)
        merge_peft(network)
        assert torch.equal(network(volume), learned)
        plain = build_network(spec(name)).eval()
        plain.load_state_dict(network.state_dict())
        torch.testing.assert_close(plain(volume), learned)
    assert [key for key, _ in network.named_parameters()] == names
    assert all(p.requires_grad for p in network.parameters())
    assert type(network.backbone.get_submodule(names[0].split(".", 1)[1].rpartition(".")[0])) in map(
        type, plain.modules()
    )


def test_the_numbers_of_parameters_are_those_of_the_definitions():
    # plain 8x3x3x3 + 8, norm 8 + 8, grouped 8x2x3x3, depthwise 8x1x3x3 + 8, head 8x2 + 2
    all_of_it, head = (216 + 8) + 16 + 144 + (72 + 8) + 18, 18
    expected = {
        "none": (all_of_it, all_of_it),
        "linear-probe": (head, all_of_it),
        "bias": (head + 8 + 8 + 8, all_of_it),
        "ssf": (head + 3 * 8 + (8 + 8 + 8) + 8, all_of_it + 3 * 8),  # scales, biases, the norm's weight
        "lora": (head + 2 * (8 + 27) + 2 * (8 + 18) + 2 * (8 + 9), all_of_it + 2 * (8 + 27 + 8 + 18 + 8 + 9)),
    }
    for kind, (trainable, total) in expected.items():
        report = apply_peft(Small(), kind, 2)
        assert (report.trainable, report.total) == (trainable, total), kind


def test_a_low_rank_update_has_that_rank_and_groups_share_a_factor():
    network, image = Small(), torch.randn(4, 3, 8, 8)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    apply_peft(network, "lora", 2)
    learn(network, image, 5)
    merge_peft(network)
    for name in ("plain", "grouped", "depthwise"):
        change = network.backbone.get_submodule(name).weight.detach() - before[f"backbone.{name}.weight"]
        values = torch.linalg.svdvals(change.flatten(1))
        assert values[1] > 1e-6 and values[2] < 1e-3 * values[0], name
    assert torch.equal(network.backbone.plain.bias.detach(), before["backbone.plain.bias"])


def test_scales_act_on_output_channels_and_shifts_are_the_biases():
    network, image = Small().eval(), torch.randn(1, 3, 8, 8)
    before = network.backbone.plain(image).detach()
    apply_peft(network, "ssf")
    scale = torch.linspace(-1, 2, 8)
    with torch.no_grad():
        network.backbone.plain.parametrizations.weight[0].scale.copy_(scale)
        bias = network.backbone.plain.bias
        expected = (before - bias[:, None, None]) * scale[:, None, None] + 0.5
        bias.fill_(0.5)
        torch.testing.assert_close(network.backbone.plain(image), expected)


def test_bias_only_leaves_every_kernel_as_it_was():
    network, image = Small(), torch.randn(4, 3, 8, 8)
    before = copy.deepcopy(network.state_dict())
    apply_peft(network, "bias")
    learn(network, image)
    moved = {
        key
        for key, value in network.state_dict().items()
        if not torch.equal(value, before[key]) and "running" not in key
    }
    biases = {"backbone.norm.bias", "backbone.depthwise.bias", "backbone.plain.bias"}
    assert moved - {"backbone.norm.num_batches_tracked"} - biases == {"head.weight", "head.bias"}
    assert {"backbone.norm.bias", "backbone.depthwise.bias"} <= moved


def test_random_factors_follow_from_the_seed():
    def factors(seed):
        network = Small()
        apply_peft(network, "lora", 2, seed)
        return network.backbone.plain.parametrizations.weight[0].a

    assert torch.equal(factors(1), factors(1)) and not torch.equal(factors(1), factors(2))


def test_bad_input():
    network = Small()
    with pytest.raises(InputError, match=r"fine-tuning 'prompt'.*Choose one of none, ssf"):
        apply_peft(network, "prompt")
    apply_peft(network, "ssf")
    with pytest.raises(InputError, match="Merge them first"):
        apply_peft(network, "lora")


def test_statistics_of_batchnorm_are_no_matter_of_it():
    network = Small().train()
    apply_peft(network, "ssf")
    network(torch.randn(4, 3, 8, 8))
    assert batchnorms(network)[0].num_batches_tracked == 1
