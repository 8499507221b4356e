"""The self-test of every conversion: constant along depth, a volume answers as its slice did."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import XTLError
from .backbones import Backbone

TOLERANCE = 1e-3
_DEPTH = 4
_SIZE = 64


def require_same_response(flat: Backbone, volumetric: Backbone) -> float:
    """The largest relative difference between a 2D backbone and its conversion; XTLError when above 1e-3."""
    error = response_error(flat, volumetric)
    if not error <= TOLERANCE:
        raise XTLError(
            f"the conversion of {flat.name} does not reproduce its 2D response (relative difference {error:.2g})",
            "Do not use this network; check its weights for huge or non-finite values, or report the conversion",
        )
    return error


@torch.no_grad()
def response_error(flat: Backbone, volumetric: Backbone, size: int = _SIZE, depth: int = _DEPTH) -> float:
    """Run both backbones, in evaluation mode, on a random grey image and on a stack of copies of it.

    The volume repeats the image along depth and over its channels. During the test everything that pads
    along depth repeats the end slices, so that every slice of every stage, not only the middle ones, must
    equal the 2D response.

    Returns
    -------
    The largest absolute difference over the largest absolute 2D value, of the worst stage; NaN when a
    response is not finite.
    """
    if next(flat.parameters()).device.type != "cpu":  # a GPU may round float32 to TF32
        flat, volumetric = copy.deepcopy(flat).cpu(), copy.deepcopy(volumetric).cpu()
    image = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    volume = image.unsqueeze(2).expand(1, volumetric.in_channels, depth, size, size)
    with _evaluating(flat), _evaluating(volumetric), _depth_replicated(volumetric):
        expected = flat(image.expand(1, flat.in_channels, size, size))
        found = volumetric(volume.contiguous(memory_format=torch.channels_last_3d))
    errors = [
        float((b - a.unsqueeze(2)).abs().max()) / max(float(a.abs().max()), 1e-12) for a, b in zip(expected, found)
    ]
    return max(errors) if all(map(math.isfinite, errors)) else math.nan


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
def _depth_replicated(module: nn.Module) -> Iterator[None]:
    """Within the block every convolution repeats the end slices instead of padding zeros along depth,
    and every pooling window finds enough slices."""

    def pad_convolution(part: nn.Conv3d, inputs: tuple[Tensor]) -> Tensor:
        return _repeat_ends(inputs[0], convolutions[part][0], convolutions[part][0])

    def pad_pool(part: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        return _repeat_ends(inputs[0], 0, max(0, part.kernel_size[0] - inputs[0].shape[2]))

    convolutions = {part: part.padding for part in module.modules() if isinstance(part, nn.Conv3d)}
    pools = [part for part in module.modules() if isinstance(part, (nn.MaxPool3d, nn.AvgPool3d))]
    hooks = [part.register_forward_pre_hook(pad_convolution) for part in convolutions]
    hooks += [part.register_forward_pre_hook(pad_pool) for part in pools]
    try:
        for part, padding in convolutions.items():
            part.padding = (0, *padding[1:])
        yield
    finally:
        for part, padding in convolutions.items():
            part.padding = padding
        for hook in hooks:
            hook.remove()


def _repeat_ends(x: Tensor, before: int, after: int) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, before, after), mode="replicate") if before or after else x
