"""What a stage hands on to the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import InputError
from ..networks.backbones import Backbone, build_backbone
from ..networks.build import Network, build_network
from ..networks.flatten import flatten_backbone
from ..networks.peft_adapters import carry_adapters
from ..networks.spec import NetworkSpec
from ..transfer.provenance import hash_of_weights

if TYPE_CHECKING:
    from ..transfer.stages import TrainedStage


@dataclass(frozen=True, eq=False)
class Travelling:
    """A backbone on its way through a chain.

    Attributes
    ----------
    backbone : 2D, or volumetric once it was converted.
    is_learned : whether its weights were learned, rather than drawn at random.
    decoder : weights of the decoder of a segmentation of volumes, for a stage that carries it on.
    """

    backbone: Backbone
    is_learned: bool
    decoder: Mapping[str, Tensor] | None = None

    @classmethod
    def after(cls, stage: TrainedStage, network: Network) -> Travelling:
        """What a stage's trained network hands on: of a 2D stage a 2D backbone, also where it saw single slices."""
        backbone = network.backbone
        if stage.is_volumetric:
            decoder = network.decoder.state_dict() if stage.task == "segmentation" else None
            return cls(backbone, True, decoder)
        if backbone.plan is not None:
            return cls(flatten_backbone(backbone), True)
        onward = build_backbone(backbone.name)  # without what the stage's policy did to its BatchNorm
        carry_adapters(backbone, onward)
        onward.load_state_dict(backbone.state_dict())
        return cls(onward, True)

    def hash(self) -> str:
        """SHA-256 of the backbone's weights."""
        return hash_of_weights(self.backbone.state_dict())


def network_again(description: Mapping[str, Any] | None, state: Mapping[str, Tensor], where: str) -> Network:
    """The network of a finished stage from its record's description and its weights.

    Raises InputError when they do not belong together.
    """
    try:
        with torch.random.fork_rng(devices=[]):  # random weights that are replaced must not shift anybody's seed
            network = build_network(NetworkSpec.from_dict(description or {}))
        network.load_state_dict(state)
    except (InputError, RuntimeError) as error:
        reason = error.what if isinstance(error, InputError) else "its weights are of another network"
        raise InputError(f"the finished stage in {where} cannot be used ({reason})", "Delete its folder") from error
    return network
