"""A U-Net on a converted backbone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .backbones import Backbone, initialise

# From full resolution to the deepest level: most of the cost lies at full resolution.
DECODER_CHANNELS = (16, 24, 32, 48, 64, 96)
_OUTPUT_SD, _OUTPUT_BIAS = 0.3, -3.0  # a probability of about 0.05


class SegmentationNetwork(nn.Module):
    """A U-Net (Ronneberger et al. 2015, arXiv 1505.04597) whose encoder is a volumetric backbone.

    The decoder is light: every stage of the encoder, reduced by a 1x1x1 convolution, joins it through a
    skip connection. As backbones begin with a halving and MS lesions are a few voxels wide, a small
    convolution on the image itself is the skip connection of the full resolution.

    Parameters
    ----------
    backbone : volumetric, by any rule.
    out_channels : number of logits a voxel.
    decoder_channels : from full resolution to the deepest level; as many as there are halvings, plus one,
        are used.
    dropout : probability of dropping a channel before the last convolution.

    Attributes
    ----------
    size_multiple : (D, H, W) multiples at which every level is exactly half of the one before. Other
        sizes work as well; axes shorter than this are padded with zeros inside, and the result cropped.
    """

    def __init__(
        self,
        backbone: Backbone,
        out_channels: int = 1,
        decoder_channels: tuple[int, ...] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if backbone.plan is None:
            raise InputError(f"a segmentation network on the 2D backbone {backbone.name}", "Convert it first")
        channels = tuple(decoder_channels or DECODER_CHANNELS)
        if len(channels) <= backbone.halvings:
            raise InputError(
                f"decoder_channels {list(channels)} for {backbone.name}", f"Give {backbone.halvings + 1} numbers"
            )
        self.backbone = backbone
        self.size_multiple: tuple[int, int, int] = backbone.stage_strides[-1]
        self.decoder = _Decoder(backbone, out_channels, channels, dropout)
        initialise(self.decoder)
        # Lesions are rare: begin at a low probability everywhere, not at large logits of both signs.
        output = self.decoder.output
        if not output.weight.is_meta:
            nn.init.normal_(output.weight, std=_OUTPUT_SD)
            nn.init.constant_(output.bias, _OUTPUT_BIAS)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W), any D, H, W -> logits (N, out_channels, D, H, W)."""
        size = x.shape[2:]
        missing = [max(0, multiple - n) for multiple, n in zip(self.size_multiple, size)]
        if any(missing):
            x = F.pad(x, [n for axis in reversed(missing) for n in (0, axis)])
        logits = self.decoder(x, self.backbone(x))
        return logits[:, :, : size[0], : size[1], : size[2]]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by what they are: "encoder" (pretrained) and "head" (new)."""
        return {"encoder": list(self.backbone.parameters()), "head": list(self.decoder.parameters())}


class _Decoder(nn.Module):
    def __init__(self, backbone: Backbone, out_channels: int, channels: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        plan = backbone.plan
        levels = backbone.stage_levels
        self._levels = levels
        self._has_own_stem = levels[0] > 0
        self.laterals = nn.ModuleDict()
        for level, stage_channels in zip(levels, backbone.stage_channels):
            self.laterals[str(level)] = _conv_bn_relu(stage_channels, channels[level], (1, 1, 1))
        if self._has_own_stem:
            self.laterals["0"] = _conv_bn_relu(backbone.in_channels, channels[0], (plan.decoder_kernels[0], 3, 3))
        self.blocks = nn.ModuleDict()
        for level in range(backbone.halvings):
            self.blocks[str(level)] = UpBlock(
                channels[level + 1],
                channels[level],
                (plan.decoder_kernels[level], 3, 3),
                (plan.strides[level], 2, 2),
            )
        self.dropout = nn.Dropout3d(dropout)
        self.output = nn.Conv3d(channels[0], out_channels, 1)

    def forward(self, image: Tensor, stages: list[Tensor]) -> Tensor:
        skips = dict(zip(self._levels, stages))
        if self._has_own_stem:
            skips[0] = image
        deepest = self._levels[-1]
        x = self.laterals[str(deepest)](skips[deepest])
        for level in reversed(range(deepest)):
            skip = self.laterals[str(level)](skips[level])
            x = self.blocks[str(level)](x, skip)
        return self.output(self.dropout(x))


class UpBlock(nn.Sequential):
    """A step of the decoder: what comes from below is enlarged, joined by the skip connection, and convolved.

    Parameters
    ----------
    below : channels from below, which come first. channels : of the skip connection, and of the output.
    kernel : (kD, kH, kW) of the convolution. factors : (D, H, W) of the enlargement, by repetition.
    """

    def __init__(self, below: int, channels: int, kernel: tuple[int, int, int], factors: tuple[int, int, int]) -> None:
        super().__init__(*_conv_bn_relu(channels + below, channels, kernel))
        self.factors = factors

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(N, below, d, h, w) and (N, channels, D, H, W) -> (N, channels, D, H, W)."""
        x = _to_size(F.interpolate(x, scale_factor=self.factors, mode="nearest"), skip.shape[2:])
        return super().forward(torch.cat([x, skip], dim=1))


def _conv_bn_relu(in_channels: int, out_channels: int, kernel: tuple[int, int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, kernel, padding=tuple(k // 2 for k in kernel), bias=False),
        nn.BatchNorm3d(out_channels),
        nn.ReLU(inplace=True),
    )


def _to_size(x: Tensor, size: torch.Size) -> Tensor:
    """Crop, or repeat the end of, each axis: halving an odd size and doubling it again is off by one."""
    missing = [max(0, n - have) for n, have in zip(size, x.shape[2:])]
    if any(missing):
        x = F.pad(x, [n for axis in reversed(missing) for n in (0, axis)], mode="replicate")
    return x[:, :, : size[0], : size[1], : size[2]]
