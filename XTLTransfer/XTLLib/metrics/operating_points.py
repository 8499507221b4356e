"""Where to cut: thresholds by a rule, and what they give, with intervals by the patient bootstrap.

A finding is called positive when its score is at least the threshold. A threshold chosen on the findings it is judged
on looks better than it is; the intervals repeat the choice in every draw, so that they hold its uncertainty, not its
optimism. A threshold chosen elsewhere (``fixed``) has neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .binary import checked_scores
from .bootstrap import INTERVAL_DRAWS, patient_draws, tails
from .roc_curve import counts_by_threshold

Interval = tuple[float, float]


@dataclass(frozen=True)
class Rule:
    """How a threshold is chosen among the distinct scores.

    Attributes
    ----------
    name : what tables call it.
    sensitivity : the highest threshold that reaches this sensitivity; None: the threshold of the largest
        sensitivity + specificity (Youden 1950), the highest one of several.
    fixed : a threshold from elsewhere; nothing is chosen.
    """

    name: str
    sensitivity: float | None = None
    fixed: float | None = None


YOUDEN = Rule("Youden")
RULES = (Rule("sensitivity 0.90", 0.90), Rule("sensitivity 0.95", 0.95), YOUDEN)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it gives.

    Attributes
    ----------
    rule : its name. threshold : chosen on all findings.
    sensitivity, specificity, ppv, npv : 0 to 1; ppv and npv, which hold for the share of positives in these data
        only, are NaN when nothing is called positive (negative).
    ..._interval : percentile bounds over draws of patients; draws where a value is undefined are left out of its own.
    """

    rule: str
    threshold: float
    sensitivity: float
    specificity: float
    ppv: float
    npv: float
    sensitivity_interval: Interval
    specificity_interval: Interval
    ppv_interval: Interval
    npv_interval: Interval
    level: float
    draws: int


def operating_points(
    scores: np.ndarray,
    truth: np.ndarray,
    patients: Sequence,
    rules: Sequence[Rule] = RULES,
    draws: int = INTERVAL_DRAWS,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[OperatingPoint, ...]:
    """The operating point of each rule, all on the same draws of patients.

    Parameters
    ----------
    scores, truth : (n,) as in :func:`.roc.auc`. patients : (n,) the patient of each finding.
    """
    scores, truth = checked_scores(scores, truth)
    for rule in rules:
        if rule.sensitivity is not None and not 0.0 < rule.sensitivity <= 1.0:
            raise InputError(f"an operating point at a sensitivity of {rule.sensitivity}", "Give it above 0 up to 1")
    drawn = {rule: [] for rule in rules}
    for weights in patient_draws(patients, draws, seed, [truth]):
        table = counts_by_threshold(scores, truth, weights)
        for rule in rules:
            drawn[rule].append(_figures(rule, *table)[1])
    points = []
    whole = counts_by_threshold(scores, truth, np.ones((1, scores.size)))
    for rule in rules:
        (threshold,), estimate = _figures(rule, *whole)
        bounds = [_interval(values, level) for values in np.concatenate(drawn[rule], axis=1)]
        points.append(OperatingPoint(rule.name, float(threshold), *map(float, estimate[:, 0]), *bounds, level, draws))
    return tuple(points)


def _figures(
    rule: Rule, thresholds: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds (draws,), and sensitivity, specificity, ppv, npv (4, draws), from counts (draws, t)."""
    positives, negatives = positive[:, -1], negative[:, -1]
    if rule.fixed is not None:
        called = int(np.count_nonzero(thresholds >= rule.fixed))
        chosen = np.full(len(positive), rule.fixed)
        tp = positive[:, called - 1] if called else np.zeros(len(positive))
        fp = negative[:, called - 1] if called else np.zeros(len(negative))
    else:
        if rule.sensitivity is not None:
            # The first threshold from above that is sensitive enough; counts are whole, hence the small slack.
            index = (positive >= rule.sensitivity * positives[:, None] - 1e-9).argmax(axis=1)
        else:
            youden = positive / positives[:, None] - negative / negatives[:, None]
            index = (youden >= youden.max(axis=1, keepdims=True) - 1e-12).argmax(axis=1)
        rows = np.arange(len(positive))
        chosen, tp, fp = thresholds[index], positive[rows, index], negative[rows, index]
    tn, fn = negatives - fp, positives - tp
    with np.errstate(invalid="ignore"):
        return chosen, np.stack([tp / positives, tn / negatives, tp / (tp + fp), tn / (tn + fn)])


def _interval(values: np.ndarray, level: float) -> Interval:
    defined = values[~np.isnan(values)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, tails(level))
    return float(low), float(high)
