"""Conversion: the rule that turns a 2D backbone into a volumetric one."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .backbones import Backbone
from .depth_plan import DepthPlan
from .self_test import require_same_response

_POOLS = {nn.MaxPool2d: nn.MaxPool3d, nn.AvgPool2d: nn.AvgPool3d}


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did; part of a chain's record.

    Attributes
    ----------
    rule : "inflate", or "none" for a network that stays 2D.
    in_channels : channels of the converted network's input.
    depth_kernels, depth_strides : the depth plan, by level.
    max_relative_error : of the self-test: largest difference from the 2D response over its largest value,
        the worst stage; 0 where nothing was converted.
    parameters : number of parameters of the converted network.
    carried_share : fraction of these parameters that come from the 2D backbone (the rest starts at random).
    """

    rule: str
    in_channels: int
    depth_kernels: tuple[int, ...]
    depth_strides: tuple[int, ...]
    max_relative_error: float
    parameters: int
    carried_share: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def inflate(
    backbone: Backbone, in_channels: int, plan: DepthPlan, *, self_test: bool = True
) -> tuple[Backbone, ConversionReport]:
    """A volumetric copy of a 2D backbone, by inflation (Carreira & Zisserman, CVPR 2017, arXiv 1705.07750).

    Each kernel is stacked along depth and divided by the number of planes; BatchNorm weights and
    statistics are copied; pooling gets the plan's depth. The three RGB kernels of the first convolution
    are averaged, repeated for ``in_channels`` and rescaled by 3 / in_channels. So an input that is
    constant along depth and equal in all channels gives the 2D network's response to that grey image,
    which the self-test checks on the whole network. BatchNorm of the copy learns statistics, whatever the
    policy of the source.

    Raises
    ------
    XTLError : the self-test found a relative difference above 1e-3.
    InputError : the backbone is volumetric already, or the plan belongs to another backbone.
    """
    if backbone.plan is not None:
        raise InputError(f"the backbone {backbone.name} is volumetric already", "Convert the 2D backbone")
    if len(plan.strides) != backbone.halvings or in_channels < 1:
        raise InputError(
            f"a depth plan with {len(plan.strides)} halvings and {in_channels} channels for {backbone.name}",
            f"Make the plan for this backbone ({backbone.halvings} halvings), with at least 1 channel",
        )
    volumetric = copy.deepcopy(backbone)
    levels = _levels(backbone)
    first = next(name for name in levels if isinstance(backbone.get_submodule(name), nn.Conv2d))
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            weight = adapt_input_channels(module.weight, in_channels) if name == first else module.weight
            _replace(volumetric, name, _inflated_convolution(module, weight, plan, levels[name]))
        elif type(module) in _POOLS:
            _replace(volumetric, name, _volumetric_pool(module, plan, levels[name]))
        elif isinstance(module, nn.BatchNorm2d):
            _replace(volumetric, name, _volumetric_batchnorm(module))
    volumetric.train(backbone.training)
    volumetric.plan = plan
    volumetric.in_channels = in_channels
    volumetric.stage_strides = tuple((plan.depth_stride(level), 2**level, 2**level) for level in backbone.stage_levels)
    error = require_same_response(backbone, volumetric) if self_test else 0.0
    parameters = sum(parameter.numel() for parameter in volumetric.parameters())
    return volumetric, ConversionReport("inflate", in_channels, plan.kernels, plan.strides, error, parameters, 1.0)


def adapt_input_channels(weight: Tensor, in_channels: int) -> Tensor:
    """First kernels (O, 3, ...) for RGB -> (O, C, ...): equal channels give the response to a grey image."""
    grey = weight.mean(dim=1, keepdim=True)
    repeats = [1] * weight.ndim
    repeats[1] = in_channels
    return grey.repeat(repeats) * (weight.shape[1] / in_channels)


def inflate_kernel(weight: Tensor, planes: int) -> Tensor:
    """2D kernels (O, I, kh, kw) -> (O, I, planes, kh, kw): stacked and divided by the number of planes."""
    return weight.unsqueeze(2).repeat(1, 1, planes, 1, 1) / planes


@torch.no_grad()
def _levels(backbone: Backbone) -> dict[str, int]:
    """Name of every convolution and pooling module -> its level, in the order in which an image meets them.

    Measured on a small image rather than declared, so that it holds for any backbone whose stages halve.
    """
    size = 2 ** (backbone.halvings + 1)
    levels: dict[str, int] = {}

    def observe(name: str):
        return lambda module, inputs: levels.__setitem__(name, (size // inputs[0].shape[-1]).bit_length() - 1)

    hooks = [
        module.register_forward_pre_hook(observe(name))
        for name, module in backbone.named_modules()
        if isinstance(module, (nn.Conv2d, *_POOLS))
    ]
    modes = {module: module.training for module in backbone.modules()}
    parameter = next(backbone.parameters())
    try:
        backbone.eval()
        backbone(torch.zeros(1, backbone.in_channels, size, size, device=parameter.device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    return levels


def _inflated_convolution(module: nn.Conv2d, weight: Tensor, plan: DepthPlan, level: int) -> nn.Conv3d:
    planes = min(module.kernel_size[0], plan.kernels[level])
    depth_stride = plan.strides[level] if module.stride[0] > 1 else 1
    inflated = nn.Conv3d(
        weight.shape[1] * module.groups,
        module.out_channels,
        (planes, *module.kernel_size),
        (depth_stride, *module.stride),
        (planes // 2, *module.padding),
        groups=module.groups,
        bias=module.bias is not None,
        device=weight.device,
    )
    with torch.no_grad():
        inflated.weight.copy_(inflate_kernel(weight, planes))
        if module.bias is not None:
            inflated.bias.copy_(module.bias)
    return inflated


def _volumetric_pool(module: nn.MaxPool2d | nn.AvgPool2d, plan: DepthPlan, level: int) -> nn.Module:
    pools_depth = plan.strides[level] > 1
    kernel, stride, padding = module.kernel_size, module.stride, module.padding
    return _POOLS[type(module)](
        (kernel if pools_depth else 1, kernel, kernel),
        (stride if pools_depth else 1, stride, stride),
        (padding if pools_depth else 0, padding, padding),
        ceil_mode=module.ceil_mode,
    )


def _volumetric_batchnorm(module: nn.BatchNorm2d) -> nn.BatchNorm3d:
    volumetric = nn.BatchNorm3d(module.num_features, module.eps, module.momentum, device=module.weight.device)
    volumetric.load_state_dict(module.state_dict())
    return volumetric


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)
