"""BatchNorm over the batch of all processes, on any device: torch's SyncBatchNorm is for GPUs only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, distributed, nn

from ..networks.normalisation import batchnorms
from .distributed import Processes


@contextmanager
def shared_batchnorm(network: nn.Module, processes: Processes) -> Iterator[None]:
    """Within the block every BatchNorm in training mode takes mean and variance over all processes.

    Output, gradients and running statistics are those that one process has on the whole batch. Frozen layers
    and evaluation mode stay as they are; classes, parameters and state dict keys do not change.
    """
    norms = batchnorms(network) if processes.are_several else []
    for norm in norms:
        norm.forward = partial(_forward, norm)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _forward(norm: nn.BatchNorm2d | nn.BatchNorm3d, x: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, x)
    values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    axes = [axis for axis in range(x.ndim) if axis != 1]
    variance, mean = torch.var_mean(values, axes, correction=0)
    count = values.numel() // values.shape[1]
    sums = _Sum.apply(torch.cat([count * mean, mean.new_tensor([count])]))
    total = sums[-1].detach()
    mean_of_all = sums[:-1] / total
    # Chan, Golub & LeVeque 1979: the spread within the shares and between them.
    variance_of_all = _Sum.apply(count * (variance + (mean - mean_of_all).square())) / total
    _remember(norm, mean_of_all.detach(), variance_of_all.detach() * (total / (total - 1)))
    scale = norm.weight * (variance_of_all + norm.eps).rsqrt()
    shape = [1, -1] + [1] * (x.ndim - 2)
    shift = norm.bias - mean_of_all * scale
    return torch.addcmul(shift.view(shape), values, scale.view(shape)).to(x.dtype)


@torch.no_grad()
def _remember(norm: nn.BatchNorm2d | nn.BatchNorm3d, mean: Tensor, variance: Tensor) -> None:
    norm.num_batches_tracked += 1
    momentum = norm.momentum
    if momentum is None:  # a plain mean over all batches
        momentum = 1 / norm.num_batches_tracked.float()
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient."""

    @staticmethod
    def forward(_, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total
