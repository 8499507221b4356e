"""A vector for each image, to be compared with those of other views of it."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .backbones import Backbone
from .classification import ClassificationNetwork


class ProjectionNetwork(ClassificationNetwork):
    """Backbone, global average, the projection head of SimCLR (Chen et al. 2020, arXiv 2002.05709): two linear layers,
    the hidden one with BatchNorm.

    ``forward`` gives vectors (N, projection_channels), not normalised. The hidden layer is as wide as the
    deepest stage. Other parameters are as in :class:`ClassificationNetwork`.
    """

    def __init__(
        self,
        backbone: Backbone,
        projection_channels: int = 128,
        dropout: float = 0.0,
        input_scale: float = 1.0,
        input_mean: float = 0.0,
        input_sd: float = 1.0,
    ) -> None:
        super().__init__(backbone, projection_channels, dropout, input_scale, input_mean, input_sd)
        width = backbone.stage_channels[-1]
        self.head = nn.Sequential(
            OrderedDict(
                hidden=nn.Linear(width, width, bias=False),
                # Features are positive: without it all vectors begin alike, and short trainings end so.
                norm=nn.BatchNorm1d(width),
                relu=nn.ReLU(),
                dropout=nn.Dropout(dropout),
                linear=nn.Linear(width, projection_channels),
            )
        )
