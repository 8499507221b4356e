"""Passes over a fixed set of examples."""

from __future__ import annotations

import functools

import numpy as np

from .seeds import generator


class ShuffledPasses:
    """The examples of each step when all are seen once a pass, in a new order every pass.

    Parameters
    ----------
    count : examples. batch_size : of a step; fewer when there are fewer examples.
    seed : of the stage. What does not fill a batch is left out of that pass.
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self._batch_size = min(batch_size, count)
        self.steps_per_pass = count // self._batch_size
        self._order = functools.lru_cache(maxsize=2)(lambda n: generator(seed, "order", n).permutation(count))

    def examples(self, step: int) -> np.ndarray:
        """Indices of the examples of a step, counted from 0."""
        number, place = divmod(step, self.steps_per_pass)
        first = place * self._batch_size
        return self._order(number)[first : first + self._batch_size]
