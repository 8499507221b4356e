"""Inflation: closed forms, the whole network, and a self-test that notices what it should notice."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from XTLLib.errors import InputError, XTLError
from XTLLib.networks.backbones import BACKBONES, Backbone, build_backbone
from XTLLib.networks.conversion import adapt_input_channels, inflate, inflate_kernel
from XTLLib.networks.depth_plan import DepthPlan
from XTLLib.networks.self_test import require_same_response, response_error

torch.set_num_threads(1)

LARGE = (64, 64, 64)


@cache
def backbone_2d(name: str) -> Backbone:
    """A backbone whose BatchNorm is not trivial: random weight and bias, statistics of a few images."""
    torch.manual_seed(0)
    backbone = build_backbone(name).train()
    norms = [part for part in backbone.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1)
        nn.init.normal_(norm.bias, std=0.1)
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            backbone(torch.randn(4, 3, 96, 96))
    return backbone.eval()


def isotropic(name: str) -> DepthPlan:
    return DepthPlan.from_spacing((1, 1, 1), LARGE, backbone_2d(name))


@pytest.mark.parametrize("in_channels", [1, 3, 4])
@pytest.mark.parametrize("name", BACKBONES)
def test_inflated_network_answers_as_the_2d_network(name, in_channels):
    volumetric, report = inflate(backbone_2d(name), in_channels, isotropic(name))
    # random weights amplify float32's rounding more than trained ones, over ResNet-50's depth to about 1e-4
    assert report.max_relative_error < 5e-4
    assert report.carried_share == 1
    assert report.parameters == sum(parameter.numel() for parameter in volumetric.parameters())
    assert volumetric.in_channels == in_channels
    assert all(parameter.dtype == torch.float32 for parameter in volumetric.parameters())


@pytest.mark.parametrize("name", BACKBONES)
def test_middle_slices_of_the_first_stage_need_no_help_at_the_border(name):
    """The plain network, padding and all, away from the ends of a stack of equal slices."""
    volumetric, _ = inflate(backbone_2d(name), 3, isotropic(name), self_test=False)
    image = torch.randn(1, 1, 32, 32).expand(1, 3, 32, 32)
    with torch.no_grad():
        expected = backbone_2d(name)(image)[0]
        found = volumetric(image.unsqueeze(2).expand(1, 3, 32, 32, 32).contiguous())[0]
    middle = found.shape[2] // 2
    torch.testing.assert_close(found[:, :, middle], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", BACKBONES)
def test_single_slice_is_never_pooled_and_gives_exactly_the_2d_pyramid(name):
    flat = backbone_2d(name)
    plan = DepthPlan.from_spacing((0.5, 0.5, 3), (1, 64, 64), flat)
    assert set(plan.kernels) == set(plan.strides) == {1}
    volumetric, _ = inflate(flat, 3, plan, self_test=False)
    image = torch.randn(2, 1, 64, 64).expand(2, 3, 64, 64)
    with torch.no_grad():
        for expected, found in zip(flat(image), volumetric(image.unsqueeze(2))):
            scale = float(expected.abs().max())
            assert float((found.squeeze(2) - expected).abs().max()) < 1e-4 * scale


def test_kernels_are_stacked_and_divided():
    kernel = torch.randn(5, 2, 3, 3)
    inflated = inflate_kernel(kernel, 3)
    assert inflated.shape == (5, 2, 3, 3, 3)
    torch.testing.assert_close(inflated.sum(dim=2), kernel)
    for plane in range(3):
        torch.testing.assert_close(inflated[:, :, plane], kernel / 3)


@pytest.mark.parametrize("in_channels", [1, 2, 3, 4])
def test_input_channels_share_the_grey_response(in_channels):
    kernel = torch.arange(1.0, 7.0).reshape(2, 3, 1, 1)  # sums over RGB: 6 and 15
    adapted = adapt_input_channels(kernel, in_channels)
    assert adapted.shape == (2, in_channels, 1, 1)
    torch.testing.assert_close(adapted.flatten(1), torch.tensor([[6.0], [15.0]]).repeat(1, in_channels) / in_channels)


def undivided(network: Backbone) -> None:
    with torch.no_grad():
        convolution = next(m for m in network.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] > 1)
        convolution.weight *= convolution.kernel_size[0]


def undivided_last(network: Backbone) -> None:
    with torch.no_grad():
        convolution = [m for m in network.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] > 1][-1]
        convolution.weight *= convolution.kernel_size[0]


def statistics_forgotten(network: Backbone) -> None:
    [m for m in network.modules() if isinstance(m, nn.BatchNorm3d)][-1].reset_running_stats()


def channels_not_rescaled(network: Backbone) -> None:
    with torch.no_grad():
        next(m for m in network.modules() if isinstance(m, nn.Conv3d)).weight *= 4 / 3


def not_finite(network: Backbone) -> None:
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))


def other_planes_same_sum(network: Backbone) -> None:
    """The centre-slice rule in one kernel: all of it in the middle plane."""
    with torch.no_grad():
        convolution = next(m for m in network.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] == 3)
        convolution.weight[:, :, 1] *= 3
        convolution.weight[:, :, ::2] = 0


@pytest.mark.parametrize(
    "sabotage", [undivided, undivided_last, statistics_forgotten, channels_not_rescaled, not_finite]
)
def test_self_test_notices_a_broken_conversion(sabotage):
    flat = backbone_2d("mobilenet_v2")
    broken, _ = inflate(flat, 4, isotropic("mobilenet_v2"))
    sabotage(broken)
    with pytest.raises(XTLError, match="does not reproduce the response of its source"):
        require_same_response(flat, broken)


def test_self_test_accepts_the_centre_slice_rule():
    flat = backbone_2d("mobilenet_v2")
    other_rule, _ = inflate(flat, 3, isotropic("mobilenet_v2"))
    other_planes_same_sum(other_rule)
    assert require_same_response(flat, other_rule) < 1e-4


def test_self_test_leaves_the_networks_as_they_were():
    flat = copy.deepcopy(backbone_2d("resnet18")).train()
    flat.bn1.eval()
    volumetric, _ = inflate(flat, 3, isotropic("resnet18"), self_test=False)
    state = {key: value.clone() for key, value in volumetric.state_dict().items()}
    settings = [(m.training, getattr(m, "padding", None)) for m in volumetric.modules()]
    response_error(flat, volumetric)
    assert settings == [(m.training, getattr(m, "padding", None)) for m in volumetric.modules()]
    assert flat.training and not flat.bn1.training
    assert all(not m._forward_pre_hooks for m in [*flat.modules(), *volumetric.modules()])
    assert all(torch.equal(value, state[key]) for key, value in volumetric.state_dict().items())


def test_source_is_left_alone_and_batchnorm_is_copied():
    flat = backbone_2d("resnet18")
    before = {key: value.clone() for key, value in flat.state_dict().items()}
    volumetric, _ = inflate(flat, 2, isotropic("resnet18"))
    undivided(volumetric)
    assert all(torch.equal(value, before[key]) for key, value in flat.state_dict().items())
    for key, value in volumetric.state_dict().items():
        if ".bn" in key or key.startswith("bn"):
            assert torch.equal(value, before[key]), key


def test_volumetric_backbone_is_not_converted_again():
    volumetric, _ = inflate(backbone_2d("resnet18"), 3, isotropic("resnet18"), self_test=False)
    with pytest.raises(InputError, match="volumetric already"):
        inflate(volumetric, 3, isotropic("resnet18"))
    with pytest.raises(InputError, match="depth plan"):
        inflate(backbone_2d("resnet18"), 3, isotropic("vgg16_bn"))


def test_depth_plan_of_known_grids():
    flat = backbone_2d("resnet18")

    def plan(spacing, shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
        made = DepthPlan.from_spacing(spacing, shape, flat)
        return made.kernels, made.strides

    assert plan(None, None) == ((3,) * 6, (2,) * 5)
    assert plan((1, 1, 1), (64, 64, 64)) == ((3, 3, 3, 3, 3, 1), (2, 2, 2, 2, 2))
    # 0.5 x 0.5 x 3 mm: in plane 0.5, 1, 2, ... and 3 < 2 * 2, so depth joins at the third level
    assert plan((0.5, 0.5, 3), None) == ((1, 1, 3, 3, 3, 3), (1, 1, 2, 2, 2))
    # the same with 9 slices: 9, 9, 9, 5, 3, 3
    assert plan((0.5, 0.5, 3), (9, 128, 128)) == ((1, 1, 3, 3, 3, 3), (1, 1, 2, 2, 1))
    # 0.72 x 0.72 x 3 mm: 3 > 2 * 1.44 by little, so the same levels
    assert plan((0.719, 0.719, 3), None)[1] == (1, 1, 2, 2, 2)
    assert plan((1, 1, 1), (3, 32, 32)) == ((3,) * 6, (1,) * 5)
    assert plan((1, 1, 1), (2, 32, 32)) == ((1,) * 6, (1,) * 5)


@given(
    x=st.floats(0.2, 2), z=st.floats(0.2, 8), slices=st.integers(1, 64), name=st.sampled_from(("resnet18", "vgg16_bn"))
)
def test_depth_is_never_pooled_before_the_plane_catches_up(x, z, slices, name):
    plan = DepthPlan.from_spacing((x, x, z), (slices, 64, 64), backbone_2d(name))
    for level, stride in enumerate(plan.strides):
        if stride == 2:
            assert z * plan.depth_stride(level) < 2 * x * 2**level
            assert plan.kernels[level] == 3
    assert -(-slices // plan.depth_stride(len(plan.strides))) >= min(slices, 2)
    if slices == 1:
        assert set(plan.kernels) == {1}


def test_anisotropic_network_strides_and_responds():
    flat = backbone_2d("mobilenet_v2")
    plan = DepthPlan.from_spacing((0.5, 0.5, 3), (16, 64, 64), flat)
    volumetric, report = inflate(flat, 3, plan)
    assert report.max_relative_error < 1e-4
    assert [strides[0] for strides in volumetric.stage_strides] == [1, 1, 2, 4, 8]
    with torch.no_grad():
        pyramid = volumetric.eval()(torch.randn(1, 3, 16, 64, 64))
    for stage, strides in zip(pyramid, volumetric.stage_strides):
        assert tuple(stage.shape[2:]) == tuple(n // stride for n, stride in zip((16, 64, 64), strides))
