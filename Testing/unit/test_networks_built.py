"""Segmentation and classification networks, and their description as data."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from XTLLib.errors import InputError
from XTLLib.networks.backbones import BACKBONES, build_backbone
from XTLLib.networks.build import build_network, convert_network
from XTLLib.networks.classification import ClassificationNetwork
from XTLLib.networks.layout import to_fast_layout
from XTLLib.networks.segmentation import SegmentationNetwork
from XTLLib.networks.spec import NetworkSpec

torch.set_num_threads(1)


def segmentation_spec(backbone: str = "mobilenet_v2", **changes) -> NetworkSpec:
    return NetworkSpec(**{"kind": "segmentation", "backbone": backbone, "conversion": "inflate", **changes})


def patch_spec(backbone: str = "mobilenet_v2", **changes) -> NetworkSpec:
    settings = {"in_channels": 4, "spacing_mm": (0.5, 0.5, 3), "patch_shape": (1, 32, 32), "input_scale": 2.0}
    settings = {"kind": "classification", "backbone": backbone, "conversion": "inflate", **settings, **changes}
    return NetworkSpec(**settings)


@pytest.mark.parametrize("name", BACKBONES)
def test_segmentation_trains_every_parameter(name):
    torch.manual_seed(0)
    network = to_fast_layout(build_network(segmentation_spec(name, in_channels=2))).train()
    logits = network(to_fast_layout(torch.randn(2, 2, 32, 32, 32)))
    assert logits.shape == (2, 1, 32, 32, 32) and logits.dtype == torch.float32
    logits.square().mean().backward()
    idle = [key for key, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert idle == []


@pytest.mark.parametrize("name", BACKBONES)
def test_classification_of_one_slice_patches_trains_every_parameter(name):
    torch.manual_seed(0)
    network = build_network(patch_spec(name, dropout=0.1)).train()
    logits = network(torch.randn(3, 4, 1, 32, 32))
    assert logits.shape == (3, 1)
    logits.square().mean().backward()
    idle = [key for key, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert idle == []


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, size) for name in ("mobilenet_v2", "squeezenet1_0") for size in ((33, 47, 64), (70, 31, 5))),
        ("mobilenet_v2", (1, 40, 40)),
        ("resnet18", (35, 41, 33)),
        ("densenet121", (35, 41, 33)),
        ("vgg16_bn", (19, 25, 17)),
    ],
)
def test_segmentation_takes_any_size(name, size):
    network = build_network(segmentation_spec(name, in_channels=1)).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 1, *size)).shape == (1, 1, *size)


def test_short_axes_are_padded_with_zeros_at_the_end():
    network = build_network(segmentation_spec()).eval()
    assert network.size_multiple == (32, 32, 32)
    image = torch.randn(1, 3, 20, 32, 7)
    with torch.no_grad():
        padded = network(F.pad(image, (0, 25, 0, 0, 0, 12)))
        torch.testing.assert_close(network(image), padded[:, :, :20, :, :7])


def test_segmentation_follows_the_image():
    """Moved by a multiple of the deepest stride, an object's logits move with it: nothing depends on the place."""
    torch.manual_seed(0)
    network = build_network(segmentation_spec("squeezenet1_0", in_channels=1)).eval()
    image = torch.zeros(1, 1, 32, 32, 160)
    image[..., 60:68] = torch.randn(8)
    with torch.no_grad():
        here, there = network(image), network(image.roll(16, dims=-1))
    torch.testing.assert_close(here[..., 52:76], there[..., 68:92], rtol=1e-3, atol=1e-4)
    assert float(here[..., 52:76].std()) > 1e-4


def test_mammogram_network_is_two_dimensional():
    source = build_backbone("mobilenet_v2")
    network, report = convert_network(NetworkSpec("mammogram-classification", "mobilenet_v2"), source)
    assert network.eval()(torch.randn(2, 3, 64, 64)).shape == (2, 1)
    assert report.rule == "none" and report.max_relative_error == 0
    assert report.carried_share == pytest.approx(2_223_872 / (2_223_872 + 1281))
    assert network.backbone is not source


def test_input_scale_is_linear_interpolation_in_plane():
    torch.manual_seed(0)
    backbone = build_backbone("resnet18").eval()
    enlarged = ClassificationNetwork(backbone, input_scale=3).eval()
    plain = ClassificationNetwork(backbone).eval()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = plain.features(F.interpolate(image, scale_factor=3, mode="bilinear", align_corners=False))
        torch.testing.assert_close(enlarged.features(image), expected)


def test_patch_network_of_one_slice_sees_what_the_2d_network_sees():
    torch.manual_seed(0)
    source = build_backbone("resnet18").eval()
    network, report = convert_network(patch_spec("resnet18"), source)
    grey = torch.randn(2, 1, 32, 32)
    flat = ClassificationNetwork(source, input_scale=2.0).eval()
    with torch.no_grad():
        expected = flat.features(grey.expand(2, 3, 32, 32))
        found = network.eval().features(grey.unsqueeze(2).expand(2, 4, 1, 32, 32))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert report.depth_strides == (1, 1, 1, 1, 1)


def test_input_scale_counts_in_the_depth_plan():
    """0.5 mm enlarged 3 times is 0.17 mm in plane: 3 mm slices join only at the fifth level (2.7 mm)."""
    spec = patch_spec("resnet18", patch_shape=(9, 32, 32), input_scale=3.0)
    assert build_network(spec).backbone.plan.strides == (1, 1, 1, 1, 2)


@pytest.mark.parametrize(
    "spec", [segmentation_spec(), patch_spec(), NetworkSpec("mammogram-classification", "resnet18")]
)
def test_groups_hold_every_parameter_once(spec):
    network = build_network(spec)
    groups = network.parameter_groups()
    assert set(groups) == {"encoder", "head"}
    grouped = [id(p) for parameters in groups.values() for p in parameters]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())
    assert {id(p) for p in groups["encoder"]} == {id(p) for p in network.backbone.parameters()}


@pytest.mark.parametrize("spec", [segmentation_spec(in_channels=2, spacing_mm=(1, 1, 3)), patch_spec(dropout=0.3)])
def test_description_builds_the_network_again(spec):
    torch.manual_seed(0)
    network, _ = convert_network(spec, build_backbone(spec.backbone))
    again = build_network(NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))))
    again.load_state_dict(network.state_dict())
    image = torch.randn(1, spec.in_channels, *(spec.patch_shape or (32, 32, 32)))
    with torch.no_grad():
        assert torch.equal(again.eval()(image), network.eval()(image))


def test_random_network_differs_from_slice_to_slice_and_repeats_with_the_seed():
    torch.manual_seed(3)
    network = build_network(segmentation_spec())
    kernel = network.backbone.features[1].conv[0][0].weight
    assert not torch.allclose(kernel[:, :, 0], kernel[:, :, 1])
    torch.manual_seed(3)
    again = build_network(segmentation_spec())
    assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "detection"}, "network kind 'detection'.*segmentation"),
        ({"backbone": "resnet34"}, "backbone 'resnet34'.*resnet50"),
        ({"conversion": None}, "conversion None.*'inflate'"),
        ({"kind": "mammogram-classification", "conversion": None, "in_channels": 1}, "in_channels 1.*Give 3"),
        ({"in_channels": 0}, "in_channels 0"),
        ({"dropout": 1.0}, "dropout 1.0"),
        ({"spacing_mm": [1, 1]}, "spacing_mm.*Give 3 positive"),
        ({"spacing_mm": [1, 1, 0]}, "spacing_mm.*Give 3 positive"),
        ({"patch_shape": ["a", 1, 1]}, "bad value"),
        ({"colour": "red"}, "unknown key 'colour'.*backbone"),
    ],
)
def test_bad_description_is_one_clear_error(changes, message):
    with pytest.raises(InputError, match=message):
        NetworkSpec.from_dict({**segmentation_spec().to_dict(), **changes})


def test_bad_combinations_are_one_clear_error():
    with pytest.raises(InputError, match="backbone is missing"):
        NetworkSpec.from_dict({"kind": "segmentation"})
    with pytest.raises(InputError, match=r"16 x 16.*stride 32.*at least 2"):
        build_network(patch_spec(patch_shape=(1, 16, 16), input_scale=1.0))
    with pytest.raises(InputError, match="decoder_channels"):
        build_network(segmentation_spec(decoder_channels=(16, 16)))
    with pytest.raises(InputError, match=r"takes? the weights of the backbone resnet18"):
        convert_network(segmentation_spec(), build_backbone("resnet18"))
    with pytest.raises(InputError, match="Convert it first"):
        SegmentationNetwork(build_backbone("resnet18"))


def test_fast_layout_changes_no_value():
    torch.manual_seed(0)
    network = build_network(segmentation_spec()).eval()
    image = torch.randn(1, 3, 32, 32, 32)
    with torch.no_grad():
        slow = network(image)
        fast = to_fast_layout(network)(to_fast_layout(image))
    torch.testing.assert_close(fast, slow, rtol=1e-3, atol=1e-3)
    assert to_fast_layout(image).is_contiguous(memory_format=torch.channels_last_3d)
    assert to_fast_layout(image[:, :, 0]).is_contiguous(memory_format=torch.channels_last)
    weight = network.backbone.features[0][0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_input_is_centred_and_scaled_before_the_backbone():
    torch.manual_seed(0)
    backbone = build_backbone("resnet18").eval()
    ranks = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = ClassificationNetwork(backbone, input_mean=0.5, input_sd=0.25).features(ranks)
        torch.testing.assert_close(found, ClassificationNetwork(backbone).features(4 * ranks - 2))
    spec = patch_spec("resnet18", input_mean=0.5, input_sd=0.25)
    network = build_network(NetworkSpec.from_dict(spec.to_dict()))
    assert (network.input_mean, network.input_sd) == (0.5, 0.25)
    with pytest.raises(InputError, match="input_sd"):
        patch_spec(input_sd=0.0)
