"""The memory layout in which 3D convolutions are fast."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T", Tensor, nn.Module)


def to_fast_layout(x: T) -> T:
    """A tensor or a module with its channels innermost: (N,C,D,H,W) and (N,C,H,W) tensors, and weights.

    The values, shapes and the meaning of indices stay the same. On CPU a depthwise 3D convolution of
    torch 2.13 is some 30 times slower in the default layout. A module is changed in place and returned.
    """
    if isinstance(x, nn.Module):
        for parameter in x.parameters():
            parameter.data = to_fast_layout(parameter.data)
        return x
    if x.ndim == 5:
        return x.contiguous(memory_format=torch.channels_last_3d)
    if x.ndim == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x
