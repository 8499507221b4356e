"""Batches that are prepared while the network is at work on those before them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")


@contextmanager
def drawn_ahead(draw: Callable[[int], T], numbers: range) -> Iterator[Iterator[T]]:
    """An iterator over ``draw(number)``, called in a thread of its own, one number ahead."""
    with ThreadPoolExecutor(1, "xtl-batches") as pool:
        _leave_cores_to_training(pool)
        yield _drawn(pool, draw, numbers)


def _drawn(pool: ThreadPoolExecutor, draw: Callable[[int], T], numbers: range) -> Iterator[T]:
    coming = pool.submit(draw, numbers[0]) if numbers else None
    for number in numbers:
        batch = coming.result()
        if number + 1 in numbers:
            coming = pool.submit(draw, number + 1)
        yield batch


def _leave_cores_to_training(pool: ThreadPoolExecutor) -> None:
    """Let the thread that prepares batches compute on one core: two teams of threads would wait for each other."""
    threads = torch.get_num_threads()
    pool.submit(torch.set_num_threads, 1).result()
    torch.set_num_threads(threads)  # the other thread's setting counted for this one too
