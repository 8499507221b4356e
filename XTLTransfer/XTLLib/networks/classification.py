"""A classification network on a 2D or a volumetric backbone."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.zones import ZONES
from .backbones import Backbone
from .branches import Branches
from .slice_pooling import make_slice_pooling
from .spec import SlicePooling

# Logits begin near 0 whatever the size of a backbone's features (those of SqueezeNet are in the tens).
_HEAD_SD = 0.01
_ZONE_COUNT = len(ZONES)
# A zone has one weight where an image has hundreds, which all learn at one rate (a project choice).
_ZONE_SCALE = 4.0


class ClassificationNetwork(nn.Module):
    """Backbone, average of its deepest stage in plane and pooling over its slices, dropout, one linear layer.

    Parameters
    ----------
    backbone : 2D, for images (N, 3, H, W), or converted, for patches (N, C, K, J, I).
    out_channels : number of logits.
    dropout : probability of dropping a feature before the linear layer.
    input_scale : factor by which the input is enlarged in plane (linear interpolation) before the
        backbone, so that a 32 x 32 patch is more than one position of a stride-32 stage.
    input_mean, input_sd : the input is centred and scaled by these first.
    slice_pooling : over the slices of the deepest stage of a volume: "mean", "max" or "attention". Of late
        fusion, attention is paid by all branches together.
    zones : whether the linear layer also sees the zone of a finding, one-hot, which no dropout touches.
    """

    def __init__(
        self,
        backbone: Backbone | Branches,
        out_channels: int = 1,
        dropout: float = 0.0,
        input_scale: float = 1.0,
        input_mean: float = 0.0,
        input_sd: float = 1.0,
        slice_pooling: SlicePooling = "mean",
        zones: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.input_scale = float(input_scale)
        self.input_mean, self.input_sd = float(input_mean), float(input_sd)
        self.slice_pooling = make_slice_pooling(slice_pooling, backbone.stage_channels[-1])
        self.zones = zones
        inputs = backbone.stage_channels[-1] + (_ZONE_COUNT if zones else 0)
        self.head = nn.Sequential(OrderedDict(dropout=nn.Dropout(dropout), linear=nn.Linear(inputs, out_channels)))
        if not self.head.linear.weight.is_meta:  # see backbones.initialise
            nn.init.normal_(self.head.linear.weight, std=_HEAD_SD)
            nn.init.zeros_(self.head.linear.bias)

    def forward(self, x: Tensor, zones: Tensor | None = None) -> Tensor:
        """Images (N, 3, H, W) or patches (N, C, K, J, I) -> logits (N, out_channels).

        Parameters
        ----------
        zones : int64 (N,): 0 unknown, 1 PZ, 2 TZ, 3 AS, 4 SV; None: all unknown. A network without ``zones``
            does not look at them. In training they may come as one more channel of x instead, everywhere the
            zone's number, so that one tensor carries both through all that hands batches on.
        """
        if not self.zones:
            return self.head(self.features(x))
        if x.shape[1] > self.backbone.in_channels:
            x, zones = x[:, :-1], x[:, -1].flatten(1)[:, 0].round().long()
        return self.head.linear(torch.cat([self.head.dropout(self.features(x)), self._one_hot(x, zones)], dim=1))

    def features(self, x: Tensor) -> Tensor:
        """The deepest stage, averaged in plane and pooled over slices: (N, channels)."""
        deepest = self.backbone(self._enlarged((x - self.input_mean) / self.input_sd))[-1]
        return self.slice_pooling(deepest)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by what they are: "encoder" (pretrained) and "head" (new)."""
        head = [*self.slice_pooling.parameters(), *self.head.parameters()]
        return {"encoder": list(self.backbone.parameters()), "head": head}

    def _one_hot(self, x: Tensor, zones: Tensor | None) -> Tensor:
        """(N, _ZONE_COUNT); zeros where the zone is unknown, so that the linear layer then sees the image alone."""
        if zones is None:
            return x.new_zeros(x.shape[0], _ZONE_COUNT)
        known = torch.arange(1, _ZONE_COUNT + 1, device=x.device)
        return (zones.to(x.device)[:, None] == known).to(x.dtype) * _ZONE_SCALE

    def _enlarged(self, x: Tensor) -> Tensor:
        if self.input_scale == 1:
            return x
        size = [*x.shape[2:-2], *(max(1, round(int(n) * self.input_scale)) for n in x.shape[-2:])]
        mode = "bilinear" if x.ndim == 4 else "trilinear"
        return F.interpolate(x, size=size, mode=mode, align_corners=False)
