"""Volumetric backbones at another stage, backbones volumetric from the start, and the way back to 2D."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import nn
from XTLLib.errors import InputError, XTLError
from XTLLib.networks.backbones import BACKBONES, Backbone, build_backbone
from XTLLib.networks.conversion import convert, refit
from XTLLib.networks.depth_plan import DepthPlan
from XTLLib.networks.flatten import flatten_backbone
from XTLLib.networks.native import native_backbone
from XTLLib.networks.normalisation import set_batchnorm
from XTLLib.networks.self_test import require_same_response
from XTLLib.networks.spec import CONVERSIONS

torch.set_num_threads(1)

THICK, CUBES, SLICE = ((0.5, 0.5, 3.0), (9, 64, 64)), (None, None), (None, (1, 64, 64))


def plan(name: str, grid=CUBES) -> DepthPlan:
    return DepthPlan.from_spacing(*grid, flat(name))


@cache
def flat(name: str) -> Backbone:
    torch.manual_seed(0)
    return stirred(build_backbone(name))


def stirred(backbone: Backbone) -> Backbone:
    """With BatchNorm that is not trivial, and mixing weights that are not equal."""
    for part in backbone.modules():
        if isinstance(part, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.uniform_(part.weight, 0.5, 1)
            nn.init.normal_(part.bias, std=0.1)
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 2)
        elif getattr(part, "mixing", None) is not None:
            nn.init.normal_(part.mixing)
    return backbone.eval()


@cache
def volumetric(name: str, rule: str, grid=CUBES) -> Backbone:
    if rule == "native":
        torch.manual_seed(1)
        return stirred(native_backbone(name, plan(name, grid), 2))
    return stirred(convert(flat(name), rule, 2, plan(name, grid), "sum", self_test=False)[0])


@pytest.mark.parametrize("rule", CONVERSIONS)
@pytest.mark.parametrize(("before", "after"), [(CUBES, THICK), (THICK, CUBES), (CUBES, SLICE), (SLICE, CUBES)])
def test_refitted_backbone_answers_as_before_to_equal_slices(rule, before, after):
    source = volumetric("squeezenet1_0", rule, before)
    refitted, report = refit(source, 2, plan("squeezenet1_0", after))
    assert report.max_relative_error < 1e-4 and report.source == "volumetric"
    assert refitted.plan == plan("squeezenet1_0", after).for_rule(rule) and refitted.rule == rule
    images = torch.randn(1, 2, 1, 64, 64)
    if rule in ("acs", "soft-acs", "mean-acs") or SLICE in (before, after):
        return  # a view that looks along the slices, or zeros beside a single one
    with torch.no_grad():
        expected, found = (network(images.repeat(1, 1, 32, 1, 1))[0] for network in (source, refitted))
    middle = expected[:, :, expected.shape[2] // 2]
    torch.testing.assert_close(found[:, :, found.shape[2] // 2], middle, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("input_channels", ["mean", "sum", "repeat"])
@pytest.mark.parametrize("rule", ["inflate", "acs", "native"])
def test_refitted_channels(rule, input_channels):
    source = volumetric("squeezenet1_0", rule)
    for in_channels in (1, 3, 4):
        refitted, report = refit(source, in_channels, source.plan, input_channels)
        assert report.max_relative_error < 1e-4
        assert refitted.in_channels == in_channels == refitted.features[0].weight.shape[1]
    same, _ = refit(source, 2, source.plan, input_channels)
    assert torch.equal(same.features[0].weight, source.features[0].weight)  # each channel keeps its kernels


@pytest.mark.parametrize("name", BACKBONES)
def test_native_backbone_has_cubic_kernels_and_is_refitted(name):
    torch.manual_seed(0)
    native = native_backbone(name)
    assert (native.rule, native.in_channels, set(native.plan.decoder_kernels)) == ("native", 1, {3})
    assert native.state_dict().keys() == flat(name).state_dict().keys()
    for part_2d, part in zip(flat(name).modules(), native.modules()):
        if isinstance(part_2d, nn.Conv2d):
            assert part.kernel_size == part_2d.kernel_size[:1] * 3
            assert part.stride == part_2d.stride[:1] * 3 and part.padding == part_2d.padding[:1] * 3
    deep = [p for p in native.parameters() if p.ndim == 5 and p.shape[2] > 1]
    assert all(not torch.equal(p[:, :, 0], p[:, :, 1]) for p in deep)
    _, report = refit(stirred(native), 2, plan(name, THICK))
    assert report.max_relative_error < 5e-4 and report.carried_share == 1


@pytest.mark.parametrize("rule", ["inflate", "centre-slice", "native", "slice-stack"])
def test_kernels_are_summed_and_stacked(rule):
    source = volumetric("resnet18", rule)
    slices, _ = refit(source, 2, plan("resnet18", SLICE))
    assert torch.equal(slices.conv1.weight, source.conv1.weight.sum(2, keepdim=True))
    again, _ = refit(slices, 2, plan("resnet18"))
    kernel = again.layer1[0].conv1.weight
    flat_kernel = source.layer1[0].conv1.weight.sum(2)
    if rule == "slice-stack":
        assert kernel.shape[2] == 1
    elif rule == "centre-slice":
        assert torch.equal(kernel[:, :, 1], flat_kernel) and not kernel[:, :, ::2].any()
    else:
        torch.testing.assert_close(kernel, flat_kernel.unsqueeze(2).expand_as(kernel) / 3)
    assert again.conv1.weight.shape[2] == (7 if rule == "native" else 3)


def test_mixing_weights_travel_and_count_as_carried():
    source = volumetric("resnet18", "soft-acs")
    refitted, report = refit(source, 2, plan("resnet18"))
    assert report.carried_share == 1
    assert torch.equal(refitted.conv1.mixing, source.conv1.mixing)
    _, report = refit(volumetric("resnet18", "soft-acs", SLICE), 2, plan("resnet18"))
    mixing = sum(p.numel() for key, p in source.named_parameters() if key.endswith(".mixing"))
    assert report.carried_share == pytest.approx(1 - mixing / report.parameters)


def test_batchnorm_travels_whatever_its_policy():
    source = copy.deepcopy(volumetric("resnet18", "inflate"))
    set_batchnorm(source, "frozen")
    refitted, _ = refit(source, 2, plan("resnet18", THICK))
    for (key, value), part in zip(source.bn1.state_dict().items(), refitted.bn1.state_dict().values()):
        assert torch.equal(value, part), key
    assert refitted.train().bn1.training


@pytest.mark.parametrize("rule", ["inflate", "native", "acs", "mean-acs"])
def test_self_test_notices_a_broken_refit(rule):
    source = volumetric("resnet18", rule)
    broken, _ = refit(source, 3, plan("resnet18", THICK))
    broken.layer3[0].conv1.weight.data *= 1.02
    with pytest.raises(XTLError, match="does not reproduce"):
        require_same_response(source, broken)
    broken, _ = refit(source, 3, plan("resnet18", THICK))
    broken.conv1.weight.data *= 1.5  # as if the channels had been added up without a rescale
    with pytest.raises(XTLError, match="does not reproduce"):
        require_same_response(source, broken)


@pytest.mark.parametrize("rule", CONVERSIONS)
@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenet_v2"])
def test_flattened_backbone_is_the_2d_network_again(name, rule):
    source = volumetric(name, rule, SLICE)
    flattened = flatten_backbone(source, "sum")
    assert flattened.plan is None and flattened.rule is None and flattened.in_channels == 3
    assert all(p.requires_grad and p.device.type == "cpu" for p in flattened.parameters())
    images = torch.randn(2, 1, 64, 64).expand(-1, 2, -1, -1)
    with torch.no_grad():
        # "sum": each colour alone answers as both channels of the source together
        expected = source(images.unsqueeze(2))
        found = flattened(torch.cat([images[:, :1], torch.zeros(2, 2, 64, 64)], dim=1))
    for a, b in zip(expected, found):
        torch.testing.assert_close(b, a.squeeze(2), rtol=1e-3, atol=1e-4)


def test_there_and_back_gives_the_same_weights():
    source = flat("resnet18")
    for rule in CONVERSIONS[:-1]:
        there, _ = convert(source, rule, 3, plan("resnet18", SLICE), "repeat", self_test=False)
        back = flatten_backbone(there)
        assert all(torch.equal(value, source.state_dict()[key]) for key, value in back.state_dict().items())
    there.conv1.weight.data.zero_()
    assert back.conv1.weight.any()  # a copy


def test_what_cannot_be_refitted_or_flattened():
    with pytest.raises(InputError, match=r"resnet18 is 2D.*Convert"):
        refit(flat("resnet18"), 1, plan("resnet18"))
    with pytest.raises(InputError, match="depth plan with 4 halvings"):
        refit(volumetric("resnet18", "inflate"), 1, plan("squeezenet1_0"))
    with pytest.raises(InputError, match="2D already"):
        flatten_backbone(flat("resnet18"))
    for rule in ("inflate", "mean-acs", "acs", "slice-stack"):
        with pytest.raises(InputError, match=r"looks along depth \(conv1"):
            flatten_backbone(volumetric("resnet18", rule))
    # every kernel of a slice encoder sees one slice, whatever the plan
    assert flatten_backbone(volumetric("resnet18", "slice-encoder")).plan is None
