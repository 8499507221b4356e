"""Conversions of 2D backbones: closed forms, the whole network, and a self-test that notices what it should notice."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from XTLLib.errors import InputError, XTLError
from XTLLib.networks.acs import AcsConvolution
from XTLLib.networks.backbones import BACKBONES, Backbone, build_backbone
from XTLLib.networks.conversion import convert, inflate
from XTLLib.networks.depth_plan import DepthPlan
from XTLLib.networks.self_test import require_same_response, response_error
from XTLLib.networks.spec import CONVERSIONS

torch.set_num_threads(1)

LARGE = (64, 64, 64)
RULES = tuple(rule for rule in CONVERSIONS if rule != "native")
FIRST = {
    "mobilenet_v2": "features.0.0",
    "squeezenet1_0": "features.0",
    "resnet18": "conv1",
    "resnet50": "conv1",
    "densenet121": "features.conv0",
    "vgg16_bn": "features.0",
}


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


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", BACKBONES)
def test_converted_network_answers_as_the_2d_network_for_1_2_3_and_4_channels(name, rule):
    """The whole self-test; random weights amplify float32's rounding more than trained ones, to about 1e-4."""
    volumetric, report = convert(backbone_2d(name), rule, 2, isotropic(name))
    assert report.max_relative_error < 5e-4
    assert (report.rule, report.in_channels, report.source) == (rule, 2, "2D")
    assert ("planes" in report.tested) == rule.endswith("acs")
    assert ("different slices" in report.tested) == rule.startswith("slice-")
    assert (volumetric.rule, volumetric.in_channels) == (rule, 2)
    assert all(parameter.dtype == torch.float32 for parameter in volumetric.parameters())
    assert report.parameters == sum(parameter.numel() for parameter in volumetric.parameters())
    mixing = sum(p.numel() for key, p in volumetric.named_parameters() if key.endswith(".mixing"))
    assert (mixing > 0) == (rule == "soft-acs")
    assert report.carried_share == pytest.approx(1 - mixing / report.parameters)
    require_other_channel_counts(name, rule, volumetric.state_dict())


def require_other_channel_counts(name: str, rule: str, tested: dict[str, torch.Tensor]) -> None:
    """1, 3 and 4 channels differ from 2 in the first kernels only, and these answer as the 2D ones do."""
    flat, first = backbone_2d(name), FIRST[name]
    rgb = flat.get_submodule(first).weight.sum(dim=1)
    for in_channels in (1, 3, 4):
        volumetric, _ = convert(flat, rule, in_channels, isotropic(name), self_test=False)
        state = volumetric.state_dict()
        assert state.keys() == tested.keys()
        assert [k for k, v in state.items() if k != f"{first}.weight" and not torch.equal(v, tested[k])] == []
        weight = state[f"{first}.weight"]
        assert weight.shape[1] == volumetric.in_channels == in_channels
        # equal channels of equal slices: the sum over channels and depth is that over R, G and B
        total = weight.flatten(1, -3).sum(dim=1)
        torch.testing.assert_close(total, rgb, rtol=1e-4, atol=1e-5)
        if rule in ("soft-acs", "mean-acs"):  # two of the three views look along the equal slices
            continue
        images = torch.randn(1, in_channels, 16, 16)
        with torch.no_grad():
            expected = flat.get_submodule(first)(images.mean(1, keepdim=True).expand(-1, 3, -1, -1))
            found = volumetric.get_submodule(first)(images.unsqueeze(2).repeat(1, 1, 9, 1, 1))
        axial = -(-found.shape[1] // 3) if rule == "acs" else found.shape[1]
        middle = found[:, :axial, found.shape[2] // 2]
        torch.testing.assert_close(middle, expected[:, :axial], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("input_channels", ["mean", "sum", "repeat"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("in_channels", [1, 2, 3, 4])
def test_every_rule_of_input_channels_passes_the_self_test(rule, input_channels, in_channels):
    name = "squeezenet1_0"
    _, report = convert(backbone_2d(name), rule, in_channels, isotropic(name), input_channels)
    assert report.max_relative_error < 1e-5 and report.input_channels == input_channels


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


def scale(network: Backbone) -> None:
    """Any kernel, 2D or 3D, larger by 1 %."""
    with torch.no_grad():
        convolutions(network)[3].weight *= 1.01


def forget_statistics(network: Backbone) -> None:
    [m for m in network.modules() if isinstance(m, nn.BatchNorm3d)][-1].reset_running_stats()


def swap_planes(network: Backbone) -> None:
    """Slices shown in the wrong order to the stack."""
    with torch.no_grad():
        convolutions(network)[0].weight.copy_(convolutions(network)[0].weight.flip(2))


def look_at_neighbours(network: Backbone) -> None:
    """A kernel that mixes slices though its sum over depth is right, where slices should stay apart."""
    place = next(m for m in network.modules() if isinstance(m, nn.Sequential) and isinstance(m[0], nn.Conv3d))
    kernel = place[0].weight
    wide = nn.Conv3d(
        place[0].in_channels, place[0].out_channels, 3, place[0].stride, 1, groups=place[0].groups, bias=False
    )
    wide.weight.data.copy_(kernel.data.repeat(1, 1, 3, 1, 1)[:, :, :3, :3, :3] / 3 if kernel.shape[-1] == 3 else 0)
    place[0] = wide


def forget_a_view(network: Backbone) -> None:
    """Kernels that should be coronal are axial."""
    part = next(m for m in convolutions(network) if not m.axial and m.views is not None)
    axial, coronal, sagittal = part.views
    part.views = (axial + coronal, 0, sagittal)


def all_axial(network: Backbone) -> None:
    part = next(m for m in convolutions(network) if not m.axial)
    part.mixing.data[:, 0] = 5


def two_views(network: Backbone) -> None:
    part = next(m for m in convolutions(network) if not m.axial)
    part.shares = lambda: torch.tensor([[0.5, 0.5, 0.0]]).expand(part.out_channels, 3)


def convolutions(network: Backbone) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, (nn.Conv3d, AcsConvolution))]


@pytest.mark.parametrize(
    ("rule", "sabotage"),
    [
        *((rule, sabotage) for rule in RULES for sabotage in (scale, forget_statistics, not_finite)),
        ("slice-stack", swap_planes),
        ("slice-stack", look_at_neighbours),
        ("slice-encoder", look_at_neighbours),
        ("acs", forget_a_view),
        ("soft-acs", all_axial),
        ("mean-acs", two_views),
    ],
)
def test_self_test_notices_every_rule_when_it_is_broken(rule, sabotage):
    flat = backbone_2d("mobilenet_v2")
    broken, _ = convert(flat, rule, 2, isotropic("mobilenet_v2"))
    sabotage(broken)
    with pytest.raises(XTLError, match=f"conversion .{rule}. of mobilenet_v2 does not reproduce"):
        require_same_response(flat, broken)


@pytest.mark.parametrize("rule", ["acs", "mean-acs"])
def test_self_test_notices_a_wrong_split_of_the_groups(rule):
    flat = backbone_2d("resnet18")
    broken, _ = convert(flat, rule, 2, isotropic("resnet18"))
    part = broken.layer2[0].conv2
    part.weight.data = part.weight.data.flip(0)
    with pytest.raises(XTLError, match="does not reproduce"):
        require_same_response(flat, broken)


@pytest.mark.parametrize(("rule", "reach"), [("slice-encoder", 0), ("slice-stack", 1)])
def test_slice_rules_keep_slices_apart(rule, reach):
    """What one slice changes, in a network whose depth is 9: itself, and its neighbours under a stack."""
    for plan in (isotropic("resnet18"), DepthPlan.from_spacing((0.5, 0.5, 3), (9, 64, 64), backbone_2d("resnet18"))):
        volumetric, _ = convert(backbone_2d("resnet18"), rule, 1, plan, self_test=False)
        volume = torch.randn(1, 1, 9, 32, 32)
        changed = volume.clone()
        changed[:, :, 4] = torch.randn(32, 32)
        with torch.no_grad():
            for a, b in zip(volumetric(volume), volumetric(changed)):
                assert a.shape[2] == 9
                moved = (a - b).abs().amax(dim=(0, 1, 3, 4)) > 0
                assert moved.nonzero().flatten().tolist() == list(range(4 - reach, 5 + reach))


@pytest.mark.parametrize("rule", RULES)
def test_single_slice_is_2d_under_every_rule(rule):
    flat = backbone_2d("mobilenet_v2")
    plan = DepthPlan.from_spacing(None, (1, 64, 64), flat)
    volumetric, _ = convert(flat, rule, 3, plan, "repeat")
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for expected, found in zip(flat(image), volumetric(image.unsqueeze(2))):
            torch.testing.assert_close(found.squeeze(2), expected, rtol=1e-3, atol=1e-4)


def test_depth_plan_under_the_slice_rules():
    flat = backbone_2d("resnet18")
    thick = DepthPlan.from_spacing((0.5, 0.5, 3), (9, 128, 128), flat)  # joins at the third of six levels
    encoder, stack = thick.for_rule("slice-encoder"), thick.for_rule("slice-stack")
    assert (encoder.kernels, encoder.strides, encoder.decoder_kernels) == ((1,) * 6, (1,) * 5, (1, 1, 3, 3, 3, 3))
    assert (stack.kernels, stack.strides, stack.decoder_kernels) == ((3, 1, 1, 1, 1, 1), (1,) * 5, (1,) * 6)
    assert encoder.for_rule("slice-encoder") == encoder and stack.for_rule("slice-stack") == stack
    assert thick.for_rule("acs") is thick and thick.decoder_kernels == thick.kernels
    single = DepthPlan.from_spacing(None, (1, 64, 64), flat)
    for rule in RULES:
        assert set(single.for_rule(rule).kernels + single.for_rule(rule).decoder_kernels) == {1}


def test_rules_that_have_no_2d_source_are_refused():
    with pytest.raises(InputError, match=r"'native' of a 2D backbone.*inflate"):
        convert(backbone_2d("resnet18"), "native", 1, isotropic("resnet18"))
    with pytest.raises(InputError, match=r"input_channels 'grey'.*mean, sum, repeat"):
        convert(backbone_2d("resnet18"), "inflate", 1, isotropic("resnet18"), "grey")
    changed = copy.deepcopy(backbone_2d("resnet18"))
    changed.adapter = nn.Conv2d(1, 1, 1)
    with pytest.raises(InputError, match=r"adapter.*Merge or remove"):
        convert(changed, "inflate", 1, isotropic("resnet18"))


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
