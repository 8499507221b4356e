"""Layer groups: which layers they hold, under which name, on every backbone and network."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from XTLLib.errors import InputError
from XTLLib.networks.backbones import BACKBONES, build_backbone
from XTLLib.networks.build import build_network
from XTLLib.networks.groups import layer_groups, require_group_names
from XTLLib.networks.spec import CONVERSIONS, KINDS, NetworkSpec

torch.set_num_threads(1)

LEVELS = {name: ["stem", "level1", "level2", "level3", "level4", "head"] for name in BACKBONES}
LEVELS["squeezenet1_0"] = ["stem", "level1", "level2", "level3", "head"]


def network_of(spec: NetworkSpec) -> nn.Module:
    with torch.device("meta"):  # parameters without values
        return build_network(spec)


class Classifier(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(2, 1)


@pytest.mark.parametrize(
    ("name", "kind"), [(name, "classification") for name in BACKBONES] + [("resnet18", kind) for kind in KINDS]
)
def test_every_parameter_is_in_one_group(name, kind):
    channels = 1 if kind == "reconstruction" else 3
    rules = CONVERSIONS if kind == "segmentation" and name == "resnet18" else ("soft-acs",)
    for rule in rules if kind != "mammogram-classification" else (None,):
        network = network_of(NetworkSpec(kind, name, channels, rule, adapters=2))
        for grouping in ("levels", "three"):
            groups = layer_groups(network, grouping)
            grouped = [id(parameter) for group in groups for parameter in group.parameters]
            assert sorted(grouped) == sorted(map(id, network.parameters()))
            assert len(groups[-1].parameters) == len(list(network.parameters())) - len(
                list(network.backbone.parameters())
            )
            names = [group.name for group in groups]
            assert names == (LEVELS[name] if grouping == "levels" else ["early", "late", "head"])


@pytest.mark.parametrize("name", BACKBONES)
def test_a_level_is_what_a_stage_needs_beyond_those_before(name):
    """The gradient of a stage's output reaches its own group and those before it, and no other."""
    network = Classifier(build_backbone(name).eval())
    groups = layer_groups(network)[:-1]
    stages = network.backbone(torch.randn(1, 3, 32, 32))
    for number, stage in enumerate(stages):
        network.zero_grad()
        stage.sum().backward(retain_graph=True)
        for place, group in enumerate(groups):
            reached = {parameter.grad is not None for parameter in group.parameters}
            assert reached == {place <= number}, (number, group.name)


@pytest.mark.parametrize(
    ("name", "layers", "cut"),
    [("densenet121", lambda b: b.features.children(), 7), ("resnet50", nn.Module.children, 6)],
)
def test_three_groups_are_those_of_romero_2020(name, layers, cut):
    """densenet121: features[:7], features[7:]; resnet50: conv1, bn1, relu, maxpool, layer1, layer2, and the rest."""
    with torch.device("meta"):
        network = Classifier(build_backbone(name))
    layers = list(layers(network.backbone))
    early, late, head = layer_groups(network, "three")
    for group, members in ((early, layers[:cut]), (late, layers[cut:])):
        assert [id(p) for p in group.parameters] == [id(p) for layer in members for p in layer.parameters()]
    assert [id(p) for p in head.parameters] == [id(p) for p in network.head.parameters()]


def test_a_wrong_name_is_refused_with_the_nearest():
    with torch.device("meta"):
        network = Classifier(build_backbone("resnet18"))
    groups = layer_groups(network)
    require_group_names(["stem", "head"], groups, "frozen")
    with pytest.raises(InputError, match=r"frozen: there is no layer group layer2; .*stem, level1.* nearest is level2"):
        require_group_names(["layer2"], groups, "frozen")
    with pytest.raises(InputError, match="Choose levels or three"):
        layer_groups(network, "four")
