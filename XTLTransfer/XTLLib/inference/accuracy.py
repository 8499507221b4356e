"""How good the probabilities of rated findings are, where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..metrics.calibration import brier, expected_calibration_error
from ..metrics.roc import AucInterval, auc_interval

FEWEST = 5  # findings of each kind (a project choice): with fewer an interval says nothing
CALIBRATION_BINS = 5  # of equal numbers of findings: a project choice, as cohorts have few


@dataclass(frozen=True)
class Accuracy:
    """Figures of a cohort.

    Attributes
    ----------
    auc : area under the ROC curve with its patient-bootstrap interval.
    brier : mean squared error of the probabilities. expected_error : expected calibration error, in bins of equal
        numbers of findings.
    sensitivity, specificity : of the class that the operating point gave; None where it gave none.
    """

    auc: AucInterval
    brier: float
    expected_error: float
    sensitivity: float | None
    specificity: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


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
    called = np.array([{"significant": 1.0, "not significant": 0.0}.get(row["class"], np.nan) for row in known])
    complete = bool(np.isfinite(called).all())
    return Accuracy(
        area,
        brier(probability, truth),
        error,
        float(called[truth].mean()) if complete else None,
        float(1.0 - called[~truth].mean()) if complete else None,
    )


def with_truth(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows whose truth is known."""
    return [row for row in rows if row["truth"] is not None]
