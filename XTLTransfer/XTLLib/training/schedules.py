"""How the learning rate goes through a training: functions of the step, so that nothing is lost between runs."""

from __future__ import annotations

import math
from typing import Any, Protocol

PLATEAU_END = 1e-6  # Romero et al. 2020: a rate below it trains no more
_DROP = 0.1
_RISE = 1e-3  # of the validation loss between two validations, as in the code of Romero et al. 2020
_TOLERANCE = 1e-9  # relative; 1e-3 divided by 10 three times is not below 1e-6


class Schedule(Protocol):
    """The rate of every step, counted from 0."""

    def rate(self, peak: float, step: int) -> float:
        """The learning rate of a step where ``peak`` is the largest one."""
        ...

    def momentum(self, step: int) -> float | None:
        """The momentum, or Adam's first beta, of a step; None leaves the optimiser's own."""
        ...


class Constant:
    """The same rate at every step."""

    def rate(self, peak: float, step: int) -> float:
        return peak

    def momentum(self, step: int) -> float | None:
        return None


class OneCycle:
    """One cycle (Smith & Topin 2018, arXiv 1708.07120), with the figures of the code of Romero et al. 2020.

    The rate climbs for 30 % of the steps from 1/25 of its peak, and falls for 70 % to 1e-4 of where it began,
    on cosines; the momentum goes from 0.95 to 0.85 and back. The same numbers as torch's ``OneCycleLR``.
    """

    _RISE_SHARE, _DIVISOR, _END_DIVISOR = 0.3, 25.0, 1e4
    _MOMENTA = (0.85, 0.95)

    def __init__(self, steps: int) -> None:
        total = max(steps, 4) + 1  # both phases have room
        self._top, self._end = self._RISE_SHARE * total - 1, total - 1

    def rate(self, peak: float, step: int) -> float:
        start = peak / self._DIVISOR
        return self._between(start, peak, start / self._END_DIVISOR, step)

    def momentum(self, step: int) -> float | None:
        low, high = self._MOMENTA
        return self._between(high, low, high, step)

    def _between(self, start: float, top: float, end: float, step: int) -> float:
        if step <= self._top:
            return _cosine(start, top, step / self._top)
        return _cosine(top, end, (step - self._top) / (self._end - self._top))


class HalfCosine:
    """From the peak to nothing on half a cosine (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts)."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def rate(self, peak: float, step: int) -> float:
        return _cosine(peak, 0.0, step / self._steps)

    def momentum(self, step: int) -> float | None:
        return None


class Plateau:
    """A tenth of the rate whenever the validation loss rises, the "regular" policy of Romero et al. 2020.

    A rise is one of more than 0.001 from one validation to the next. Without validations the rate stays.
    """

    def __init__(self) -> None:
        self._drops = 0
        self._last: float | None = None

    def rate(self, peak: float, step: int) -> float:
        return peak * _DROP**self._drops

    def momentum(self, step: int) -> float | None:
        return None

    def after_validation(self, loss: float) -> None:
        if self._last is not None and loss - self._last > _RISE:
            self._drops += 1
        self._last = loss

    def is_finished(self, peak: float) -> bool:
        return self.rate(peak, 0) < PLATEAU_END * (1 - _TOLERANCE)

    def state_dict(self) -> dict[str, Any]:
        return {"drops": self._drops, "last": self._last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._drops, self._last = state["drops"], state["last"]


class Exponential:
    """From ``lowest`` to the peak, by the same factor at every step: the range test of ``lr_finder``."""

    def __init__(self, steps: int, lowest: float) -> None:
        self._steps, self._lowest = steps, lowest

    def rate(self, peak: float, step: int) -> float:
        return peak * (self._lowest / peak) ** (1 - step / (self._steps - 1))

    def momentum(self, step: int) -> float | None:
        return None


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
