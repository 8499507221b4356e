"""2D convolution kernels as kernels of volumes, and of other input channels.

Every function keeps the sum of a kernel over its depth planes, so that an input that is constant along
depth gets the response of the kernel it came from. Kernels are (O, I, kh, kw) in 2D and (O, I, planes, kh, kw)
in 3D: output channels, input channels of a group, depth, rows, columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .spec import InputChannels

_RGB = 3


def adapt_input_channels(weight: Tensor, in_channels: int, rule: InputChannels = "mean") -> Tensor:
    """First kernels (O, S, ...) of S source channels, RGB or a stage's, -> (O, C, ...) of C channels.

    "mean": every channel gets the mean kernel times S / C; equal channels together give the response to
    the grey image. "sum": every channel gets the sum; one channel alone gives it. "repeat": channel c gets
    the kernel of source channel c modulo S, times S / C.
    """
    source = weight.shape[1]
    if rule == "repeat":
        return weight[:, [channel % source for channel in range(in_channels)]] * (source / in_channels)
    total = weight.sum(dim=1, keepdim=True) / (in_channels if rule == "mean" else 1)
    return total.repeat_interleave(in_channels, dim=1)


def source_channels(x: Tensor, source: int, rule: InputChannels) -> Tensor:
    """The input (N, S, ...) to which a source network responds as its adapted copy does to ``x`` (N, C, ...).

    The other side of :func:`adapt_input_channels`, written down on its own for the self-test.
    """
    in_channels = x.shape[1]
    if rule == "repeat":
        x = torch.stack([x[:, channel::source].sum(dim=1) for channel in range(source)], dim=1)
        return x * (source / in_channels)
    grey = x.mean(dim=1, keepdim=True) if rule == "mean" else x.sum(dim=1, keepdim=True)
    return grey.repeat_interleave(source, dim=1)


def inflate_kernel(weight: Tensor, planes: int) -> Tensor:
    """(O, I, kh, kw) -> (O, I, planes, kh, kw): stacked and divided by the number of planes."""
    return weight.unsqueeze(2).repeat(1, 1, planes, 1, 1) / planes


def centre_kernel(weight: Tensor, planes: int) -> Tensor:
    """(O, I, kh, kw) -> (O, I, planes, kh, kw): the kernel in the middle plane, zero elsewhere; planes is odd."""
    kernel = weight.new_zeros(*weight.shape[:2], planes, *weight.shape[2:])
    kernel[:, :, planes // 2] = weight
    return kernel


def stack_kernel(weight: Tensor, in_channels: int, rule: InputChannels = "mean") -> Tensor:
    """RGB kernels (O, 3, kh, kw) -> (O, C, 3, kh, kw) that see a slice and its two neighbours.

    R, G and B become the planes below, of and above the slice, as where three slices are shown to a 2D
    network as the colours of an image; each of C channels gets them divided by C ("mean") or whole ("sum").
    "repeat" gives each channel one colour, which is spread evenly over the planes instead.
    """
    if rule == "repeat" or weight.shape[1] != _RGB:
        return inflate_kernel(adapt_input_channels(weight, in_channels, rule), _RGB)
    share = weight / in_channels if rule == "mean" else weight
    return share.unsqueeze(1).repeat(1, in_channels, 1, 1, 1)


def refit_depth(weight: Tensor, planes: int, *, centred: bool = False) -> Tensor:
    """3D kernels (O, I, k, kh, kw) with another odd number of planes.

    Fewer: the planes beyond an end are added to the plane at this end; so 3 -> 1 is the sum. More, from one:
    stacked and divided, or in the middle (``centred``). More, from several: zeros around them.
    """
    have = weight.shape[2]
    if planes == have:
        return weight
    if planes == 1:
        return weight.sum(dim=2, keepdim=True)
    if planes < have:
        beyond = (have - planes) // 2
        first, middle, last = weight.split([beyond + 1, planes - 2, beyond + 1], dim=2)
        return torch.cat([first.sum(dim=2, keepdim=True), middle, last.sum(dim=2, keepdim=True)], dim=2)
    if have == 1 and not centred:
        return weight.repeat(1, 1, planes, 1, 1) / planes
    beyond = (planes - have) // 2
    return torch.nn.functional.pad(weight, (0, 0, 0, 0, beyond, beyond))
