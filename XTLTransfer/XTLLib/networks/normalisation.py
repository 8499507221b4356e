"""What happens to BatchNorm when a pretrained network is trained further."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import InputError


class _FrozenStatistics:
    """BatchNorm that keeps using its stored statistics: ``train()`` leaves it in evaluation mode."""

    def train(self, mode: bool = True):
        return super().train(False)


class FrozenBatchNorm2d(_FrozenStatistics, nn.BatchNorm2d):
    """2D BatchNorm with fixed statistics; weight and bias are trained."""


class FrozenBatchNorm3d(_FrozenStatistics, nn.BatchNorm3d):
    """3D BatchNorm with fixed statistics; weight and bias are trained."""


_FROZEN = {nn.BatchNorm2d: FrozenBatchNorm2d, nn.BatchNorm3d: FrozenBatchNorm3d}
_FREE = {frozen: free for free, frozen in _FROZEN.items()}


def set_batchnorm(module: nn.Module, policy: Literal["frozen", "train"]) -> None:
    """Choose, in place, whether the BatchNorm layers of a module learn new statistics.

    "frozen": the running mean and variance stay as they are and are used in training too, whatever
    ``train()`` says; weight and bias are still trained. Right for small batches and for weights whose
    BatchNorm is folded. "train": the usual behaviour. State dict keys do not change.
    """
    if policy not in ("frozen", "train"):
        raise InputError(f"the BatchNorm policy {policy!r}", "Choose frozen or train")
    kinds = _FROZEN if policy == "frozen" else _FREE
    for part in module.modules():
        # Changing the class keeps parameters, buffers, hooks and places in optimisers as they are.
        if type(part) in kinds:
            part.__class__ = kinds[type(part)]
            part.train(module.training)


def batchnorms(module: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    """The BatchNorm layers of a module, frozen or not; those of a projection head are 1D."""
    return [part for part in module.modules() if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))]


@torch.no_grad()
def is_folded(module: nn.Module) -> bool:
    """Whether a BatchNorm of a module has mean 0 and variance 1, as after folding into its convolution.

    False for a module without BatchNorm. Training such a layer with batch statistics would change what it
    computes from the first step on: freeze it or recalibrate it first.
    """
    return any(bool((norm.running_mean == 0).all() and (norm.running_var == 1).all()) for norm in batchnorms(module))


@torch.no_grad()
def recalibrate_batchnorm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give every BatchNorm the statistics of real inputs without changing what the network computes.

    The running mean and variance become those of the data, and weight and bias are changed so that the
    output in evaluation mode stays the same to float tolerance. Afterwards training with batch
    statistics starts from about the same function too. For weights whose BatchNorm is folded.

    Parameters
    ----------
    network : changed in place; its training mode is kept.
    batches : inputs of the network, at least one.

    Raises
    ------
    InputError : no batch was given, or statistics are not finite.
    """
    norms = batchnorms(network)
    sums = {norm: torch.zeros(2, norm.num_features, dtype=torch.float64, device=norm.weight.device) for norm in norms}
    counts = dict.fromkeys(norms, 0)

    def observe(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1).double()
        sums[norm] += torch.stack([values.sum(1), values.square().sum(1)])
        counts[norm] += values.shape[1]

    hooks = [norm.register_forward_pre_hook(observe) for norm in norms]
    modes = {part: part.training for part in network.modules()}
    try:
        network.eval()
        for batch in batches:
            network(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in modes.items():
            part.training = training
    for norm in norms:
        if counts[norm] == 0 or not torch.isfinite(sums[norm]).all():
            raise InputError("the inputs for BatchNorm statistics", "Give at least one batch of finite values")
        mean, square = sums[norm] / counts[norm]
        _reparametrise(norm, mean, (square - mean.square()).clamp(min=0))


def _reparametrise(norm: nn.BatchNorm2d | nn.BatchNorm3d, mean: Tensor, variance: Tensor) -> None:
    """y = w (x - m) / sqrt(v + eps) + b with other m and v, and w and b such that y stays the same."""
    old_scale = (norm.running_var.double() + norm.eps).sqrt()
    weight = norm.weight.double() / old_scale
    bias = norm.bias.double() + weight * (mean - norm.running_mean.double())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    # From the stored float32 variance, so that its rounding is compensated as well.
    norm.weight.copy_(weight * (norm.running_var.double() + norm.eps).sqrt())
    norm.bias.copy_(bias)
