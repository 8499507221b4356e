"""The ROC curve, and its band by the patient bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .binary import checked_scores
from .bootstrap import INTERVAL_DRAWS, patient_draws, tails


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Points of the curve from (0, 0) to (1, 1), one for each distinct score.

    Attributes
    ----------
    false_positive_rate, true_positive_rate : (t,) ascending; joined by straight lines, so that ties count one half.
    thresholds : (t,) descending; a finding is positive when its score is at least the threshold. The first is inf.
    """

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray


@dataclass(frozen=True, eq=False)
class RocBand:
    """Pointwise band of a curve.

    Attributes
    ----------
    false_positive_rate : (g,) grid from 0 to 1. true_positive_rate : (g,) of the curve there.
    low, high : (g,) bounds that hold at each point with probability ``level``, not for the curve as a whole.
    draws : bootstrap draws of patients.
    """

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float
    draws: int


def roc_curve(scores: np.ndarray, truth: np.ndarray) -> RocCurve:
    """All points of the ROC curve of scores (n,) and truth (n,). Raises InputError as :func:`.roc.auc`."""
    scores, truth = checked_scores(scores, truth)
    thresholds, positive, negative = counts_by_threshold(scores, truth, np.ones((1, scores.size)))
    return RocCurve(
        np.r_[0.0, negative[0] / negative[0, -1]],
        np.r_[0.0, positive[0] / positive[0, -1]],
        np.r_[np.inf, thresholds],
    )


def roc_band(
    scores: np.ndarray,
    truth: np.ndarray,
    patients: Sequence,
    points: int = 101,
    draws: int = INTERVAL_DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> RocBand:
    """True positive rate at each of ``points`` false positive rates, with its interval over draws of patients."""
    scores, truth = checked_scores(scores, truth)
    grid = np.linspace(0.0, 1.0, points)
    curves = []
    for weights in patient_draws(patients, draws, seed, [truth]):
        _, positive, negative = counts_by_threshold(scores, truth, weights)
        for tp, fp in zip(positive, negative):
            curves.append(_true_rate_at(grid, np.r_[0.0, fp / fp[-1]], np.r_[0.0, tp / tp[-1]]))
    curve = roc_curve(scores, truth)
    low, high = np.quantile(np.array(curves), tails(level), axis=0)
    middle = _true_rate_at(grid, curve.false_positive_rate, curve.true_positive_rate)
    return RocBand(grid, middle, low, high, level, draws)


def counts_by_threshold(
    scores: np.ndarray, truth: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(thresholds (t,) descending, true positives (draws, t), false positives (draws, t)) at score >= threshold.

    ``weights`` (draws, n) tell how often each finding was drawn; scores and truth are as
    :func:`.binary.checked_scores` returns them.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, np.diff(ordered) < 0])
    positive = np.cumsum(np.add.reduceat(weights[:, order] * truth[order], starts, axis=1), axis=1)
    negative = np.cumsum(np.add.reduceat(weights[:, order] * ~truth[order], starts, axis=1), axis=1)
    return ordered[starts], positive, negative


def _true_rate_at(grid: np.ndarray, false_rate: np.ndarray, true_rate: np.ndarray) -> np.ndarray:
    """The curve at each false positive rate of the grid; on a vertical part its upper end."""
    # np.interp takes the last of several points of one abscissa: the top of a vertical part.
    return np.interp(grid, false_rate, true_rate)
