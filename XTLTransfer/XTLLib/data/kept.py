"""Arrays that were made before, as many as fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np


class KeptArrays:
    """The arrays asked for last, up to so many bytes; whoever gets one must not write into it."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._held = limit_bytes, 0
        self._arrays: OrderedDict[Hashable, np.ndarray] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of a key; made, and kept, where it is not here."""
        if key in self._arrays:
            self._arrays.move_to_end(key)
            return self._arrays[key]
        array = make()
        self._arrays[key] = array
        self._held += array.nbytes
        while self._held > self._limit:
            self._held -= self._arrays.popitem(last=False)[1].nbytes
        return array
