"""The self-test of every conversion: what a source answers to a slice, its copy answers to a volume of such slices."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import XTLError
from .acs import ACS_RULES, AcsConvolution
from .backbones import Backbone
from .kernels import adapt_input_channels, source_channels
from .spec import ConversionRule, InputChannels

TOLERANCE = 1e-3
_SLICE_RULES = ("slice-stack", "slice-encoder")
_DEPTH = 3
_SIZE = 48


def description_of_test(rule: ConversionRule) -> str:
    """What :func:`require_same_response` compares under a rule, for the record."""
    if rule in ACS_RULES:
        return (
            "every convolution on random volumes against 2D convolutions of their axial, coronal and sagittal planes; "
            "the whole network on a constant image"
        )
    if rule in _SLICE_RULES:
        return "the whole network on a volume of different slices against the source on what each position sees"
    return "the whole network on a volume of equal slices against the source on one slice"


def require_same_response(source: Backbone, volumetric: Backbone, input_channels: InputChannels = "mean") -> float:
    """The largest relative difference between a backbone and its conversion; XTLError when it is above 1e-3.

    "inflate", "centre-slice", "native": a volume that is constant along depth has to give, in every slice of
    every stage, the response of the source to one slice.

    "slice-encoder", "slice-stack": more is known, as slices stay apart. A volume of different slices has to give
    in slice n the response of the source to slice n, or to the image whose R, G and B are the slices n - 1, n
    and n + 1. (A stack kernel that is added or dropped between stages is tested on equal slices.)

    ACS rules: the views differ in what they call depth, so no volume makes the whole network a 2D one. Each
    convolution is tested instead: on every plane of a random volume each view has to be the source's 2D
    convolution, so in particular on a volume constant along that view's own depth axis. What lies between
    the convolutions (BatchNorm, pooling, the order of things) is covered by the whole network on a constant
    image, which is constant along all three axes.

    ``input_channels`` tells how channels were adapted, and so which input of the source corresponds to one of
    the copy; the channels of the test volumes differ. Padding repeats the border instead of adding zeros where
    these would count: along depth, and along all axes for the constant image.
    """
    error = response_error(source, volumetric, input_channels)
    if not error <= TOLERANCE:
        raise XTLError(
            f"the conversion ({volumetric.rule}) of {source.name} does not reproduce the response of its source "
            f"(relative difference {error:.2g})",
            "Do not use this network; check its weights for huge or non-finite values, or report the conversion",
        )
    return error


@torch.no_grad()
def response_error(
    source: Backbone,
    volumetric: Backbone,
    input_channels: InputChannels = "mean",
    size: int = _SIZE,
    depth: int = _DEPTH,
) -> float:
    """The error that :func:`require_same_response` judges, in evaluation mode.

    Returns
    -------
    The largest absolute difference over the largest absolute value of the source, of the worst stage or
    convolution; NaN when a response is not finite or has another shape.
    """
    if next(source.parameters()).device.type != "cpu":  # a GPU may round float32 to TF32
        source, volumetric = copy.deepcopy(source).cpu(), copy.deepcopy(volumetric).cpu()
    draw = torch.Generator().manual_seed(0)
    errors, axes = [], (True, False, False)
    if volumetric.rule in ACS_RULES:
        size, axes = 2 ** (source.halvings + 1), (True, True, True)
        slices = torch.randn(1, volumetric.in_channels, 1, 1, generator=draw).expand(-1, -1, size, size)
        errors += _convolution_errors(source, volumetric, input_channels, draw)
    else:
        differ = volumetric.rule in _SLICE_RULES and (source.plan is None or source.plan == volumetric.plan)
        slices = torch.randn(depth if differ else 1, volumetric.in_channels, size, size, generator=draw)
    with (
        _evaluating(source),
        _evaluating(volumetric),
        _border_repeated(source, axes),
        _border_repeated(volumetric, axes),
    ):
        found = volumetric(_volume(slices, depth))
        if source.plan is None:
            stages = source(_seen_in_2d(slices, source, volumetric, input_channels))
            expected = [stage.transpose(0, 1).unsqueeze(0) for stage in stages]
        else:
            if source.in_channels != volumetric.in_channels:
                slices = source_channels(slices, source.in_channels, input_channels)
            expected = [stage[:, :, : len(slices)] for stage in source(_volume(slices, depth))]
    errors += [
        _relative(b, a if a.shape[2] > 1 else a.expand(-1, -1, b.shape[2], -1, -1)) for a, b in zip(expected, found)
    ]
    return max(errors) if all(map(math.isfinite, errors)) else math.nan


def _volume(slices: Tensor, depth: int) -> Tensor:
    """Slices (n, C, H, W), repeated when there is one only -> a volume (1, C, depth, H, W)."""
    volume = slices.expand(depth, -1, -1, -1).transpose(0, 1).unsqueeze(0)
    return volume.contiguous(memory_format=torch.channels_last_3d)


def _seen_in_2d(slices: Tensor, source: Backbone, volumetric: Backbone, rule: InputChannels) -> Tensor:
    """The images (n, 3, H, W) to which a 2D source responds as its conversion does to slices (n, C, H, W)."""
    seen = source_channels(slices, source.in_channels, rule)
    if volumetric.rule == "slice-stack" and volumetric.plan.kernels[0] > 1:
        neighbours = torch.stack([torch.cat([seen[:1], seen[:-1]]), seen, torch.cat([seen[1:], seen[-1:]])])
        if rule == "repeat":
            return neighbours.mean(dim=0)
        return neighbours[:, :, 0].transpose(0, 1)  # grey slices as colours
    return seen


def _relative(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return math.nan
    return float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-12)


def _convolution_errors(
    source: Backbone, volumetric: Backbone, input_channels: InputChannels, draw: torch.Generator
) -> list[float]:
    """Of every ACS convolution, on a random volume one voxel larger than its kernels."""
    errors = []
    adapted = source.plan is None or source.in_channels != volumetric.in_channels
    parts = ((name, part) for name, part in volumetric.named_modules() if isinstance(part, AcsConvolution))
    for number, (name, part) in enumerate(parts):
        origin = source.get_submodule(name)
        weight, size = origin.weight, origin.weight.shape[-1] + 1
        if adapted and number == 0:
            weight = adapt_input_channels(weight, part.in_channels, input_channels)
        volume = torch.randn(1, part.in_channels, size, size, size, generator=draw)
        shares = _expected_shares(part, getattr(origin, "mixing", None))
        expected = 0
        for view, share in enumerate(shares.unbind(dim=1)):
            if share.any():
                expected = expected + share[:, None, None, None] * _plane_by_plane(volume, weight, part, 2 + view)
        if origin.bias is not None:
            expected = expected + origin.bias[:, None, None, None]
        errors.append(_relative(part(volume), expected))
    return errors


def _expected_shares(part: AcsConvolution, mixing: Tensor | None) -> Tensor:
    """What axial, coronal and sagittal views should contribute to each output channel: (O, 3)."""
    count = part.out_channels
    shares = torch.zeros(count, 3)
    if part.axial:
        shares[:, 0] = 1
    elif part.rule == "acs":
        ends = [0, -(-count // 3), count - count // 3, count]
        for view in range(3):
            shares[ends[view] : ends[view + 1], view] = 1
    else:
        shares = shares + 1 / 3 if mixing is None else mixing.softmax(dim=1)
    return shares


def _plane_by_plane(volume: Tensor, weight: Tensor, part: AcsConvolution, axis: int) -> Tensor:
    """2D convolution of the planes across ``axis`` of a volume (1, C, D, H, W), every stride-th of them."""
    stride = list(part.stride)
    planes = volume[0].movedim(axis - 1, 0)[:: stride.pop(axis - 2)]
    response = F.conv2d(planes, weight, None, stride, weight.shape[-1] // 2, 1, part.groups)
    return response.movedim(0, axis - 1).unsqueeze(0)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def _border_repeated(module: nn.Module, axes: tuple[bool, bool, bool]) -> Iterator[None]:
    """Within the block every convolution repeats the border instead of padding zeros along some of
    (depth, rows, columns), and every pooling window finds enough slices."""

    def repeats(part: nn.Module) -> list[int]:
        padding = settings[part][0]
        return [n if repeated else 0 for n, repeated in zip(padding, axes[-len(padding) :])]

    def pad_convolution(part: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return _repeat_border(inputs[0], [(n, n) for n in repeats(part)])

    def pad_pool(part: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return _repeat_border(inputs[0], [(0, max(0, part.kernel_size[0] - inputs[0].shape[2])), (0, 0), (0, 0)])

    kinds = (nn.Conv2d, nn.Conv3d, AcsConvolution)
    settings = {
        part: (part.padding, getattr(part, "as_cube", False)) for part in module.modules() if isinstance(part, kinds)
    }
    pools = [part for part in module.modules() if isinstance(part, (nn.MaxPool3d, nn.AvgPool3d))]
    hooks = [part.register_forward_pre_hook(pad_convolution) for part in settings]
    hooks += [part.register_forward_pre_hook(pad_pool) for part in pools]
    try:
        for part, (padding, _) in settings.items():
            part.padding = tuple(n - repeat for n, repeat in zip(padding, repeats(part)))
            if isinstance(part, AcsConvolution):
                part.as_cube = not part.axial  # the views pad different axes; one kernel pads all alike
        yield
    finally:
        for part, (padding, as_cube) in settings.items():
            part.padding = padding
            if isinstance(part, AcsConvolution):
                part.as_cube = as_cube
        for hook in hooks:
            hook.remove()


def _repeat_border(x: Tensor, margins: list[tuple[int, int]]) -> Tensor:
    if not any(n for margin in margins for n in margin):
        return x
    return F.pad(x, [n for margin in reversed(margins) for n in margin], mode="replicate")
