"""``findings.csv``: findings with their probabilities, in the columns that ``xtl classify --findings`` reads."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from ..files import atomic_file
from .results import ClassificationResult

_TRUTH = {None: "", True: "TRUE", False: "FALSE"}
_CLASSES = {None: "", True: "significant", False: "not significant"}


def write_findings_csv(result: ClassificationResult, path: str | os.PathLike, patient: str | None = None) -> Path:
    """Write one line a finding, in their order.

    Columns: ``patient`` (only when one is named), ``finding``, ``r``, ``a``, ``s`` (RAS mm), ``zone``, ``significant``
    (the truth, where it is known), ``probability``, ``class`` at the operating point. A reader of findings takes
    all but the last two; positions have six decimals, so that they are the same after reading.

    Returns
    -------
    The path.
    """
    path = Path(path)
    named = () if patient is None else ("patient",)
    with atomic_file(path) as draft, open(draft, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*named, "finding", "r", "a", "s", "zone", "significant", "probability", "class"])
        for rated in result.findings:
            finding = rated.finding
            writer.writerow(
                [
                    *((patient,) if named else ()),
                    finding.identifier,
                    *(f"{mm:.6f}" for mm in finding.position_ras),
                    finding.zone,
                    _TRUTH[finding.significant],
                    f"{rated.probability:.6f}",
                    _CLASSES[rated.is_significant],
                ]
            )
    return path
