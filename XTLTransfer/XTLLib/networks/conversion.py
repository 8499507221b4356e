"""Conversion: the rules that turn a 2D backbone into a volumetric one, and fit a volumetric one to other volumes."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .acs import ACS_RULES, AcsConvolution
from .backbones import Backbone, build_backbone
from .depth_plan import DepthPlan
from .kernels import adapt_input_channels, centre_kernel, inflate_kernel, refit_depth, stack_kernel
from .peft_adapters import carry_adapters, is_adapter_key
from .self_test import description_of_test, require_same_response
from .spec import CONVERSIONS, INPUT_CHANNELS, ConversionRule, InputChannels

_POOLS = {nn.MaxPool2d: nn.MaxPool3d, nn.AvgPool2d: nn.AvgPool3d}


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did; part of a chain's record.

    Attributes
    ----------
    rule : one of ``CONVERSIONS``, or "none" for a network that stays 2D.
    in_channels : channels of the converted network's input.
    depth_kernels, depth_strides : the depth plan, by level.
    max_relative_error : of the self-test: largest difference from the source's response over its largest
        value, the worst stage or convolution; 0 where nothing was converted or tested.
    parameters : number of parameters of the converted network.
    carried_share : fraction of these parameters that come from the source (the rest starts anew).
    input_channels : how the first kernels were brought to ``in_channels``.
    source : "2D" or "volumetric".
    tested : what the self-test compared; empty where it did not run.
    """

    rule: str
    in_channels: int
    depth_kernels: tuple[int, ...]
    depth_strides: tuple[int, ...]
    max_relative_error: float
    parameters: int
    carried_share: float
    input_channels: str = "mean"
    source: str = "2D"
    tested: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def convert(
    backbone: Backbone,
    rule: ConversionRule,
    in_channels: int,
    plan: DepthPlan,
    input_channels: InputChannels = "mean",
    self_test: bool = True,
) -> tuple[Backbone, ConversionReport]:
    """A volumetric copy of a 2D backbone.

    Rules; the depth kernels and strides are those of ``plan.for_rule(rule)``:

    - "inflate" (Carreira & Zisserman, CVPR 2017, arXiv 1705.07750): each kernel is stacked along depth and
      divided by the number of planes;
    - "centre-slice": each kernel in the middle plane, zero elsewhere, so that slices begin apart;
    - "acs", "soft-acs", "mean-acs" (Yang et al., arXiv 1911.10477): see :class:`AcsConvolution`;
    - "slice-stack" (2.5D): the first convolution sees a slice and its neighbours, all others one slice;
    - "slice-encoder": every convolution sees one slice.

    BatchNorm weights and statistics are copied, and learn on whatever the policy of the source; pooling gets
    the plan's depth; the first kernels are brought from RGB to ``in_channels`` by ``input_channels``
    (``kernels.adapt_input_channels``). What the self-test demands says ``self_test.require_same_response``.

    Raises
    ------
    XTLError : the self-test found a relative difference above 1e-3.
    InputError : the backbone is volumetric already, the plan belongs to another backbone, or the rule is
        "native", which has no 2D source.
    """
    if backbone.plan is not None:
        raise InputError(
            f"the backbone {backbone.name} is volumetric already ({backbone.rule})", "Convert the 2D backbone"
        )
    if rule not in CONVERSIONS or rule == "native":
        raise InputError(
            f"the conversion {rule!r} of a 2D backbone",
            f"Choose one of {', '.join(name for name in CONVERSIONS if name != 'native')}",
        )
    return volumetric_copy(backbone, rule, in_channels, plan, input_channels, self_test)


def refit(
    backbone: Backbone,
    in_channels: int,
    plan: DepthPlan,
    input_channels: InputChannels = "mean",
    self_test: bool = True,
) -> tuple[Backbone, ConversionReport]:
    """A copy of a volumetric backbone for volumes of another spacing, shape or number of channels.

    The rule stays. Depth strides are the plan's; a depth kernel that the plan drops is summed over its planes,
    one that it adds is stacked and divided (in the middle plane under "centre-slice"); 2D weights of the ACS
    rules stay as they are. All of this is exact for an input that is constant along depth. With as many
    channels as before the first kernels stay, each with its channel; else ``input_channels`` adapts them.

    Raises
    ------
    XTLError : the self-test found a relative difference above 1e-3.
    InputError : the backbone is 2D, or the plan belongs to another backbone.
    """
    if backbone.plan is None:
        raise InputError(f"the backbone {backbone.name} is 2D", "Convert it, by a rule")
    return volumetric_copy(backbone, backbone.rule, in_channels, plan, input_channels, self_test)


def inflate(
    backbone: Backbone, in_channels: int, plan: DepthPlan, *, self_test: bool = True
) -> tuple[Backbone, ConversionReport]:
    """:func:`convert` by the rule "inflate"."""
    return convert(backbone, "inflate", in_channels, plan, self_test=self_test)


@torch.no_grad()
def volumetric_copy(
    source: Backbone,
    rule: ConversionRule,
    in_channels: int,
    plan: DepthPlan,
    input_channels: InputChannels,
    self_test: bool,
) -> tuple[Backbone, ConversionReport]:
    """What :func:`convert` and :func:`refit` have in common: a copy by any rule of a source of either kind."""
    if len(plan.strides) != source.halvings or in_channels < 1:
        raise InputError(
            f"a depth plan with {len(plan.strides)} halvings and {in_channels} channels for {source.name}",
            f"Make the plan for this backbone ({source.halvings} halvings), with at least 1 channel",
        )
    if input_channels not in INPUT_CHANNELS:
        raise InputError(f"input_channels {input_channels!r}", f"Choose one of {', '.join(INPUT_CHANNELS)}")
    plan = plan.for_rule(rule)
    skeleton, levels = _skeleton(source.name)
    _require_own_tensors(source, skeleton)
    # All tensors are replaced below; the skeleton's own stand in for them until then.
    tensors = skeleton.state_dict(keep_vars=True).values()
    volumetric = copy.deepcopy(skeleton, {id(tensor): tensor for tensor in tensors})
    first = next(name for name in levels if isinstance(skeleton.get_submodule(name), nn.Conv2d))
    # The channels of a volumetric source have a meaning each and stay; those of RGB have none in grey images.
    keeps_channels = source.plan is not None and source.in_channels == in_channels
    for name, flat in skeleton.named_modules():
        if isinstance(flat, nn.Conv2d):
            channels = in_channels if name == first and not keeps_channels else None
            kernels = _Kernels(rule, plan, levels[name], name == first, channels, input_channels)
            _replace(volumetric, name, kernels.convolution(flat, source.get_submodule(name)))
        elif type(flat) in _POOLS:
            _replace(volumetric, name, _volumetric_pool(flat, plan, levels[name]))
        elif isinstance(flat, nn.BatchNorm2d):
            _replace(volumetric, name, _volumetric_batchnorm(source.get_submodule(name)))
    carry_adapters(source, volumetric)
    volumetric.train(source.training)
    volumetric.plan, volumetric.rule, volumetric.in_channels = plan, rule, in_channels
    volumetric.stage_strides = tuple((plan.depth_stride(level), 2**level, 2**level) for level in source.stage_levels)
    error = require_same_response(source, volumetric, input_channels) if self_test else 0.0
    parameters = sum(parameter.numel() for parameter in volumetric.parameters())
    report = ConversionReport(
        rule,
        in_channels,
        plan.kernels,
        plan.strides,
        error,
        parameters,
        _carried(volumetric, source) / parameters,
        input_channels,
        "2D" if source.plan is None else "volumetric",
        description_of_test(rule) if self_test else "",
    )
    return volumetric, report


def _carried(volumetric: Backbone, source: Backbone) -> int:
    """Number of parameters that come from the source: all but the mixing weights of "soft-acs" that it lacks."""
    held = {name for name, _ in source.named_parameters()}
    return sum(
        parameter.numel()
        for name, parameter in volumetric.named_parameters()
        if not name.endswith(".mixing") or name in held
    )


def _require_own_tensors(source: Backbone, skeleton: Backbone) -> None:
    held = {key for key in source.state_dict() if not (key.endswith(".mixing") or is_adapter_key(key))}
    if held != (expected := set(skeleton.state_dict())):
        raise InputError(
            f"the backbone {source.name} has tensors that do not belong to it or lacks some "
            f"({', '.join(sorted(held ^ expected)[:3])})",
            "Merge or remove what was added to it first",
        )


@cache
def _skeleton(name: str) -> tuple[Backbone, dict[str, int]]:
    """The 2D backbone of a name without values (on the device "meta"), to be copied, and its levels.

    Levels: name of every convolution and pooling module -> number of in-plane halvings before it, in the order
    in which an image meets them; measured on an image rather than declared.
    """
    with torch.device("meta"):
        skeleton = build_backbone(name).eval()
    levels: dict[str, int] = {}
    size = 2 ** (skeleton.halvings + 1)

    def observe(name: str):
        return lambda module, inputs: levels.__setitem__(name, (size // inputs[0].shape[-1]).bit_length() - 1)

    hooks = [
        module.register_forward_pre_hook(observe(name))
        for name, module in skeleton.named_modules()
        if isinstance(module, (nn.Conv2d, *_POOLS))
    ]
    # With memory, whatever it holds: for a step on the meta device torch loads its compiler, which takes a second.
    skeleton.to_empty(device="cpu")
    with torch.inference_mode():
        skeleton(torch.zeros(1, skeleton.in_channels, size, size, device="cpu"))
    skeleton.to("meta")
    for hook in hooks:
        hook.remove()
    return skeleton, levels


@dataclass(frozen=True)
class _Kernels:
    """How one convolution, at a level, is converted; ``in_channels`` is None where its channels stay."""

    rule: ConversionRule
    plan: DepthPlan
    level: int
    is_first: bool
    in_channels: int | None
    input_channels: InputChannels

    def convolution(self, flat: nn.Conv2d, source: nn.Module) -> nn.Module:
        """The volumetric convolution with the geometry of ``flat`` and the weights of ``source``, 2D or 3D."""
        stride = (self.plan.strides[self.level] if flat.stride[0] > 1 else 1, *flat.stride)
        if self.rule in ACS_RULES:
            weight = self._of_channels(source.weight)
            made = AcsConvolution(
                weight, source.bias, stride, flat.groups, self.rule, axial=self.plan.kernels[self.level] == 1
            )
            if made.mixing is not None and getattr(source, "mixing", None) is not None:
                made.mixing.copy_(source.mixing)
            return made
        weight = self._with_depth(source.weight)
        made = nn.Conv3d(
            weight.shape[1] * flat.groups,
            flat.out_channels,
            weight.shape[2:],
            stride,
            (weight.shape[2] // 2, *flat.padding),
            groups=flat.groups,
            bias=source.bias is not None,
            device=weight.device,
        )
        made.weight.copy_(weight)
        if source.bias is not None:
            made.bias.copy_(source.bias)
        return made

    def _with_depth(self, weight: Tensor) -> Tensor:
        planes = self._planes(weight.shape[-1])
        if weight.ndim == 5:
            return refit_depth(self._of_channels(weight), planes, centred=self.rule == "centre-slice")
        if self.rule == "slice-stack" and self.is_first and planes > 1:
            return stack_kernel(weight, self.in_channels, self.input_channels)
        return (centre_kernel if self.rule == "centre-slice" else inflate_kernel)(self._of_channels(weight), planes)

    def _planes(self, size: int) -> int:
        """Depth of the kernel made from one of ``size`` in plane."""
        deepest = self.plan.kernels[self.level]
        if self.rule == "slice-stack" and not self.is_first:
            return 1
        return size if self.rule == "native" and deepest > 1 else min(size, deepest)

    def _of_channels(self, weight: Tensor) -> Tensor:
        return (
            weight if self.in_channels is None else adapt_input_channels(weight, self.in_channels, self.input_channels)
        )


def _volumetric_pool(module: nn.MaxPool2d | nn.AvgPool2d, plan: DepthPlan, level: int) -> nn.Module:
    pools_depth = plan.strides[level] > 1
    kernel, stride, padding = module.kernel_size, module.stride, module.padding
    return _POOLS[type(module)](
        (kernel if pools_depth else 1, kernel, kernel),
        (stride if pools_depth else 1, stride, stride),
        (padding if pools_depth else 0, padding, padding),
        ceil_mode=module.ceil_mode,
    )


def _volumetric_batchnorm(module: nn.BatchNorm2d | nn.BatchNorm3d) -> nn.BatchNorm3d:
    volumetric = nn.BatchNorm3d(module.num_features, module.eps, module.momentum, device=module.weight.device)
    volumetric.load_state_dict(module.state_dict())
    return volumetric


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)
