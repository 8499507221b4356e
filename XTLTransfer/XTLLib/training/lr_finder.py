"""The learning-rate range test: which rate makes the loss fall fastest (Smith 2017, arXiv 1506.01186)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import XTLError
from ..files import atomic_file
from .policy import make_policy
from .schedules import Exponential
from .seeds import derive

if TYPE_CHECKING:
    from ..transfer.training import Training

_STEPS = 100
_LOWEST, _HIGHEST = 1e-6, 1.0
_EXPLODED = 4.0  # times the first loss: nothing more is to be learned
_WINDOW = 10  # points on either side over which the loss is smoothed
_FEWEST = 5  # points

LossOf = Callable[[nn.Module, int], Tensor]


@dataclass(frozen=True, eq=False)
class RangeTest:
    """The loss while the learning rate of the head rose by the same factor at every step.

    Attributes
    ----------
    rates, losses : of every step. smoothed : the losses on straight lines over the logarithm of the rate, fitted
        to the points around each. slopes : of these lines, in loss a decade.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    slopes: np.ndarray

    @classmethod
    def of(cls, rates: np.ndarray, losses: np.ndarray) -> RangeTest:
        """Smooth a curve of finite losses."""
        rates, losses = np.asarray(rates, float), np.asarray(losses, float)
        decades = np.log10(rates)
        smoothed, slopes = np.empty_like(losses), np.empty_like(losses)
        for place in range(len(losses)):
            around = slice(max(0, place - _WINDOW), place + _WINDOW + 1)
            x, y = decades[around] - decades[place], losses[around]
            slopes[place] = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
            smoothed[place] = y.mean() - slopes[place] * x.mean()
        return cls(rates, losses, smoothed, slopes)

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest, before its lowest point.

        Raises XTLError where it falls nowhere.
        """
        lowest = max(int(self.smoothed.argmin()), 1)
        place = int(self.slopes[:lowest].argmin())
        if self.slopes[place] >= 0:
            raise XTLError(
                "the learning-rate range test found no rate at which the loss falls",
                "Give learning_rate a number, such as 1.0e-3",
            )
        return float(self.rates[place])

    def save(self, folder: Path) -> None:
        """Write ``lr_finder.tsv`` and, where matplotlib is installed, ``lr_finder.png``."""
        with atomic_file(folder / "lr_finder.tsv") as draft, open(draft, "w", encoding="utf-8") as stream:
            stream.write("learning_rate\tloss\tsmoothed_loss\tslope_per_decade\n")
            for row in zip(self.rates, self.losses, self.smoothed, self.slopes):
                stream.write("\t".join(f"{value:.8g}" for value in row) + "\n")
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot(xscale="log", xlabel="learning rate of the head", ylabel="loss")
        axes.plot(self.rates, self.losses, color="0.75", label="loss")
        axes.plot(self.rates, self.smoothed, label="smoothed")
        axes.axvline(self.steepest, color="C1", linestyle="--", label=f"steepest at {self.steepest:.2g}")
        axes.legend()
        with atomic_file(folder / "lr_finder.png") as draft:
            figure.savefig(draft, dpi=120)


def find_learning_rate(network: nn.Module, training: Training, loss_of: LossOf, *, seed: int, folder: Path) -> float:
    """The rate of the head at which the loss falls fastest; its table and plot are left in ``folder``.

    A copy of the network is trained for 100 steps, from a rate of 1e-6 to one of 1 or until the loss is four
    times that of the first step. All layer groups learn but those that are ``frozen``, at their shares of the
    rate. The network itself is left as it is, and on CPU the answer is always the same.

    Parameters
    ----------
    network : on its device, as ``make_policy`` wants it.
    loss_of : (network, number of a batch) -> the loss to be made smaller, a scalar.
    seed : of the stage. folder : of the stage.

    Raises
    ------
    XTLError : the loss falls at no rate.
    """
    network = copy.deepcopy(network).train()
    training = training.model_copy(update={"learning_rate": _HIGHEST, "unfreeze": ()})
    policy = make_policy(network, training, _STEPS, seed=seed, schedule=Exponential(_STEPS, _LOWEST))
    device = next(network.parameters()).device
    rates: list[float] = []
    losses: list[float] = []
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for step in range(_STEPS):
            policy.before_step(step)
            torch.manual_seed(derive(seed, "range test", step))  # dropout
            loss = loss_of(network, step)
            value = float(loss.detach())
            if not math.isfinite(value) or (losses and value > _EXPLODED * losses[0]):
                break
            rates.append(policy.rate)
            losses.append(value)
            penalty = policy.penalty()
            policy.optimiser.zero_grad(set_to_none=True)
            (loss if penalty is None else loss + penalty).backward()
            if training.clip_norm is not None:
                nn.utils.clip_grad_norm_(policy.trained, training.clip_norm)
            policy.optimiser.step()
            policy.after_step()
    if len(losses) < _FEWEST:
        raise XTLError(
            "the learning-rate range test ended at once: the loss is no number, or explodes at the smallest rate",
            "Look for images with extreme values, or give learning_rate a number",
        )
    test = RangeTest.of(np.array(rates), np.array(losses))
    rate = test.steepest
    test.save(folder)
    return rate
