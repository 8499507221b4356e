"""ACS convolutions against 2D convolutions of planes, and what a trainer and an exporter ask of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from XTLLib.networks.acs import ACS_RULES, AcsConvolution
from XTLLib.networks.backbones import BACKBONES, build_backbone
from XTLLib.networks.build import build_network
from XTLLib.networks.conversion import convert
from XTLLib.networks.depth_plan import DepthPlan
from XTLLib.networks.spec import NetworkSpec

torch.set_num_threads(1)

VIEWS = {"axial": 2, "coronal": 3, "sagittal": 4}  # the axis of (N, C, D, H, W) that a view does not look along


def made(rule: str, out_channels: int = 7, size: int = 3, stride=(1, 1, 1), groups: int = 1, **options):
    torch.manual_seed(0)
    weight = torch.randn(out_channels, 6 // groups, size, size)
    return AcsConvolution(weight, torch.randn(out_channels), stride, groups, rule, **options)


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("view", VIEWS)
def test_each_view_answers_in_2d_to_what_is_constant_along_its_own_axis(view, size, stride):
    part, axis = made("acs", size=size, stride=stride), VIEWS[view]
    image = torch.randn(1, 6, 12, 10)
    volume = image.unsqueeze(axis).expand(*(-1 if n != axis else 9 for n in range(5)))
    counts = {"axial": slice(0, 3), "coronal": slice(3, 5), "sagittal": slice(5, 7)}[view]
    if size == 1:
        counts = slice(0, 7)  # kernels of size 1 have no plane: all of them answer in every view
    in_view = [step for place, step in enumerate(stride) if place + 2 != axis]
    with torch.no_grad():
        expected = F.conv2d(image, part.weight, part.bias, in_view, size // 2)[:, counts]
        found = part(volume.contiguous())[:, counts]
    assert found.shape[axis] == -(-9 // stride[axis - 2])
    torch.testing.assert_close(found, expected.unsqueeze(axis).expand_as(found), rtol=1e-4, atol=1e-5)


@given(
    rule=st.sampled_from(ACS_RULES),
    out_channels=st.sampled_from((1, 2, 6, 12)),
    groups=st.sampled_from((1, 6)),
    size=st.sampled_from((1, 3, 5)),
    stride=st.sampled_from(((1, 1, 1), (1, 2, 2), (2, 2, 2))),
)
@settings(max_examples=40, deadline=None)
def test_views_one_by_one_and_as_a_cube_are_the_same(rule, out_channels, groups, size, stride):
    out_channels = max(out_channels, groups)
    part = made(rule, out_channels, size, stride, groups).double()
    if part.mixing is not None:
        nn.init.normal_(part.mixing)
    shares = torch.zeros(out_channels, 3, dtype=torch.float64)
    if part.views is not None:
        starts = [0, part.views[0], part.views[0] + part.views[1], out_channels]
        for view in range(3):
            shares[starts[view] : starts[view + 1], view] = 1
    else:
        shares = part.shares()
    volume = torch.randn(2, 6, 5, 6, 7, dtype=torch.float64)
    expected = part.bias[:, None, None, None]
    for view, axis in enumerate((2, 3, 4)):
        padding = [0 if place + 2 == axis else size // 2 for place in range(3)]
        response = F.conv3d(volume, part.weight.unsqueeze(axis), None, stride, padding, 1, groups)
        expected = expected + shares[:, view, None, None, None] * response
    torch.testing.assert_close(part(volume), expected)
    if not part.axial:
        part.as_cube = True
        torch.testing.assert_close(part(volume), expected)


def test_output_channels_are_split_evenly_and_in_order():
    assert made("acs", 7).views == (3, 2, 2)
    assert made("acs", 8).views == (3, 3, 2)
    assert made("acs", 1).views == (1, 0, 0)
    assert made("acs", axial=True).views == made("mean-acs", axial=True).views == (7, 0, 0)
    assert made("soft-acs", axial=True).mixing is None


def test_mixing_begins_as_the_mean_and_can_become_one_view():
    soft, mean = made("soft-acs"), made("mean-acs")
    volume = torch.randn(1, 6, 5, 6, 7)
    with torch.no_grad():
        torch.testing.assert_close(soft(volume), mean(volume))
        soft.mixing[:, 1] = 100.0
        coronal = F.conv3d(volume, soft.weight.unsqueeze(3), soft.bias, padding=(1, 0, 1))
        torch.testing.assert_close(soft(volume), coronal, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
def test_weights_stay_2d(name):
    flat = build_backbone(name)
    plan = DepthPlan.from_spacing(None, None, flat)
    before = flat.state_dict()
    for rule in ACS_RULES:
        volumetric, _ = convert(flat, rule, 3, plan, "repeat", self_test=False)
        state = {key: value for key, value in volumetric.state_dict().items() if not key.endswith(".mixing")}
        assert state.keys() == before.keys()
        assert all(torch.equal(value, before[key]) for key, value in state.items())


@pytest.mark.parametrize("rule", ACS_RULES)
def test_state_dict_round_trip(rule):
    torch.manual_seed(0)
    spec = NetworkSpec("segmentation", "mobilenet_v2", 2, rule)
    network, again = build_network(spec).eval(), build_network(spec).eval()
    for part in network.modules():
        if isinstance(part, AcsConvolution) and part.mixing is not None:
            nn.init.normal_(part.mixing)
    again.load_state_dict(network.state_dict())
    volume = torch.randn(1, 2, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(volume), again(volume))


@pytest.mark.parametrize("rule", ACS_RULES)
def test_kernels_are_axial_where_the_plan_keeps_slices_apart(rule):
    """0.5 x 0.5 x 3 mm joins depth at level 2, which is the first layer of a ResNet; its stem is level 0."""
    flat = build_backbone("resnet18")
    plan = DepthPlan.from_spacing((0.5, 0.5, 3), (9, 128, 128), flat)
    volumetric, _ = convert(flat, rule, 2, plan, self_test=False)
    assert volumetric.conv1.axial and volumetric.conv1.stride == (1, 2, 2)
    assert not volumetric.layer1[0].conv1.axial
    # the stride of level 2 is that of the plan, for all views
    assert volumetric.layer2[0].conv1.stride == (2, 2, 2) and volumetric.layer2[0].downsample[0].axial


@pytest.mark.parametrize("rule", ACS_RULES)
@pytest.mark.parametrize("groups", [1, 6])
def test_gradients_reach_weight_bias_and_mixing(rule, groups):
    part = made(rule, 6, groups=groups).double()
    inputs = [p for p in part.parameters()]
    volume = torch.randn(1, 6, 3, 4, 3, dtype=torch.float64)
    part(volume).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().amax() > 0) for p in inputs)
    if part.mixing is not None:  # against a difference quotient
        step = 1e-6
        with torch.no_grad():
            base = part(volume).square().sum()
            part.mixing[0, 1] += step
            slope = (part(volume).square().sum() - base) / step
        torch.testing.assert_close(part.mixing.grad[0, 1], slope, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning", "error::torch.jit.TracerWarning")
@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("rule", ACS_RULES)
def test_traced_and_exported_convolutions_agree(rule, groups):
    part, volume = made(rule, 6, groups=groups).eval(), torch.randn(1, 6, 5, 6, 7)
    other = torch.randn(1, 6, 5, 8, 9)
    with torch.no_grad():
        traced = torch.jit.trace(part, volume)
        torch.testing.assert_close(traced(other), part(other))
        free = {0: None, 1: None, 2: None, 3: torch.export.Dim("rows", min=4), 4: torch.export.Dim("columns", min=4)}
        exported = torch.export.export(part, (volume,), dynamic_shapes=(free,)).module()
        torch.testing.assert_close(exported(other), part(other))


def test_kernels_that_are_not_square_are_refused():
    with pytest.raises(ValueError, match="ACS convolution"):
        AcsConvolution(torch.zeros(2, 2, 3, 5), None, (1, 1, 1))
