"""Scores of things that are either positive or negative: the check that every measure of them begins with."""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def checked_scores(scores: np.ndarray, truth: np.ndarray, both_classes: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 (n,) and truth as bool (n,).

    Parameters
    ----------
    scores : (n,) finite numbers, higher means more likely positive. truth : (n,) 0 or 1 (bool).
    both_classes : whether a positive and a negative are both needed.

    Raises
    ------
    InputError : lengths differ, nothing is given, a score is NaN or infinite, or one of two needed classes is absent.
    """
    scores, truth = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(truth).ravel()
    if scores.size != truth.size:
        raise InputError(f"{scores.size} scores for {truth.size} true classes", "Give one score for each finding")
    if scores.size == 0:
        raise InputError("no scores at all", "Give at least one finding")
    if not np.isfinite(scores).all():
        raise InputError("the scores hold NaN or infinite values", "Look for a network that diverged")
    if not np.isin(truth, (0, 1)).all():
        raise InputError("the true classes hold values other than 0 and 1", "Code benign as 0 and significant as 1")
    truth = truth.astype(bool)
    if both_classes and (truth.all() or not truth.any()):
        raise InputError("an AUC of findings that are all of one class", "Give findings of both classes")
    return scores, truth


def checked_probabilities(probabilities: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`checked_scores` without the need of both classes, for numbers between 0 and 1."""
    probabilities, truth = checked_scores(probabilities, truth, both_classes=False)
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise InputError("a probability outside 0 to 1", "Give probabilities, not logits")
    return probabilities, truth
