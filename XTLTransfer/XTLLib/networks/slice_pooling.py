"""How the slices of a volume become one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .spec import SlicePooling

_ATTENTION_CHANNELS = 64


class MeanPooling(nn.Module):
    """The average over all positions, of images and volumes alike."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) or (N, C, D, H, W) -> (N, C)."""
        return x.flatten(2).mean(2)


class MaxPooling(nn.Module):
    """The average in plane, then for each channel the largest value of any slice."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> (N, C)."""
        return x.flatten(3).mean(3).amax(2)


class AttentionPooling(nn.Module):
    """The average in plane, then a mean of the slices whose weights are learned.

    The weights are a softmax over slices of v . tanh(V f), f being a slice's features (Ilse et al., ICML 2018,
    arXiv 1802.04712). v begins at zero, and so the pooling as the mean.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, _ATTENTION_CHANNELS)
        self.score = nn.Linear(_ATTENTION_CHANNELS, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> (N, C)."""
        slices = x.flatten(3).mean(3).transpose(1, 2)
        return (slices * self.weights(slices)).sum(1)

    def weights(self, slices: Tensor) -> Tensor:
        """Features of slices (N, D, C) -> their weights (N, D, 1), which sum to 1 over D."""
        return self.score(torch.tanh(self.hidden(slices))).softmax(1)


def make_slice_pooling(kind: SlicePooling, channels: int) -> nn.Module:
    """The pooling of a kind for a number of channels."""
    if kind == "attention":
        return AttentionPooling(channels)
    return {"mean": MeanPooling, "max": MaxPooling}[kind]()
