"""Area under the ROC curve, with intervals and differences by the patient bootstrap.

The findings of one patient are not independent, so patients are drawn, with all their findings.
A difference between two arms is tested on the same draws for both (methods.md, section 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

INTERVAL_DRAWS = 2_000
DIFFERENCE_DRAWS = 10_000
_BLOCK_VALUES = 4_000_000  # weights held at once: 32 MB


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
class AucDifference:
    """AUC of arm a minus AUC of arm b on the same findings.

    Attributes
    ----------
    auc_a, auc_b : the two estimates. difference, low, high : a - b and its percentile interval.
    p_value : two-sided, twice the smaller share of draws on one side of 0, each share counted as
        (draws on that side + 1) / (draws + 1).
    level, draws, patients : as in AucInterval.
    """

    auc_a: float
    auc_b: float
    difference: float
    low: float
    high: float
    p_value: float
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
    scores, truth = _checked(scores, truth)
    return float(_weighted_auc(scores, truth, np.ones((1, scores.size)))[0])


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
    scores, truth = _checked(scores, truth)
    values = np.concatenate([_weighted_auc(scores, truth, w) for w in _patient_draws(truth, patients, draws, seed)])
    low, high = _percentiles(values, level)
    positives = int(truth.sum())
    return AucInterval(
        auc(scores, truth), low, high, level, draws, len(set(patients)), positives, truth.size - positives
    )


def auc_difference(
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    truth: np.ndarray,
    patients: Sequence,
    draws: int = DIFFERENCE_DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> AucDifference:
    """AUC of ``scores_a`` minus that of ``scores_b``, by a bootstrap over patients, same draws for both."""
    scores_a, truth_a = _checked(scores_a, truth)
    scores_b, truth = _checked(scores_b, truth_a)
    values = np.concatenate(
        [
            _weighted_auc(scores_a, truth, w) - _weighted_auc(scores_b, truth, w)
            for w in _patient_draws(truth, patients, draws, seed)
        ]
    )
    low, high = _percentiles(values, level)
    below, above = (values <= 0).sum(), (values >= 0).sum()
    p_value = min(1.0, 2.0 * (min(below, above) + 1.0) / (draws + 1.0))
    a, b = auc(scores_a, truth), auc(scores_b, truth)
    return AucDifference(a, b, a - b, low, high, float(p_value), level, draws, len(set(patients)))


def _checked(scores, truth) -> tuple[np.ndarray, np.ndarray]:
    scores, truth = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(truth).ravel()
    if scores.size != truth.size:
        raise InputError(f"{scores.size} scores for {truth.size} true classes", "Give one score for each finding")
    if not np.isfinite(scores).all():
        raise InputError("the scores hold NaN or infinite values", "Look for a network that diverged")
    if not np.isin(truth, (0, 1)).all():
        raise InputError("the true classes hold values other than 0 and 1", "Code benign as 0 and significant as 1")
    truth = truth.astype(bool)
    if truth.all() or not truth.any():
        raise InputError("an AUC of findings that are all of one class", "Give findings of both classes")
    return scores, truth


def _weighted_auc(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC under each row of ``weights`` (draws, n), which counts how often a finding was drawn -> (draws,)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    positive = np.add.reduceat(weights[:, order] * truth[order], starts, axis=1)
    negative = np.add.reduceat(weights[:, order] * ~truth[order], starts, axis=1)
    negatives_below = np.cumsum(negative, axis=1) - negative / 2.0
    return (positive * negatives_below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))


def _patient_draws(truth: np.ndarray, patients: Sequence, draws: int, seed: int):
    """Yield blocks (rows, n) of weights: how often each finding is in a draw of patients with replacement."""
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    if index.size != truth.size:
        raise InputError(f"{index.size} patients for {truth.size} findings", "Name the patient of each finding")
    generator = np.random.default_rng(seed)
    share = np.full(names.size, 1.0 / names.size)
    rows = max(1, min(draws, _BLOCK_VALUES // truth.size))
    done = 0
    while done < draws:
        weights = generator.multinomial(names.size, share, size=rows)[:, index]
        usable = (weights[:, truth].sum(axis=1) > 0) & (weights[:, ~truth].sum(axis=1) > 0)
        block = weights[usable][: draws - done].astype(np.float64)
        done += len(block)
        yield block


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    if not 0.0 < level < 1.0:
        raise InputError(f"an interval of level {level}", "Give a level between 0 and 1, for example 0.95")
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(values, (tail, 1.0 - tail))
    return float(low), float(high)
