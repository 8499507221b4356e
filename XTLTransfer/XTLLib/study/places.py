"""How many runs of a study a machine takes at a time, and where each of them computes."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import InputError
from .pool import Pool

_GIB = 2**30
CPU_GIB, GPU_GIB = 1.5, 8.0  # memory that a run is taken to need; project choices


@dataclass(frozen=True)
class Resources:
    """Where the runs of a study are done.

    Attributes
    ----------
    device : "auto", "cpu", "cuda" or "cuda:N". processes : at the same time; None lets cores and memory decide.
    threads : that each run computes in. Sums are taken in another order with another number, so that figures
        differ in their last digits: keep it for all of a study.
    memory_gib : that a run is taken to need; None takes 1.5 on CPU, 8 on a GPU.
    ray : address of a Ray cluster, "local" for one of this machine's; None for processes without Ray.
    gpus : share of a GPU that a run takes on a Ray cluster; 0 computes on CPU.
    """

    device: str = "auto"
    processes: int | None = None
    threads: int = 1
    memory_gib: float | None = None
    ray: str | None = None
    gpus: float = 0.0

    def open_pool(self) -> Pool:
        """The processes, not yet started. Raises MissingPackageError when Ray is asked for and is not installed."""
        if self.ray is not None:
            from .ray_pool import RayPool

            return RayPool(self.ray, self.processes, self.threads, self.gpus)
        from .local_pool import LocalPool

        return LocalPool(places_here(self.device, self.processes, self.threads, self.memory_gib), self.threads)

    @property
    def words(self) -> str:
        """The device, as a record names it: nothing about the machine."""
        from ..inference.device import pick_device
        from ..transfer.provenance import device_words

        if self.ray is not None:
            return "a Ray cluster's GPUs" if self.gpus else "a Ray cluster's CPUs"
        return device_words(pick_device(self.device))


def places_here(
    device: str = "auto", processes: int | None = None, threads: int = 1, memory_gib: float | None = None
) -> tuple[str, ...]:
    """The device of each process.

    On CPU as many processes as the usable cores have room for, with ``threads`` threads each; on GPUs as many on
    each as its free memory takes and the cores feed. At least one.

    Parameters
    ----------
    device : "auto" (all GPUs where there are any), "cpu", "cuda" (all GPUs) or "cuda:N".
    processes : so many; None lets cores and memory decide.
    memory_gib : that a run needs; None takes 1.5 on CPU, 8 on a GPU.
    """
    import torch

    from ..inference.device import pick_device
    from ..inference.memory import free_memory

    for name, value in (("processes", processes), ("threads", threads), ("memory", memory_gib)):
        if value is not None and value <= 0:
            raise InputError(f"--{name} is {value}", "Give a number above 0")
    first = pick_device(device)
    by_cores = max(1, usable_cores() // threads)
    if first.type == "cpu":
        by_memory = int(free_memory(first) / _GIB / (memory_gib or CPU_GIB))
        return ("cpu",) * (processes or max(1, min(by_cores, by_memory)))
    numbers = range(torch.cuda.device_count()) if first.index is None else (first.index,)
    gpus = [torch.device("cuda", number) for number in numbers]
    room = [max(1, int(free_memory(gpu) / _GIB / (memory_gib or GPU_GIB))) for gpu in gpus]
    # In turns, so that fewer processes than there is room for spread over the GPUs.
    turns = [str(gpu) for turn in range(max(room)) for gpu, count in zip(gpus, room) if turn < count]
    if processes is None:
        return tuple(turns[: max(by_cores, 1)])
    return tuple(turns[number % len(turns)] for number in range(processes))


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
