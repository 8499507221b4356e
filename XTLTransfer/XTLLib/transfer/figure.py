"""A number with its interval, as records and reports carry it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import InputError


@dataclass(frozen=True)
class Figure:
    """An estimate and its interval; ``float(figure)`` is the estimate.

    Attributes
    ----------
    value : the estimate. low, high : bounds of the interval, None where there is none.
    unit : of the three numbers, "" for a share or a score without one ("mm", "mm3", "s").
    level : coverage of the interval.
    resampled : what the bootstrap drew ("patient"), "" where there is no interval.
    count : how many of these there were. draws : bootstrap draws used.
    """

    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""
    level: float = 0.95
    resampled: str = ""
    count: int | None = None
    draws: int | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        numbers = [self.value, *bounds, self.level]
        good = all(isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n) for n in numbers)
        if not (good and len(bounds) in (0, 2) and 0 < self.level < 1) or (bounds and bounds[0] > bounds[1]):
            raise InputError(
                f"the figure {self.value} with the interval {self.low} to {self.high} at the level {self.level}",
                "Give finite numbers, both bounds or none, and a level between 0 and 1",
            )

    def __float__(self) -> float:
        return float(self.value)

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.low is None:
            return f"{self.value:.3g}{unit}"
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g}){unit}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able data: ``value``, and what else is not at its default; an interval with its level."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {name: value for name, value in values.items() if value not in (None, "") and name != "level"}
        return {**kept, "level": self.level} if self.low is not None else kept

    @classmethod
    def of_interval(cls, interval: Any, name: str = "auc") -> Figure:
        """From what :mod:`XTLLib.metrics.roc` gives: the attribute ``name``, low, high, level, draws, patients."""
        return cls(
            float(getattr(interval, name)),
            float(interval.low),
            float(interval.high),
            level=float(interval.level),
            resampled="patient",
            count=int(interval.patients),
            draws=int(interval.draws),
        )


def figure_from(value: float | Figure | Mapping[str, Any] | None, name: str) -> float | Figure | None:
    """A metric as a record holds it: a number or None stays, what ``Figure.to_dict`` gave becomes a Figure.

    Raises InputError that names the metric when it is neither.
    """
    if value is None or isinstance(value, Figure):
        return value
    try:
        if isinstance(value, Mapping):
            return Figure(**value)
        return value if isinstance(value, int) else float(value)
    except (TypeError, ValueError, InputError) as error:
        raise InputError(
            f"the metric {name} is no figure ({error})", "Give a number, or value, low and high"
        ) from error
