"""AdamW on encoder and head with their own learning rates, on a one-cycle schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

if TYPE_CHECKING:
    from ..transfer.training import Training


def make_optimiser(network: nn.Module, training: Training, steps: int) -> tuple[AdamW, OneCycleLR]:
    """The optimiser of a stage and its schedule over ``steps`` steps.

    One cycle (Smith & Topin 2018, arXiv 1708.07120, as in Romero 2020's code): the rate climbs for 30 % of
    the steps from 1/25 of its peak and falls to nearly nothing, on cosines, while AdamW's first beta goes
    from 0.95 to 0.85 and back. Weight decay spares biases and normalisation. An encoder whose rate is 0 is
    taken out of training.
    """
    groups, peaks = [], []
    for name, parameters in network.parameter_groups().items():
        peak = training.learning_rate * (training.encoder_rate if name == "encoder" else 1.0)
        for parameter in parameters:
            parameter.requires_grad_(peak > 0)
        if peak == 0:
            continue
        for decays in (True, False):
            members = [p for p in parameters if (p.ndim > 1) == decays]
            if members:
                groups.append({"params": members, "weight_decay": training.weight_decay if decays else 0.0})
                peaks.append(peak)
    optimiser = AdamW(groups, lr=training.learning_rate)
    # OneCycleLR wants room for both phases of the cycle.
    schedule = OneCycleLR(optimiser, peaks, total_steps=max(steps, 4) + 1)
    return optimiser, schedule
