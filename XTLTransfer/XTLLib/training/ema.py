"""The moving average of the weights that a training passes through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """Exponential moving average of a network's parameters (Polyak & Juditsky 1992).

    After ``n`` steps the decay is min(decay, (1 + n) / (10 + n)): the average of a short training would
    otherwise be that of the weights it began with. Buffers are not averaged: an average of BatchNorm
    statistics is not the statistics of averaged weights.

    Parameters
    ----------
    network : on its device. decay : below 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._names, self._live = zip(*network.named_parameters())
        self._averages = [parameter.detach().clone() for parameter in self._live]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the weights after ``steps`` steps."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        get_ema_multi_avg_fn(decay)(self._averages, [parameter.detach() for parameter in self._live], None)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages in the network within the block; afterwards its own weights again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Tensor]:
        return dict(zip(self._names, self._averages))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, average in zip(self._names, self._averages):
            average.copy_(state[name])

    def _swap(self) -> None:
        # The tensors change places, not their values: nothing is copied.
        for index, parameter in enumerate(self._live):
            parameter.data, self._averages[index] = self._averages[index], parameter.data
