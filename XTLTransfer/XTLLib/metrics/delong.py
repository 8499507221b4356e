"""DeLong's variance of AUCs and test of their difference (DeLong et al. 1988, Biometrics 44:837).

With x_i the scores of m positives, y_j those of n negatives and R the midranks within the positives (R_X), the
negatives (R_Y) or all (R_Z):
V+_i = (R_Z(x_i) - R_X(x_i)) / n,  V-_j = 1 - (R_Z(y_j) - R_Y(y_j)) / m,
S = cov(V+) / m + cov(V-) / n  (Sun & Xu 2014, IEEE Signal Process Lett 21:1389).

The unit of analysis is the finding: several findings of one patient count as independent, which makes p-values too
small. The patient bootstrap of :mod:`.roc` is the primary analysis; this one is secondary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import InputError
from .binary import checked_scores
from .bootstrap import tails


@dataclass(frozen=True)
class DelongAuc:
    """An AUC with its interval.

    Attributes
    ----------
    auc, standard_error, low, high : 0 to 1. level : coverage, for example 0.95.
    positives, negatives : findings it was computed on.
    """

    auc: float
    standard_error: float
    low: float
    high: float
    level: float
    positives: int
    negatives: int


@dataclass(frozen=True)
class DelongDifference:
    """AUC of arm a minus AUC of arm b on the same findings.

    Attributes
    ----------
    auc_a, auc_b, difference, standard_error, low, high : estimates and the normal interval of the difference.
    z, p_value : two-sided normal test. Arms that order the findings alike have standard error 0, z 0 and p 1.
    level : coverage of the interval.
    """

    auc_a: float
    auc_b: float
    difference: float
    standard_error: float
    low: float
    high: float
    z: float
    p_value: float
    level: float


def delong_auc(
    scores: np.ndarray, truth: np.ndarray, level: float = 0.95, interval: Literal["logit", "normal"] = "logit"
) -> DelongAuc:
    """AUC with DeLong's standard error.

    Parameters
    ----------
    scores : (n,) finite numbers, higher means more likely positive. truth : (n,) 0 or 1 (bool).
    interval : "logit" is symmetric on the logit scale (Pepe 2003, section 5.2) and covers better with few findings;
        "normal" is symmetric about the AUC and cut at 0 and 1, as most programs give it. An AUC of exactly 0 or 1
        has standard error 0 and an interval without width, which is not certainty.

    Raises
    ------
    InputError : as :func:`.roc.auc`, and with fewer than two positives or two negatives.
    """
    scores, truth = checked_scores(scores, truth)
    aucs, covariance = delong_covariance(scores[None], truth)
    error, value = float(np.sqrt(covariance[0, 0])), float(aucs[0])
    reach = error * _normal_quantile(level)
    if interval == "normal" or not 0.0 < value < 1.0:
        low, high = max(0.0, value - reach), min(1.0, value + reach)
    elif interval == "logit":
        middle, reach = np.log(value / (1 - value)), reach / (value * (1 - value))
        low, high = (float(1 / (1 + np.exp(-(middle + side * reach)))) for side in (-1, 1))
    else:
        raise InputError(f"an interval of the kind {interval!r}", "Choose logit or normal")
    positives = int(truth.sum())
    return DelongAuc(value, error, low, high, level, positives, truth.size - positives)


def delong_difference(
    scores_a: np.ndarray, scores_b: np.ndarray, truth: np.ndarray, level: float = 0.95
) -> DelongDifference:
    """Difference of the AUCs of two arms on the same findings, tested by DeLong's method."""
    scores_a, truth_a = checked_scores(scores_a, truth)
    scores_b, truth = checked_scores(scores_b, truth_a)
    (a, b), covariance = delong_covariance(np.stack([scores_a, scores_b]), truth)
    variance = covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1]
    # Equal orders give a variance of rounding errors only; without this the test would divide by it.
    error = float(np.sqrt(variance)) if variance > 1e-12 else 0.0
    difference = float(a - b)
    z = difference / error if error else 0.0 if abs(difference) < 1e-12 else float(np.copysign(np.inf, difference))
    from scipy.stats import norm

    reach = error * _normal_quantile(level)
    return DelongDifference(
        float(a),
        float(b),
        difference,
        error,
        difference - reach,
        difference + reach,
        float(z),
        float(2.0 * norm.sf(abs(z))),
        level,
    )


def delong_covariance(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUCs (arms,) and their covariance (arms, arms) for scores (arms, n) and truth (n,) bool."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if min(positives, negatives) < 2:
        raise InputError(
            f"DeLong's variance of {positives} positives and {negatives} negatives", "Give at least two of each"
        )
    from scipy.stats import rankdata

    # rankdata gives midranks to ties.
    all_ranks = rankdata(scores, axis=1)
    v_positive = (all_ranks[:, truth] - rankdata(scores[:, truth], axis=1)) / negatives
    v_negative = 1.0 - (all_ranks[:, ~truth] - rankdata(scores[:, ~truth], axis=1)) / positives
    covariance = np.atleast_2d(np.cov(v_positive)) / positives + np.atleast_2d(np.cov(v_negative)) / negatives
    return v_positive.mean(axis=1), covariance


def _normal_quantile(level: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(tails(level)[1]))
