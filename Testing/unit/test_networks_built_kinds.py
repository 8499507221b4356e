"""Networks of every conversion and kind: training, export, slice pooling, later volumetric stages."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from XTLLib.errors import InputError
from XTLLib.networks.backbones import build_backbone
from XTLLib.networks.build import build_network, convert_network
from XTLLib.networks.classification import ClassificationNetwork
from XTLLib.networks.flatten import flatten_backbone
from XTLLib.networks.layout import to_fast_layout
from XTLLib.networks.native import native_backbone
from XTLLib.networks.slice_pooling import AttentionPooling, MaxPooling
from XTLLib.networks.spec import CONVERSIONS, NetworkSpec

torch.set_num_threads(1)

KINDS = ("segmentation", "classification", "reconstruction", "projection")


def spec_of(
    kind: str = "segmentation", rule: str = "inflate", backbone: str = "squeezenet1_0", **changes
) -> NetworkSpec:
    settings = {"in_channels": 2, "out_channels": 2, "patch_shape": (8, 32, 32), "projection_channels": 5}
    return NetworkSpec(kind, backbone, conversion=rule, **{**settings, **changes})


def idle_parameters(network: nn.Module) -> list[str]:
    return [
        key
        for key, p in network.named_parameters()
        if p.grad is None or not torch.isfinite(p.grad).all() or not p.grad.any()
    ]


@pytest.mark.parametrize("rule", CONVERSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_every_rule_trains_every_parameter(kind, rule):
    torch.manual_seed(0)
    network = to_fast_layout(build_network(spec_of(kind, rule))).train()
    output = network(to_fast_layout(torch.randn(2, 2, 8, 32, 32)))
    expected = {"classification": (2, 2), "projection": (2, 5)}.get(kind, (2, 2, 8, 32, 32))
    assert output.shape == expected and output.dtype == torch.float32
    (output * torch.randn(expected)).sum().backward()
    assert idle_parameters(network) == []


@pytest.mark.parametrize("rule", CONVERSIONS)
@pytest.mark.parametrize("backbone", ["mobilenet_v2", "resnet18"])
def test_conversions_of_other_backbones_train_every_parameter(backbone, rule):
    torch.manual_seed(0)
    network = build_network(spec_of("classification", rule, backbone)).train()
    (network(torch.randn(2, 2, 8, 32, 32)) * torch.randn(2, 2)).sum().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("rule", CONVERSIONS)
def test_traced_and_exported_networks_agree(rule):
    torch.manual_seed(0)
    volume, other = torch.randn(1, 2, 8, 32, 32), torch.randn(1, 2, 8, 32, 32)
    for spec in (spec_of("segmentation", rule), spec_of("classification", rule, slice_pooling="attention")):
        network = build_network(spec).eval()
        with torch.no_grad():
            traced = torch.jit.trace(network, volume, check_trace=False)
            torch.testing.assert_close(traced(other), network(other), rtol=1e-4, atol=1e-4)
    if rule in ("inflate", "acs", "soft-acs"):
        with torch.no_grad():
            exported = torch.export.export(network, (volume,)).module()
            torch.testing.assert_close(exported(other), network(other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rule", CONVERSIONS)
def test_description_builds_the_same_network(rule):
    spec = spec_of("segmentation", rule, input_channels="sum", spacing_mm=(1, 1, 3))
    torch.manual_seed(0)
    source = native_backbone(spec.backbone) if rule == "native" else build_backbone(spec.backbone)
    network, report = convert_network(spec, source)
    again = build_network(NetworkSpec.from_dict(spec.to_dict()))
    again.load_state_dict(network.state_dict())
    volume = torch.randn(1, 2, 8, 32, 32)
    with torch.no_grad():
        assert torch.equal(again.eval()(volume), network.eval()(volume))
    assert (report.rule, report.input_channels) == (rule, "sum") and report.max_relative_error < 1e-4
    assert report.parameters == sum(p.numel() for p in network.parameters())
    extra = sum(p.numel() for key, p in network.backbone.named_parameters() if key.endswith(".mixing"))
    carried = sum(p.numel() for p in network.backbone.parameters()) - extra
    assert report.carried_share == pytest.approx(carried / report.parameters)


def test_description_of_an_older_bundle_is_read_as_it_was_meant():
    old = {"kind": "segmentation", "backbone": "resnet18", "conversion": "inflate", "in_channels": 2}
    spec = NetworkSpec.from_dict(old)
    assert (spec.input_channels, spec.slice_pooling) == ("mean", "mean")
    keys = {key.partition(".")[0] for key in build_network(spec).state_dict()}
    assert keys == {"backbone", "decoder"}
    assert {key.partition(".")[0] for key in build_network(spec_of("classification")).state_dict()} == {
        "backbone",
        "head",
    }


@pytest.mark.parametrize(
    ("rule", "multiple", "kernels"),
    [("slice-encoder", (1, 16, 16), {3}), ("slice-stack", (1, 16, 16), {1}), ("acs", (16, 16, 16), {3})],
)
def test_decoders_mix_depth_as_the_rule_says(rule, multiple, kernels):
    network = build_network(spec_of(rule=rule, patch_shape=None))
    assert network.size_multiple == multiple
    assert {block[0].kernel_size[0] for block in network.decoder.blocks.values()} == kernels
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 2, 5, 33, 30)).shape == (1, 2, 5, 33, 30)


def test_native_decoders_have_small_kernels():
    network = build_network(spec_of(rule="native", patch_shape=None, backbone="resnet18"))
    assert network.backbone.conv1.kernel_size == (7, 7, 7)
    assert max(p.shape[2] for p in network.decoder.parameters() if p.ndim == 5) == 3


# --- slice pooling ------------------------------------------------------------------------------------


def test_largest_slice_and_mean_slice():
    features = torch.tensor([[[1.0, 5.0, 3.0], [0.0, -2.0, -4.0]]]).reshape(1, 2, 3, 1, 1).expand(-1, -1, -1, 2, 2)
    assert MaxPooling()(features).tolist() == [[5, 0]]
    attention = AttentionPooling(2)
    torch.testing.assert_close(attention(features), torch.tensor([[3.0, -2.0]]))  # it begins as the mean


def test_attention_follows_its_scores():
    torch.manual_seed(0)
    attention = AttentionPooling(4)
    nn.init.normal_(attention.score.weight)
    features = torch.randn(3, 4, 6, 2, 2)
    slices = features.mean(dim=(3, 4)).transpose(1, 2)
    scores = torch.tanh(slices @ attention.hidden.weight.T + attention.hidden.bias) @ attention.score.weight[0]
    expected = torch.einsum("nd,ndc->nc", scores.exp() / scores.exp().sum(1, keepdim=True), slices)
    torch.testing.assert_close(attention(features), expected)
    assert attention.weights(slices).sum(1).flatten().tolist() == pytest.approx([1, 1, 1])
    order = torch.randperm(6)
    torch.testing.assert_close(attention(features[:, :, order]), attention(features))


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_slice_encoder_pools_the_features_of_single_slices(pooling):
    torch.manual_seed(0)
    source = build_backbone("resnet18").eval()
    spec = spec_of("classification", "slice-encoder", "resnet18", slice_pooling=pooling, patch_shape=(5, 64, 64))
    network, _ = convert_network(spec, source)
    volume = torch.randn(1, 2, 5, 64, 64)
    slices = volume[0].transpose(0, 1).mean(1, keepdim=True).expand(-1, 3, -1, -1)
    with torch.no_grad():
        single = ClassificationNetwork(source).eval().features(slices)
        expected = single.amax(0) if pooling == "max" else single.mean(0)
        torch.testing.assert_close(network.eval().features(volume)[0], expected, rtol=1e-3, atol=1e-4)
    groups = network.parameter_groups()
    grouped = [id(p) for parameters in groups.values() for p in parameters]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())


def test_attention_is_trained_with_the_head():
    network = build_network(spec_of("classification", "slice-encoder", slice_pooling="attention")).train()
    nn.init.normal_(network.slice_pooling.score.weight)
    (network(torch.randn(2, 2, 8, 32, 32)) * torch.randn(2, 2)).sum().backward()
    assert idle_parameters(network) == []
    head = {id(p) for p in network.parameter_groups()["head"]}
    assert {id(p) for p in network.slice_pooling.parameters()} <= head


# --- kinds of self-supervision, and 2D stages on volumetric networks ----------------------------------


def test_projection_is_two_layers_on_the_average():
    torch.manual_seed(0)
    network = build_network(spec_of("projection", projection_channels=128)).eval()
    volume = torch.randn(3, 2, 8, 32, 32)
    hidden, last = network.head.hidden, network.head.linear
    with torch.no_grad():
        average = network.backbone(volume)[-1].mean(dim=(2, 3, 4))
        expected = F.linear(F.linear(average, hidden.weight, hidden.bias).relu(), last.weight, last.bias)
        torch.testing.assert_close(network(volume), expected, rtol=1e-4, atol=1e-4)
    assert expected.shape == (3, 128) and hidden.weight.shape == (512, 512)
    single = build_network(spec_of("projection", patch_shape=(1, 32, 32))).eval()
    assert single(torch.randn(2, 2, 1, 32, 32)).shape == (2, 5)


def test_reconstruction_begins_around_zero():
    torch.manual_seed(0)
    network = build_network(spec_of("reconstruction", in_channels=3, out_channels=3)).eval()
    assert not network.decoder.output.bias.any()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 8, 32, 32)).shape == (1, 3, 8, 32, 32)


def test_mammogram_classes():
    network = build_network(NetworkSpec("mammogram-classification", "squeezenet1_0", out_channels=4))
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 4)


def test_2d_stage_with_a_decoder_gives_its_backbone_back():
    """2D -> one slice, segmentation -> 2D -> mammogram classification: the weights and statistics travel."""
    torch.manual_seed(0)
    source = build_backbone("mobilenet_v2").eval()
    spec = spec_of(
        "segmentation", "inflate", "mobilenet_v2", in_channels=3, patch_shape=(1, 64, 64), input_channels="repeat"
    )
    network, report = convert_network(spec, source)
    assert report.depth_kernels == (1,) * 6
    network.train()(torch.randn(2, 3, 1, 64, 64)).mean().backward()  # statistics follow the new images
    back = flatten_backbone(network.backbone)
    flat, report = convert_network(NetworkSpec("mammogram-classification", "mobilenet_v2"), back)
    assert report.rule == "none"
    state = flat.backbone.state_dict()
    for key, value in network.backbone.state_dict().items():
        assert torch.equal(state[key].flatten(), value.flatten()), key
    assert not torch.equal(state["features.0.1.running_mean"], source.features[0][1].running_mean)


# --- later volumetric stages --------------------------------------------------------------------------


@pytest.mark.parametrize("rule", CONVERSIONS)
def test_volumetric_stages_in_a_row(rule):
    torch.manual_seed(0)
    source = native_backbone("squeezenet1_0") if rule == "native" else build_backbone("squeezenet1_0")
    first, _ = convert_network(spec_of("reconstruction", rule, in_channels=1, out_channels=1), source)
    second, report = convert_network(spec_of("segmentation", rule, spacing_mm=(0.5, 0.5, 3)), first.backbone)
    assert report.source == "volumetric" and report.max_relative_error < 1e-4 and report.rule == rule
    third, _ = convert_network(spec_of("classification", rule, patch_shape=(1, 32, 32)), second.backbone)
    assert third.backbone.in_channels == 2 and third(torch.randn(2, 2, 1, 32, 32)).shape == (2, 2)
    assert first.backbone.in_channels == 1  # sources are left as they are


def test_sources_that_do_not_fit():
    flat = build_backbone("squeezenet1_0")
    inflated = build_network(spec_of()).backbone
    with pytest.raises(
        InputError, match=r"converted by acs cannot take.*volumetric by inflate.*Set the conversion to inf"
    ):
        convert_network(spec_of(rule="acs"), inflated)
    with pytest.raises(InputError, match=r"mammogram-classification cannot take.*volumetric"):
        convert_network(NetworkSpec("mammogram-classification", "squeezenet1_0"), inflated)
    with pytest.raises(InputError, match=r"'native' of a 2D backbone"):
        convert_network(spec_of(rule="native"), flat)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conversion": "stretch"}, r"conversion 'stretch'.*'slice-encoder'"),
        ({"input_channels": "grey"}, r"input_channels 'grey'.*mean, sum, repeat"),
        ({"slice_pooling": "median"}, r"slice_pooling 'median'.*attention"),
        ({"slice_pooling": "max"}, r"slice_pooling max of a network of kind segmentation"),
        ({"kind": "reconstruction", "in_channels": 4}, r"out_channels 1 of a reconstruction.*Give 4"),
        ({"projection_channels": 0}, "projection_channels 0"),
        ({"kind": "mammogram-classification"}, r"conversion 'inflate'.*Give None"),
    ],
)
def test_bad_description_is_one_clear_error(changes, message):
    good = {"kind": "segmentation", "backbone": "resnet18", "conversion": "inflate"}
    NetworkSpec.from_dict(good)
    with pytest.raises(InputError, match=message):
        NetworkSpec.from_dict({**good, **changes})
