"""The way back: a volumetric backbone of single slices as a 2D backbone."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import InputError
from .acs import AcsConvolution
from .backbones import Backbone, build_backbone
from .kernels import adapt_input_channels
from .peft_adapters import carry_adapters, is_adapter_key
from .spec import InputChannels


@torch.no_grad()
def flatten_backbone(volumetric: Backbone, input_channels: InputChannels = "mean") -> Backbone:
    """A 2D backbone with the weights of a volumetric one whose kernels all have depth 1.

    For 2D stages that use the volumetric networks on images as single slices. BatchNorm weights and statistics
    travel along. Three input channels stay as they are; others are brought to three by ``input_channels``
    (``kernels.adapt_input_channels``). The response to an image is that to the image as one slice.

    Raises
    ------
    InputError : the backbone is 2D already, or a kernel has more than one plane.
    """
    if volumetric.plan is None:
        raise InputError(f"the backbone {volumetric.name} is 2D already", "Use it as it is")
    for name, part in volumetric.named_modules():
        if isinstance(part, (nn.Conv3d, AcsConvolution)) and part.kernel_size[0] > 1:
            raise InputError(
                f"the backbone {volumetric.name} looks along depth ({name} has kernels {part.kernel_size})",
                "Flatten only a backbone of single slices",
            )
    with torch.device("meta"):
        flat = build_backbone(volumetric.name)
    first = next(name for name, part in flat.named_modules() if isinstance(part, nn.Conv2d)) + ".weight"
    state = {
        key: (value.squeeze(2) if value.ndim == 5 else value).clone() for key, value in volumetric.state_dict().items()
    }
    if state[first].shape[1] != flat.in_channels:
        state[first] = adapt_input_channels(state[first], flat.in_channels, input_channels)
    flat.load_state_dict({key: value for key, value in state.items() if not is_adapter_key(key)}, assign=True)
    carry_adapters(volumetric, flat)
    return flat.train(volumetric.training)
