"""The layer groups of a network, from its input to its head: what fine-tuning freezes, frees and rates apart."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from ..errors import InputError
from .backbones import Backbone, SequentialBackbone
from .branches import branches_of

HEAD = "head"
Grouping = Literal["levels", "three"]


@dataclass(frozen=True, eq=False)
class LayerGroup:
    """Layers that are trained alike.

    Attributes
    ----------
    name : "stem", "level1", ... or "early", "late"; "head" for the last group.
    modules : what the group holds, in the order in which an image meets it.
    parameters : of these modules, in their order; every parameter of a network is in one group.
    """

    name: str
    modules: tuple[nn.Module, ...]
    parameters: tuple[nn.Parameter, ...]


def layer_groups(network: nn.Module, grouping: Grouping = "levels") -> tuple[LayerGroup, ...]:
    """The groups of a network that has a ``backbone``, from the input to the head.

    The last group, "head", is all that is not backbone: the classifier with its pooling, or the decoder. The
    names are those of 2D and volumetric networks alike, under any conversion rule.

    grouping "levels": "stem", then "level1", "level2", ... for every halving in plane that follows.

    ===============  ===========  =========  ===========  ===========  ===========
    backbone         stem         level1     level2       level3       level4
    ===============  ===========  =========  ===========  ===========  ===========
    resnet18, 50     conv1, bn1   layer1     layer2       layer3       layer4
    densenet121      conv0-norm0  block 1    transition   transition   transition
                                             1, block 2   2, block 3   3, block 4,
                                                                       norm5
    vgg16_bn         features     6-12       13-22        23-32        33-42
                     0-5
    mobilenet_v2     0-1          2-3        4-6          7-13         14-18
    squeezenet1_0    0-1          2-5        6-10         11-12
    ===============  ===========  =========  ===========  ===========  ===========

    grouping "three": "early", "late" and "head". "early" ends with "level2", or with "level1" where there are
    three levels only. For densenet121 and resnet50 these are the groups of the code of Romero et al. 2020
    (Med Phys 47:6246): ``features[:7]`` and ``features[7:]``; conv1 to layer2, and layer3 to layer4.

    A backbone that is none of ``BACKBONES`` is one group, "encoder". Of late fusion, a group has the layers of all
    branches.
    """
    backbone = network.backbone
    branches = branches_of(backbone)
    stages = [[m for stage in alike for m in stage] for alike in zip(*map(_stages, branches), strict=True)]
    if not isinstance(branches[0], Backbone):
        parts = [("encoder", stages)]
    elif grouping == "levels":
        parts = [(f"level{number}" if number else "stem", [stage]) for number, stage in enumerate(stages)]
    elif grouping == "three":
        middle = (len(stages) + 1) // 2
        parts = [("early", stages[:middle]), ("late", stages[middle:])]
    else:
        raise InputError(f"the layer groups {grouping!r}", "Choose levels or three")
    groups = [_group(name, [module for stage in members for module in stage]) for name, members in parts]
    rest = [module for module in network.children() if module is not backbone]
    return (*groups, _group(HEAD, rest))


def require_group_names(names: Iterable[str], groups: Sequence[LayerGroup], parameter: str) -> None:
    """Raise InputError, with the nearest name, unless every name is one of the groups'."""
    known = [group.name for group in groups]
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1, 0.0)[0]
            raise InputError(
                f"{parameter}: there is no layer group {name}; the groups are {', '.join(known)}",
                f"The nearest is {nearest}",
            )


def _stages(backbone: nn.Module) -> Iterator[list[nn.Module]]:
    """The modules of each stage of a backbone, finest first."""
    if isinstance(backbone, SequentialBackbone):
        layers, first = list(backbone.features), 0
        for end in backbone._ends:
            yield layers[first : end + 1]
            first = end + 1
    elif isinstance(backbone, Backbone):  # a ResNet
        yield [backbone.conv1, backbone.bn1, backbone.relu]
        yield [backbone.maxpool, backbone.layer1]
        yield from ([backbone.layer2], [backbone.layer3], [backbone.layer4])
    else:
        yield [backbone]


def _group(name: str, modules: list[nn.Module]) -> LayerGroup:
    parameters = dict.fromkeys(parameter for module in modules for parameter in module.parameters())
    return LayerGroup(name, tuple(modules), tuple(parameters))
