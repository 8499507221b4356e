"""Which examples a step sees, as a function of the step alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence

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


class BalancedPasses:
    """The examples of each step when all classes are seen equally often: they take turns, whatever their sizes.

    A rare class begins anew, in a new order, whenever its examples are used up; a pass is as many steps as
    one of ShuffledPasses.

    Parameters
    ----------
    labels : the class of every example. batch_size, seed : as of ShuffledPasses.
    """

    def __init__(self, labels: Sequence[int] | np.ndarray, batch_size: int, seed: int) -> None:
        labels = np.asarray(labels)
        self._batch_size = min(batch_size, len(labels))
        self.steps_per_pass = len(labels) // self._batch_size
        self._members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self._order = functools.lru_cache(maxsize=4 * len(self._members))(
            lambda label, n: generator(seed, "class order", label, n).permutation(self._members[label])
        )

    def examples(self, step: int) -> np.ndarray:
        """Indices of the examples of a step, counted from 0."""
        first = step * self._batch_size
        return np.array([self._example(place) for place in range(first, first + self._batch_size)])

    def _example(self, place: int) -> int:
        turn, label = divmod(place, len(self._members))
        number, index = divmod(turn, len(self._members[label]))
        return int(self._order(label, number)[index])
