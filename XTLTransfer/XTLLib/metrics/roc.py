"""Area under the ROC curve, with intervals by the patient bootstrap.

The findings of one patient are not independent, so patients are drawn, with all their findings (methods.md,
section 6). The difference of two arms is that of :mod:`.score_difference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .binary import checked_scores
from .bootstrap import INTERVAL_DRAWS, over_draws, percentile_interval


@dataclass(frozen=True)
class AucInterval:
    """An AUC and its percentile interval.

    Attributes
    ----------
    auc, low, high : estimate and bounds, 0 to 1. level : coverage of the interval, for example 0.95.
    draws : bootstrap draws used. patients, positives, negatives : what it was computed on.
    """

    auc: float
    low: float
    high: float
    level: float
    draws: int
    patients: int
    positives: int
    negatives: int


@dataclass(frozen=True)
class MeanInterval:
    """A mean and its percentile interval.

    Attributes
    ----------
    mean, low, high : estimate and bounds. level : coverage of the interval, for example 0.95.
    draws : bootstrap draws used. patients : what it was computed on.
    """

    mean: float
    low: float
    high: float
    level: float
    draws: int
    patients: int


def auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """AUC by midranks: the share of (positive, negative) pairs in order, ties counting one half.

    Parameters
    ----------
    scores : (n,) finite numbers, higher means more likely positive.
    truth : (n,) 0 or 1 (bool).

    Raises
    ------
    InputError : lengths differ, a score is NaN, or one of the two classes is absent.
    """
    scores, truth = checked_scores(scores, truth)
    return float(weighted_auc(scores, truth, np.ones((1, scores.size)))[0])


def auc_interval(
    scores: np.ndarray,
    truth: np.ndarray,
    patients: Sequence,
    draws: int = INTERVAL_DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> AucInterval:
    """AUC with the percentile interval of a bootstrap over patients.

    A draw that holds only one class has no AUC and is drawn again.

    Parameters
    ----------
    scores, truth : as in :func:`auc`.
    patients : (n,) the patient of each finding.
    """
    scores, truth = checked_scores(scores, truth)
    values = over_draws(lambda w: weighted_auc(scores, truth, w), patients, draws, seed, [truth])
    low, high = percentile_interval(values, level)
    positives = int(truth.sum())
    return AucInterval(
        auc(scores, truth), low, high, level, draws, len(set(patients)), positives, truth.size - positives
    )


def macro_auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean over classes of the AUC of each class against all others, every class weighing the same.

    Parameters
    ----------
    scores : (n, K) finite numbers, one column a class. truth : (n,) class numbers 0 .. K-1.

    Raises
    ------
    InputError : shapes that do not fit, a score is NaN, or fewer than two classes are there. A class without
        any member is left out of the mean.
    """
    columns = _one_against_others(scores, truth)
    weights = np.ones((1, columns[0][0].size))
    return float(np.mean([weighted_auc(column, member, weights)[0] for column, member in columns]))


def macro_auc_interval(
    scores: np.ndarray,
    truth: np.ndarray,
    patients: Sequence,
    draws: int = INTERVAL_DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> MeanInterval:
    """:func:`macro_auc` with the percentile interval of a bootstrap over patients.

    A draw that lacks one of the classes is drawn again.
    """
    columns = _one_against_others(scores, truth)
    mean = lambda w: np.mean([weighted_auc(column, member, w) for column, member in columns], axis=0)  # noqa: E731
    values = over_draws(mean, patients, draws, seed, [member for _, member in columns])
    low, high = percentile_interval(values, level)
    return MeanInterval(macro_auc(scores, truth), low, high, level, draws, len(set(patients)))


def mean_interval(
    values: np.ndarray,
    patients: Sequence,
    draws: int = INTERVAL_DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> MeanInterval:
    """The mean of a figure of each image, with the percentile interval of a bootstrap over patients.

    With fewer than about 40 patients this interval is too narrow; :func:`.paired.unit_interval` is not.

    Parameters
    ----------
    values : (n,) finite numbers. patients : (n,) the patient of each; images of one patient are drawn together.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    if values.size == 0 or values.size != len(patients) or not np.isfinite(values).all():
        raise InputError(f"a mean of {values.size} values of {len(patients)} patients", "Give a finite value for each")
    means = over_draws(lambda w: (w @ values) / w.sum(axis=1), patients, draws, seed)
    low, high = percentile_interval(means, level)
    return MeanInterval(float(values.mean()), low, high, level, draws, len(set(patients)))


def _one_against_others(scores: np.ndarray, truth: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(scores (n,), members bool (n,)) of every class that has members."""
    scores, truth = np.asarray(scores, dtype=np.float64), np.asarray(truth).ravel()
    if scores.ndim != 2 or len(scores) != truth.size or not np.isin(truth, np.arange(scores.shape[1])).all():
        raise InputError(
            f"scores of shape {scores.shape} for {truth.size} true classes up to {truth.max(initial=0)}",
            "Give one column of scores for each class",
        )
    return [
        checked_scores(column, truth == number) for number, column in enumerate(scores.T) if (truth == number).any()
    ]


def weighted_auc(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC by midranks under each row of ``weights`` (draws, n), how often a finding was drawn -> (draws,).

    ``scores`` and ``truth`` are as :func:`.binary.checked_scores` returns them.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    positive = np.add.reduceat(weights[:, order] * truth[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~truth[order], starts, axis=1)
    negatives_below = np.cumsum(negative, axis=1) - negative / 2.0
    return (positive * negatives_below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
