"""The figures that a stage's record carries: with intervals by the bootstrap over validation patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..metrics.roc import auc_interval, macro_auc_interval, mean_interval
from ..transfer.figure import Figure


def mean_figure(values: Sequence[float] | np.ndarray, patients: Sequence[str]) -> Figure:
    """The mean of a figure of each image (n,); ``patients`` (n,) names the patient of each."""
    return Figure.of_interval(mean_interval(np.asarray(values), patients), "mean")


def auc_figure(scores: np.ndarray, truth: np.ndarray, patients: Sequence[str]) -> Figure:
    """The AUC of scores (n, 1) against truth (n,) of 0 and 1, or of scores (n, K) the mean over K classes."""
    if scores.shape[1] == 1:
        return Figure.of_interval(auc_interval(scores[:, 0], truth, patients))
    return Figure.of_interval(macro_auc_interval(scores, truth, patients), "mean")
