"""BatchNorm statistics of a network that is about to be used."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def refresh_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give every BatchNorm that is being trained the mean statistics of ``batches`` under the present weights.

    The running averages of training lag behind weights that change quickly, which in a training of a few
    hundred steps costs accuracy. Frozen statistics stay; a network without trained BatchNorm is left alone.
    The network's mode is kept.
    """
    was_training = network.training
    network.train()
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    if norms:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
        for batch in batches:
            network(batch)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    network.train(was_training)
