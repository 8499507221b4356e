"""Several processes that train one network together, as ``torchrun`` starts them.

Every process draws the same batch and takes its share of it; loss and BatchNorm statistics are those of the
whole batch. So a training with several processes computes what one process computes, up to the order of
additions and the draws of dropout: it is no other experiment.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from ..errors import InputError
from ..inference.device import pick_device

T = TypeVar("T")

_PATIENCE = timedelta(hours=6)  # for the others, of which the first may be validating
_FAILURES = "xtl/failures"
# Of DistributedDataParallel: its newer name of an argument, and the strides of 1x1 kernels, which can be read
# in two ways that are the same.
_OF_NO_CONCERN = ("`broadcast_buffers` is deprecated", "Grad strides do not match bucket view strides")


@dataclass(frozen=True)
class Processes:
    """The processes of a training, seen from one of them.

    Attributes
    ----------
    rank, size : number of this process, and how many there are.
    control : group over which decisions are shared, on CPU; None for a single process.
    """

    rank: int = 0
    size: int = 1
    control: Any = field(default=None, repr=False, compare=False)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files, reports and validates."""
        return self.rank == 0

    @property
    def are_several(self) -> bool:
        return self.size > 1

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch, along its first axis; sizes differ by one at most.

        Raises InputError when a process would go without.
        """
        first, end = self._bounds(len(batch))[self.rank]
        return batch[first:end]

    def whole(self, part: Tensor, count: int) -> Tensor:
        """The batch of ``count`` of which every process holds its share; only this process's has a gradient.

        The gradients of one scalar of it, summed over the processes, are the gradient of that scalar.
        """
        if not self.are_several:
            return part
        bounds = self._bounds(count)
        longest = max(end - first for first, end in bounds)
        padded = part.new_zeros(longest, *part.shape[1:])
        padded[: len(part)] = part.detach()
        parts = [torch.empty_like(padded) for _ in bounds]
        distributed.all_gather(parts, padded)
        parts = [got[: end - first] for got, (first, end) in zip(parts, bounds)]
        parts[self.rank] = part
        return torch.cat(parts)

    def from_first(self, function: Callable[[], T]) -> T:
        """What the function gives in the first process, the only one to call it."""
        if not self.are_several:
            return function()
        values = [function() if self.is_first else None]
        distributed.broadcast_object_list(values, group=self.control)
        return values[0]

    @contextmanager
    def first_goes_ahead(self) -> Iterator[None]:
        """A block that the first process has done before the others do it: what it downloads, they find."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        if not self.are_several:
            return flag
        flags = torch.tensor([float(flag)])
        distributed.all_reduce(flags, distributed.ReduceOp.MAX, group=self.control)
        return bool(flags)

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.are_several:
            distributed.barrier(group=self.control)

    def _bounds(self, count: int) -> list[tuple[int, int]]:
        if count < self.size:
            raise InputError(
                f"a batch of {count} for {self.size} processes",
                "Give a batch_size of at least the number of processes, or start fewer",
            )
        ends = [count * (n + 1) // self.size for n in range(self.size)]
        return list(zip([0, *ends[:-1]], ends))


ALONE = Processes()


class Replica:
    """A network whose gradients are the sum over all processes: DistributedDataParallel, or just itself.

    DistributedDataParallel wants to know which parameters learn; where that changes (gradual unfreezing) it
    is made anew.
    """

    def __init__(self, network: nn.Module, processes: Processes) -> None:
        self._network, self._processes = network, processes
        self._learning: list[bool] = []
        self._module = network

    def __call__(self, inputs: Tensor) -> Tensor:
        return self._module(inputs)

    def accumulating(self, is_last: bool) -> AbstractContextManager:
        """The block of one batch of a step; the gradients are exchanged after the last one."""
        if not self._processes.are_several:
            return nullcontext()
        learning = [parameter.requires_grad for parameter in self._network.parameters()]
        if learning != self._learning:
            self._learning = learning
            # Buffers are equal in all processes already, as statistics are shared.
            self._module = nn.parallel.DistributedDataParallel(self._network, broadcast_buffers=False)
        return nullcontext() if is_last else self._module.no_sync()

    @property
    def loss_factor(self) -> int:
        """What the loss of a whole batch counts in each process, as DistributedDataParallel takes the mean."""
        return self._processes.size


@contextmanager
def joined(device: str) -> Iterator[tuple[torch.device, Processes]]:
    """Meet the other processes when ``torchrun`` started this one; gives this process's device and the processes.

    The first process whose block raises an error lets it through; the others, which only lose their
    connection then, end without a word.

    Parameters
    ----------
    device : "auto" or "cuda" gives every process of a machine its own GPU; "cpu" lets them share the processor.

    Raises
    ------
    InputError : one GPU was named for all, or there are fewer GPUs than processes.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield pick_device(device), ALONE
        return
    for message in _OF_NO_CONCERN:
        warnings.filterwarnings("ignore", message)
    try:
        own = _own_device(device)
        if own.type == "cuda":
            torch.cuda.set_device(own)
        distributed.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=_PATIENCE)
        control = distributed.new_group(backend="gloo", timeout=_PATIENCE)
        yield own, Processes(distributed.get_rank(), distributed.get_world_size(), control)
    except BaseException:
        if not _is_first_to_fail():
            raise SystemExit(1) from None
        raise
    distributed.destroy_process_group()


def _own_device(device: str) -> torch.device:
    picked = pick_device(device)
    if picked.type == "cpu":
        return picked
    if picked.index is not None:
        raise InputError(f"the device {device} for several processes", "Choose auto, so that each takes its own GPU")
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= there:
        raise InputError(
            f"{os.environ['LOCAL_WORLD_SIZE']} processes for {there} GPUs",
            "Start one process for each GPU, or take --device cpu",
        )
    return torch.device("cuda", number)


def _is_first_to_fail() -> bool:
    try:
        store = distributed.TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=timedelta(seconds=10)
        )
        return store.add(_FAILURES, 1) == 1
    except (RuntimeError, KeyError, ValueError):  # who held the store is gone: it failed before
        return False
