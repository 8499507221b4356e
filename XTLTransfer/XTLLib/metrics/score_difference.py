"""The difference of two arms in AUC, average precision or another figure of ranked scores, by the patient bootstrap.

The findings of one patient are not independent, so patients are drawn, with all their findings, and the same draws
serve both arms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .binary import checked_scores
from .bootstrap import DIFFERENCE_DRAWS, over_draws, percentile_interval, two_sided_p

WeightedFigure = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ScoreDifference:
    """A figure of arm a minus that of arm b on the same findings.

    Attributes
    ----------
    value_a, value_b : the two estimates. difference, low, high : a - b and its percentile interval.
    p_value : two-sided, twice the smaller share of draws on one side of 0, each share counted as
        (draws on that side + 1) / (draws + 1).
    level : coverage of the interval. draws : bootstrap draws used. patients : what it was computed on.
    """

    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    p_value: float
    level: float
    draws: int
    patients: int


def score_difference(
    figure: WeightedFigure,
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    truth: np.ndarray,
    patients: Sequence,
    draws: int = DIFFERENCE_DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> ScoreDifference:
    """The figure of ``scores_a`` minus that of ``scores_b``, by a bootstrap over patients, same draws for both.

    A draw that holds only one class has no figure and is drawn again.

    Parameters
    ----------
    figure : :func:`.roc.weighted_auc` or :func:`.precision_recall.weighted_average_precision`: scores (n,), truth (n,)
        and weights (draws, n) -> (draws,).
    scores_a, scores_b : (n,) finite numbers, higher means more likely positive.
    truth : (n,) 0 or 1 (bool). patients : (n,) the patient of each finding.

    Raises
    ------
    InputError : lengths differ, a score is NaN, or one of the two classes is absent.
    """
    scores_a, truth_a = checked_scores(scores_a, truth)
    scores_b, truth = checked_scores(scores_b, truth_a)
    both = lambda w: figure(scores_a, truth, w) - figure(scores_b, truth, w)  # noqa: E731
    values = over_draws(both, patients, draws, seed, [truth])
    low, high = percentile_interval(values, level)
    once = np.ones((1, truth.size))
    a, b = float(figure(scores_a, truth, once)[0]), float(figure(scores_b, truth, once)[0])
    return ScoreDifference(a, b, a - b, low, high, two_sided_p(values), level, draws, len(set(patients)))
