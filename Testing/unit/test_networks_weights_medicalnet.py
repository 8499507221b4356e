"""3D-native weights: the same function as a reference network written here from the paper's description.

He et al. 2016 in three dimensions as MedicalNet lays it out (Chen et al. 2019, arXiv 1904.00625): 7x7x7 stem,
3x3x3 max pooling, four layers of basic or bottleneck blocks, shortcut type A (no weights) or B.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from XTLLib.errors import InputError
from XTLLib.networks.initialisation import initialise_backbone
from XTLLib.networks.normalisation import batchnorms, is_folded, recalibrate_batchnorm

torch.set_num_threads(1)


class ZeroPaddedShortcut(nn.Module):
    """Type A: every stride-th voxel, and channels of zeros."""

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels, self.stride = out_channels, stride

    def forward(self, x):
        x = x[:, :, :: self.stride, :: self.stride, :: self.stride]
        return torch.cat([x, x.new_zeros(len(x), self.out_channels - x.shape[1], *x.shape[2:])], 1)


class ReferenceBlock(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, deep: bool, kind: str) -> None:
        super().__init__()
        out = 4 * width if deep else width
        plan = [(1, 1), (3, stride), (1, 1)] if deep else [(3, stride), (3, 1)]
        widths = [channels, width, width, out] if deep else [channels, width, out]
        self.count = len(plan)
        for number, (size, step) in enumerate(plan, start=1):
            conv = nn.Conv3d(widths[number - 1], widths[number], size, step, size // 2, bias=False)
            setattr(self, f"conv{number}", conv)
            setattr(self, f"bn{number}", nn.BatchNorm3d(widths[number]))
        if stride == 1 and channels == out:
            self.downsample = nn.Identity()
        elif kind == "A":
            self.downsample = ZeroPaddedShortcut(out, stride)
        else:
            self.downsample = nn.Sequential(nn.Conv3d(channels, out, 1, stride, bias=False), nn.BatchNorm3d(out))

    def forward(self, x):
        y = x
        for number in range(1, self.count + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            if number < self.count:
                y = F.relu(y)
        return F.relu(y + self.downsample(x))


class ReferenceResNet(nn.Module):
    """With stride 2 in the third and fourth layer, where MedicalNet dilates: dilation changes no tensor."""

    def __init__(self, repeats: tuple[int, ...], deep: bool, kind: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        channels = 64
        for number, count in enumerate(repeats, start=1):
            width, blocks = 32 * 2**number, []
            for index in range(count):
                blocks.append(ReferenceBlock(channels, width, 2 if number > 1 and index == 0 else 1, deep, kind))
                channels = 4 * width if deep else width
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.conv_seg = nn.Sequential(nn.ConvTranspose3d(channels, 32, 2, 2), nn.BatchNorm3d(32))

    def forward(self, x):
        stages = [F.relu(self.bn1(self.conv1(x)))]
        x = F.max_pool3d(stages[0], 3, 2, 1)
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
            stages.append(x)
        return stages


def reference(name: str, kind: str) -> ReferenceResNet:
    torch.manual_seed(0)
    network = ReferenceResNet((2, 2, 2, 2) if name == "resnet18" else (3, 4, 6, 3), name == "resnet50", kind)
    for norm in (part for part in network.modules() if isinstance(part, nn.BatchNorm3d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
        nn.init.normal_(norm.running_mean, std=0.2)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return network.eval()


def saved(tmp_path, network: nn.Module):
    path = tmp_path / "resnet_23dataset.pth"
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state, "optimizer": {"state": {}}}, path)
    return path


def start(path, name, **options):
    return initialise_backbone(name, weights=str(path), layout="medicalnet", seed=1, **options)


@pytest.mark.parametrize(("name", "kind"), [("resnet18", "A"), ("resnet18", "B"), ("resnet50", "B"), ("resnet50", "A")])
def test_same_function_as_the_reference(tmp_path, name, kind):
    network = reference(name, kind)
    backbone, report = start(saved(tmp_path, network), name)
    assert (backbone.in_channels, backbone.plan is None) == (1, False)
    assert backbone.conv1.weight.shape == (64, 1, 7, 7, 7)
    assert (report.matched, report.missing, report.mismatched) == (report.needed, (), ())
    assert all(key.startswith("module.conv_seg.") for key in report.unexpected) and report.unexpected
    assert any("dilates" in note for note in report.notes)
    assert any("type A" in note for note in report.notes) is (kind == "A")
    assert "MIT" in report.licence
    volume = torch.randn(2, 1, 33, 40, 48)
    with torch.no_grad():
        expected, found = network(volume), backbone.eval()(volume)
    assert [tuple(stage.shape) for stage in found] == [tuple(stage.shape) for stage in expected]
    for a, b in zip(expected, found):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)


def test_shortcuts_without_weights_get_statistics_before_they_are_trained(tmp_path):
    """Their BatchNorm is the identity; in training it would scale the shortcut, were it not recalibrated."""
    backbone, report = start(saved(tmp_path, reference("resnet18", "A")), "resnet18")
    assert report.folded_batchnorm and is_folded(backbone)
    volume = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        before = [stage.clone() for stage in backbone.eval()(volume)]
        recalibrate_batchnorm(backbone, [volume])
        after = backbone(volume)
    for a, b in zip(before, after):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-3)
    assert all((norm.running_var != 1).any() for norm in batchnorms(backbone))


def test_network_with_statistics_of_its_own_is_not_folded(tmp_path):
    assert not start(saved(tmp_path, reference("resnet18", "B")), "resnet18")[1].folded_batchnorm


def test_wrong_layout_or_backbone_is_refused_with_the_right_one(tmp_path):
    path = saved(tmp_path, reference("resnet18", "A"))
    with pytest.raises(InputError, match="It fits resnet18 with layout: medicalnet"):
        initialise_backbone("resnet18", weights=str(path), seed=0)
    with pytest.raises(InputError, match=r"does not fit resnet50: .*It fits resnet18; name that backbone"):
        start(path, "resnet50")
    with pytest.raises(InputError, match=r"layout medicalnet for the backbone vgg16_bn. Choose resnet18 or resnet50"):
        start(path, "vgg16_bn")
    flat, _ = initialise_backbone("resnet18", weights="random", seed=0)
    torch.save(flat.state_dict(), path)
    with pytest.raises(InputError, match="It fits resnet18 with layout: torchvision"):
        start(path, "resnet18")
