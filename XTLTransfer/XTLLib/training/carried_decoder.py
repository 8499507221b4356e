"""The decoder that goes on from one segmentation stage to the next."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks.kernels import adapt_input_channels, refit_depth
from ..networks.spec import InputChannels

_IMAGE = "laterals.0.0.weight"  # of a decoder that sees the image itself: its channels are those of the input


@torch.no_grad()
def carry_decoder(decoder: nn.Module, state: Mapping[str, Tensor], input_channels: InputChannels) -> None:
    """Give a decoder the weights of another stage's decoder of the same backbone.

    Kernels of another depth are refitted as those of the backbone are (``networks.kernels.refit_depth``), those
    on the image brought to its number of channels by ``input_channels``.

    Raises InputError when the two differ in anything else.
    """
    own = decoder.state_dict()
    carried = {}
    for name, wanted in own.items():
        value = state.get(name)
        if value is not None and value.ndim == wanted.ndim == 5 and value.shape != wanted.shape:
            if name == _IMAGE and value.shape[1] != wanted.shape[1]:
                value = adapt_input_channels(value, wanted.shape[1], input_channels)
            value = refit_depth(value, wanted.shape[2])
        if value is None or value.shape != wanted.shape:
            raise InputError(
                f"the decoder of the stage before does not fit this stage ({name})", "Set decoder to new in the chain"
            )
        carried[name] = value
    decoder.load_state_dict(carried)
