"""Where the cells of a backbone's deepest stage look: the middle of each one's receptive field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .acs import AcsConvolution
from .backbones import Backbone

_MOVING = (nn.Conv3d, nn.MaxPool3d, nn.AvgPool3d, AcsConvolution)


@dataclass(frozen=True)
class CellPlaces:
    """Cell n along an axis looks at the input's index ``first + n * step``; all in the order (K, J, I).

    Attributes
    ----------
    first, step : of the backbone's input, in samples, fractions allowed.
    """

    first: tuple[float, float, float]
    step: tuple[float, float, float]


@torch.inference_mode()
def deepest_cells(backbone: Backbone, shape: Sequence[int]) -> CellPlaces:
    """The places of the deepest stage's cells for inputs of ``shape`` (K, J, I), by receptive field arithmetic.

    A layer with kernel k, padding p and stride s takes the first cell from c to c + ((k - 1) / 2 - p) * step and the
    step to s * step (Araujo et al., Distill 2019, doi 10.23915/distill.00021). Cells do not tile the input: the
    first one of a ResNet looks at its very edge, and half a cell of the last one's share is left over.
    """
    known = [{int(size): (0.0, 1.0)} for size in shape]  # per axis: size of a tensor -> its first cell and its step

    def observe(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        for axis, cells in enumerate(known):
            before, after = inputs[0].shape[2 + axis], output.shape[2 + axis]
            if after in cells or before not in cells:
                continue  # same padding, or a shortcut beside what is known
            first, step = cells[before]
            kernel, stride, padding = (_along(getattr(module, name), axis) for name in _GEOMETRY)
            cells[after] = (first + ((kernel - 1) / 2 - padding) * step, stride * step)

    hooks = [part.register_forward_hook(observe) for part in backbone.modules() if isinstance(part, _MOVING)]
    parameter = next(backbone.parameters())
    try:
        deepest = backbone(torch.zeros(1, backbone.in_channels, *shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        for hook in hooks:
            hook.remove()
    found = np.array([cells[size] for cells, size in zip(known, deepest[-1].shape[2:])])
    return CellPlaces(tuple(found[:, 0].tolist()), tuple(found[:, 1].tolist()))


_GEOMETRY = ("kernel_size", "stride", "padding")


def _along(value: int | Sequence[int], axis: int) -> int:
    return value if isinstance(value, int) else value[axis]
