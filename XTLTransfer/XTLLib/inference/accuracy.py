"""How good the probabilities of rated findings are, where the truth is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..metrics.calibration import expected_calibration_error
from ..metrics.operating_points import OperatingPoint, Rule, operating_points
from ..metrics.roc import AucInterval, MeanInterval, auc_interval, mean_interval

FEWEST = 5  # findings of each kind (a project choice): with fewer an interval says nothing
CALIBRATION_BINS = 5  # of equal numbers of findings: a project choice, as cohorts have few


@dataclass(frozen=True)
class Accuracy:
    """Figures of a cohort.

    Attributes
    ----------
    auc : area under the ROC curve with its patient-bootstrap interval.
    brier : mean squared error of the probabilities, with its interval. expected_error : expected calibration error,
        in bins of equal numbers of findings.
    own : what the model's own threshold gives here; None where it has none.
    """

    auc: AucInterval
    brier: MeanInterval
    expected_error: float
    own: OperatingPoint | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not defined is None."""
        return json.loads(json.dumps(asdict(self)), parse_constant=lambda _: None)


def accuracy_of(rows: Sequence[Mapping[str, Any]]) -> Accuracy | None:
    """The accuracy of rows with ``patient``, ``probability``, ``class`` and ``truth`` (1, 0 or None).

    None unless at least FEWEST findings of each kind are known, in patients of whom a draw can hold both.
    """
    known = with_truth(rows)
    truth = np.array([row["truth"] for row in known], dtype=bool)
    if min(truth.sum(), (~truth).sum()) < FEWEST:
        return None
    probability = np.array([row["probability"] for row in known], dtype=float)
    patients = [row["patient"] for row in known]
    try:
        area = auc_interval(probability, truth, patients)
    except InputError:  # each draw of these patients lacks one kind
        return None
    if area.patients < 2:
        return None
    error = expected_calibration_error(probability, truth, CALIBRATION_BINS, "count")
    thresholds = {row["threshold"] if row["class"] else None for row in known}
    own = None
    if len(thresholds) == 1 and None not in thresholds:
        (own,) = operating_points(probability, truth, patients, [Rule("the model's own", fixed=thresholds.pop())])
    return Accuracy(area, mean_interval((probability - truth) ** 2, patients), error, own)


def with_truth(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows whose truth is known."""
    return [row for row in rows if row["truth"] is not None]
