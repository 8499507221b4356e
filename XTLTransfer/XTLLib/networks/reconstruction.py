"""A network that gives back its input, for self-supervision on masked images."""

from __future__ import annotations

from torch import nn

from .backbones import Backbone
from .segmentation import SegmentationNetwork


class ReconstructionNetwork(SegmentationNetwork):
    """The U-Net of :class:`SegmentationNetwork` with one output for each input channel.

    ``forward`` gives intensities (N, C, D, H, W) on the scale of the input. They begin around zero, the mean of
    a standardised image.
    """

    def __init__(
        self, backbone: Backbone, decoder_channels: tuple[int, ...] | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__(backbone, backbone.in_channels, decoder_channels, dropout)
        nn.init.zeros_(self.decoder.output.bias)
