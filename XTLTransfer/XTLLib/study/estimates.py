"""A figure of an arm with its interval, by the method that the figure asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.bootstrap import INTERVAL_DRAWS
from ..metrics.paired import unit_interval, unit_means
from ..metrics.precision_recall import average_precision, average_precision_interval
from ..metrics.roc import auc, auc_interval
from .gaps import CaseMeans
from .measures import Measure

if TYPE_CHECKING:
    from .config import Study

RANKED = ("auc", "ap")  # measures of all findings together; the others are means over units


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes
    ----------
    value, low, high : the bounds are infinite where the units are too few for the level.
    level : of the interval. units, cases : that it was computed on. left_out : cases without a finite value.
    """

    value: float
    low: float
    high: float
    level: float
    units: int
    cases: int
    left_out: int


def units_of(means: CaseMeans, study: Study) -> tuple[str, ...]:
    """The unit of analysis of each case."""
    return means.patients if study.unit == "patient" else means.cases


def point_value(means: CaseMeans, measure: Measure, study: Study) -> float:
    """The figure alone. Raises InputError as the metric does (one class only, no case)."""
    if measure.name == "auc":
        return auc(means.values, means.truth)
    if measure.name == "ap":
        return average_precision(means.values, means.truth)
    return float(unit_means(means.values, units_of(means, study))[0].mean()) if means.cases else float("nan")


def estimate(means: CaseMeans, measure: Measure, study: Study) -> Estimate:
    """AUC and AP by the bootstrap over units, everything else the mean over units with the sign-flip interval.

    Raises InputError when there is no case, or AUC and AP lack a class.
    """
    units, draws = units_of(means, study), study.draws or INTERVAL_DRAWS
    if measure.name == "auc":
        found = auc_interval(means.values, means.truth, units, draws, study.level)
        value = found.auc
    elif measure.name == "ap":
        found = average_precision_interval(means.values, means.truth, units, draws, study.level)
        value = found.mean
    else:
        found = unit_interval(means.values, units, study.level)
        value = found.mean
    return Estimate(
        value, found.low, found.high, study.level, len(np.unique(units)), len(means.cases), len(means.left_out)
    )
