"""Late fusion of channels: one backbone for each group of them, whose features are put side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .backbones import Backbone
from .layout import to_fast_layout


class Branches(nn.Module):
    """Volumetric backbones of one kind, each of which sees its own channels of the input.

    What is done to the modules of a backbone (BatchNorm policies, fine-tuning, folding) is done to all of them.

    Parameters
    ----------
    branches : one for each group, of as many channels. groups : indices of the input's channels.

    Attributes
    ----------
    name : of the backbones. in_channels : of the whole input.
    stage_channels, stage_strides : of the one stage that it gives, the deepest one of all branches together.
    """

    def __init__(self, branches: Sequence[Backbone], groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.groups = tuple(tuple(group) for group in groups)
        self.name = branches[0].name
        self.in_channels = sum(len(group) for group in self.groups)
        self.stage_channels = (sum(branch.stage_channels[-1] for branch in branches),)
        self.stage_strides = (branches[0].stage_strides[-1],)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, D, H, W) -> the deepest stages of all branches, one behind the other along the channels."""
        parts = (x[:, list(group)] for group in self.groups)
        return [torch.cat([branch(to_fast_layout(part))[-1] for branch, part in zip(self.branches, parts)], dim=1)]


def branches_of(backbone: nn.Module) -> tuple[nn.Module, ...]:
    """The backbones of a network, of which there is one unless its channels are fused late."""
    return tuple(backbone.branches) if isinstance(backbone, Branches) else (backbone,)
