"""Axial, coronal and sagittal convolutions: 2D kernels in the three planes of a volume."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AcsRule = Literal["acs", "soft-acs", "mean-acs"]
ACS_RULES = ("acs", "soft-acs", "mean-acs")

# The axis of a kernel (O, I, planes, kh, kw) that a view does not look along: depth, rows, columns.
_VIEW_AXES = (2, 3, 4)


class AcsConvolution(nn.Module):
    """2D kernels that look at the planes of a volume (Yang et al. 2021, IEEE J-BHI, arXiv 1911.10477).

    The axial view has kernels (1, k, k), the coronal one (k, 1, k), the sagittal one (k, k, 1). "acs": the
    output channels are split between the views, in this order, as evenly as possible. "mean-acs": every
    output channel is the mean of the three views. "soft-acs": it is their weighted mean, whose weights
    (softmax of ``mixing``, one triple for each output channel) are learned and begin equal.

    Parameters
    ----------
    weight : (O, I, k, k), kept in this shape in the state dict; I counts the channels of a group.
    bias : (O,) or None.
    stride : along (depth, rows, columns), of all views.
    groups : as of a convolution.
    rule : "acs", "soft-acs" or "mean-acs".
    axial : all kernels are axial, whatever the rule; so are kernels of size 1.

    Attributes
    ----------
    kernel_size, padding : (depth, rows, columns); each view leaves out its own axis.
    views : number of output channels of each view, (O, 0, 0) where all kernels are axial; None where the
        views are mixed.
    as_cube : compute with one cubic kernel that holds the views. The result is the same. True where it
        costs no more: mixed views, and groups, whose input would have to be copied in parts.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int, int],
        groups: int = 1,
        rule: AcsRule = "acs",
        axial: bool = False,
    ) -> None:
        super().__init__()
        out_channels, size = weight.shape[0], weight.shape[-1]
        if rule not in ACS_RULES or weight.shape[-2] != size or size % 2 == 0:
            raise ValueError(f"an ACS convolution {rule!r} of kernels {tuple(weight.shape)}")
        self.rule, self.stride, self.groups = rule, tuple(stride), groups
        self.in_channels, self.out_channels = weight.shape[1] * groups, out_channels
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.mixing: nn.Parameter | None = None
        self.axial = axial or size == 1
        self.kernel_size = (1 if self.axial else size, size, size)
        self.padding = tuple(n // 2 for n in self.kernel_size)
        self.views: tuple[int, int, int] | None = None
        if self.axial:
            self.views = (out_channels, 0, 0)
        elif rule == "acs":
            self.views = tuple((out_channels + spare) // 3 for spare in (2, 1, 0))
        elif rule == "soft-acs":
            self.mixing = nn.Parameter(weight.new_zeros(out_channels, 3))
        self.as_cube = not self.axial and (self.views is None or groups > 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> (N, O, D', H', W'), padded with zeros as the 2D convolution is."""
        if self.as_cube:
            return F.conv3d(x, self.cube(), self.bias, self.stride, self.padding, 1, self.groups)
        if self.axial:
            return F.conv3d(x, self.weight.unsqueeze(2), self.bias, self.stride, self.padding, 1, self.groups)
        weights = self.weight.split(self.views)
        biases = (None,) * 3 if self.bias is None else self.bias.split(self.views)
        parts = [
            F.conv3d(x, weight.unsqueeze(axis), bias, self.stride, self._padding_without(axis))
            for count, weight, bias, axis in zip(self.views, weights, biases, _VIEW_AXES)
            if count
        ]
        return torch.cat(parts, dim=1)

    def shares(self) -> Tensor | None:
        """The weight of each view in each output channel, (O, 3), rows that sum to 1; None where they are not mixed."""
        if self.views is not None:
            return None
        if self.mixing is None:
            return self.weight.new_full((self.out_channels, 3), 1 / 3)
        return self.mixing.softmax(dim=1)

    def cube(self) -> Tensor:
        """The views, where not all are axial, as one kernel (O, I, k, k, k): zero outside its three middle planes."""
        shares = self.shares()
        if shares is None:
            parts = zip(self.weight.split(self.views), _VIEW_AXES)
            return torch.cat([self._in_cube(weight, axis) for weight, axis in parts])
        weights = (self.weight * share[:, None, None, None] for share in shares.unbind(dim=1))
        return sum(self._in_cube(weight, axis) for weight, axis in zip(weights, _VIEW_AXES))

    def extra_repr(self) -> str:
        views = "axial" if self.axial else self.rule
        return f"{self.in_channels}, {self.out_channels}, {views}, kernel {self.kernel_size}, stride {self.stride}"

    def _padding_without(self, axis: int) -> list[int]:
        return [0 if place + 2 == axis else n for place, n in enumerate(self.padding)]

    def _in_cube(self, weight: Tensor, axis: int) -> Tensor:
        margins = [0] * 6  # columns, rows, depth; each before and after
        margins[2 * (4 - axis) : 2 * (4 - axis) + 2] = [self.kernel_size[1] // 2] * 2
        return F.pad(weight.unsqueeze(axis), margins)
