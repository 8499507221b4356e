"""Maps from a network's probabilities to calibrated ones, fitted on findings that the network was not trained on.

Neither map changes which of two findings is ranked higher (isotonic regression may make them equal). Fitted and
judged on the same findings both look better than they are: fit on validation findings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .binary import checked_probabilities, checked_scores

_SMALLEST, _LARGEST = 0.02, 50.0  # temperatures; separable findings would otherwise want 0
_EPSILON = 1e-7


@dataclass(frozen=True)
class Temperature:
    """Temperature scaling (Guo et al. 2017, ICML): probability -> sigmoid(logit(probability) / temperature)."""

    temperature: float

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, of any shape; those of 0 and 1 are first moved inwards by 1e-7."""
        return 0.5 + 0.5 * np.tanh(_logit(probabilities) / (2.0 * self.temperature))  # the sigmoid, without overflow


@dataclass(frozen=True, eq=False)
class Isotonic:
    """Isotonic regression: straight lines between (scores, probabilities), constant beyond the ends.

    Attributes
    ----------
    scores : (k,) ascending. probabilities : (k,) that never fall.
    """

    scores: np.ndarray
    probabilities: np.ndarray

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of scores of any shape."""
        return np.interp(np.asarray(scores, dtype=np.float64), self.scores, self.probabilities)


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> Temperature:
    """The temperature of the largest likelihood, between 0.02 and 50.

    Parameters
    ----------
    probabilities : (n,) 0 to 1. truth : (n,) 0 or 1, both present.
    """
    probabilities, truth = checked_probabilities(probabilities, truth)
    if truth.all() or not truth.any():
        raise InputError("a temperature of findings that are all of one class", "Give findings of both classes")
    from scipy.optimize import minimize_scalar

    signed = np.where(truth, 1.0, -1.0) * _logit(probabilities)
    # In 1/temperature the loss is convex, so that the bounded search finds its only minimum.
    found = minimize_scalar(
        lambda inverse: np.logaddexp(0.0, -signed * inverse).mean(),
        bounds=(1.0 / _LARGEST, 1.0 / _SMALLEST),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return Temperature(float(1.0 / found.x))


def fit_isotonic(scores: np.ndarray, truth: np.ndarray) -> Isotonic:
    """The non-decreasing map of the least squared error, by pooling adjacent violators (Ayer et al. 1955).

    Parameters
    ----------
    scores : (n,) finite, probabilities or logits; equal scores get one value. truth : (n,) 0 or 1.
    """
    scores, truth = checked_scores(scores, truth, both_classes=False)
    distinct, index = np.unique(scores, return_inverse=True)
    weights = np.bincount(index).astype(np.float64)
    shares = np.bincount(index, weights=truth) / weights
    blocks: list[list[float]] = []  # value, weight, number of distinct scores
    for value, weight in zip(shares, weights):
        blocks.append([value, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            value, weight, size = blocks.pop()
            last = blocks[-1]
            last[0] = (last[0] * last[1] + value * weight) / (last[1] + weight)
            last[1] += weight
            last[2] += size
    fitted = np.repeat([block[0] for block in blocks], [int(block[2]) for block in blocks])
    return Isotonic(distinct, fitted)


def _logit(probabilities: np.ndarray) -> np.ndarray:
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), _EPSILON, 1.0 - _EPSILON)
    return np.log(clipped / (1.0 - clipped))
