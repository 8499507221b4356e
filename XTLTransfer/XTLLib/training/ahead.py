"""Batches that are prepared while the network is at work on those before them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")

_MOST_THREADS = 8


def threads_beside(device: torch.device) -> int:
    """How many threads prepare batches: one beside a CPU that computes, as many as cores are idle beside a GPU."""
    if device.type == "cpu":
        return 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # that torchrun started on this machine
    return max(1, min(_MOST_THREADS, (os.cpu_count() or 1) // processes - 1))


@contextmanager
def drawn_ahead(draw: Callable[[int], T], numbers: range, threads: int = 1) -> Iterator[Iterator[T]]:
    """An iterator over ``draw(number)`` in the order of ``numbers``, called in threads, as many numbers ahead.

    ``draw`` has to be a function of its number alone, so that the number of threads changes nothing.
    """
    with ThreadPoolExecutor(threads, "xtl-batches") as pool:
        _leave_cores_to_training(pool, threads)
        yield _drawn(pool, draw, numbers, threads)


def _drawn(pool: ThreadPoolExecutor, draw: Callable[[int], T], numbers: range, ahead: int) -> Iterator[T]:
    left = iter(numbers)
    coming: deque[Future[T]] = deque(pool.submit(draw, number) for number in islice(left, ahead))
    while coming:
        batch = coming.popleft().result()
        coming.extend(pool.submit(draw, number) for number in islice(left, 1))
        yield batch


def _leave_cores_to_training(pool: ThreadPoolExecutor, count: int) -> None:
    """Let each thread that prepares batches compute on one core: teams of threads would wait for each other."""
    before, all_started = torch.get_num_threads(), Barrier(count)

    def use_one_core() -> None:
        torch.set_num_threads(1)
        all_started.wait()  # so that every thread gets one of these calls

    for started in [pool.submit(use_one_core) for _ in range(count)]:
        started.result()
    torch.set_num_threads(before)  # the other threads' setting counted for this one too
