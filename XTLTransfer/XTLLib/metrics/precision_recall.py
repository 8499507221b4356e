"""Average precision: the area under the precision-recall curve as a step function.

AP = sum over thresholds of (recall_n - recall_{n-1}) precision_n, thresholds being the distinct scores from high to
low; no interpolation between points, which would be optimistic (Davis & Goadrich 2006, ICML).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .binary import checked_scores
from .bootstrap import INTERVAL_DRAWS, over_draws, percentile_interval
from .roc import MeanInterval


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """AP, 0 to 1; of scores without information it is the share of positives.

    Parameters
    ----------
    scores : (n,) finite numbers, higher means more likely positive. truth : (n,) 0 or 1 (bool).

    Raises
    ------
    InputError : as :func:`.roc.auc`, also without a positive or without a negative.
    """
    scores, truth = checked_scores(scores, truth)
    return float(weighted_average_precision(scores, truth, np.ones((1, scores.size)))[0])


def average_precision_interval(
    scores: np.ndarray,
    truth: np.ndarray,
    patients: Sequence,
    draws: int = INTERVAL_DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> MeanInterval:
    """AP (as ``mean``) with the percentile interval of a bootstrap over patients."""
    scores, truth = checked_scores(scores, truth)
    values = over_draws(lambda w: weighted_average_precision(scores, truth, w), patients, draws, seed, [truth])
    low, high = percentile_interval(values, level)
    return MeanInterval(average_precision(scores, truth), low, high, level, draws, len(set(patients)))


def weighted_average_precision(
    scores: np.ndarray, truth: np.ndarray, weights: np.ndarray, never: float | None = None
) -> np.ndarray:
    """AP under each row of ``weights`` (draws, n), how often each was drawn -> (draws,).

    Parameters
    ----------
    scores, truth : as :func:`.binary.checked_scores` returns them.
    never : a score that stands for "not predicted at all": its positives count for the recall, at precision 0.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, np.diff(ordered) < 0])
    positive = np.add.reduceat(weights[:, order] * truth[order], starts, axis=1)
    all_ = np.add.reduceat(weights[:, order], starts, axis=1)
    predicted = np.cumsum(all_, axis=1)
    precision = np.divide(np.cumsum(positive, axis=1), predicted, out=np.zeros_like(predicted), where=predicted > 0)
    if never is not None:
        precision[:, ordered[starts] == never] = 0.0
    return (positive * precision).sum(axis=1) / positive.sum(axis=1)
