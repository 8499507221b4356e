"""Whether probabilities mean what they say: Brier score, reliability curve, expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import InputError
from .binary import checked_probabilities
from .bootstrap import tails

Binning = Literal["width", "count"]


@dataclass(frozen=True, eq=False)
class ReliabilityCurve:
    """Bins of findings by predicted probability; bins without a finding are left out.

    Attributes
    ----------
    predicted : (b,) mean predicted probability of a bin. observed : (b,) share of positives in it.
    low, high : (b,) Wilson interval of that share at ``level``, findings counted as independent.
    count : (b,) findings. binning : "width" (equal parts of 0 to 1) or "count" (equal numbers of findings).
    """

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    binning: Binning
    level: float

    @property
    def expected_error(self) -> float:
        """Expected calibration error: the mean over findings of |observed - predicted| of their bin, 0 to 1."""
        return float((self.count * np.abs(self.observed - self.predicted)).sum() / self.count.sum())

    @property
    def largest_error(self) -> float:
        """Maximum calibration error: the largest |observed - predicted| of a bin."""
        return float(np.abs(self.observed - self.predicted).max())


def brier(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean of (probability - truth)² (Brier 1950); 0 is perfect, 0.25 is what 0.5 for all gives."""
    probabilities, truth = checked_probabilities(probabilities, truth)
    return float(np.mean((probabilities - truth) ** 2))


def reliability_curve(
    probabilities: np.ndarray, truth: np.ndarray, bins: int = 10, binning: Binning = "width", level: float = 0.95
) -> ReliabilityCurve:
    """Predicted against observed risk.

    Parameters
    ----------
    probabilities : (n,) 0 to 1. truth : (n,) 0 or 1; one class alone is allowed.
    bins : how many. binning : "width": bin number floor(bins * p), 1.0 in the last; "count": bins of findings in the
        order of their probabilities, equal probabilities always in one bin.
    """
    probabilities, truth = checked_probabilities(probabilities, truth)
    if bins < 1 or binning not in ("width", "count"):
        raise InputError(f"{bins} bins by {binning!r}", "Give one bin or more, by 'width' or by 'count'")
    if binning == "width":
        number = np.minimum((probabilities * bins).astype(int), bins - 1)
    else:
        edges = np.unique(np.quantile(probabilities, np.arange(1, bins) / bins))
        number = np.searchsorted(edges, probabilities, side="right")
    count = np.bincount(number)
    filled = count > 0
    count = count[filled]
    predicted = np.bincount(number, weights=probabilities)[filled] / count
    positives = np.bincount(number, weights=truth)[filled]
    low, high = wilson_interval(positives, count, level)
    return ReliabilityCurve(predicted, positives / count, low, high, count, binning, level)


def expected_calibration_error(
    probabilities: np.ndarray, truth: np.ndarray, bins: int = 10, binning: Binning = "width"
) -> float:
    """ECE of binary probabilities (Naeini et al. 2015, AAAI), 0 to 1; depends on the bins, so state them."""
    return reliability_curve(probabilities, truth, bins, binning).expected_error


def wilson_interval(successes: np.ndarray, trials: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval (1927) of shares; NaN without trials."""
    from scipy.stats import norm

    successes, trials = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    z = norm.ppf(tails(level)[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        share = successes / trials
        middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
        reach = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return np.clip(middle - reach, 0.0, 1.0), np.clip(middle + reach, 0.0, 1.0)
