"""The rows a study is made of: one tested case of one arm, and their file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import atomic_file

_FACTS = ("arm", "seed", "fold", "patient", "case")


@dataclass(frozen=True)
class Score:
    """What one arm did on one held-out case.

    Attributes
    ----------
    arm : name of the arm or baseline. seed, fold : of the run.
    patient, case : of the datalist.
    values : named figures; ``truth`` and ``score`` in classification, ``dice``, ``ppv``, ``tpr``,
        ``ltpr``, ``lfpr``, ``reference_ml`` and ``predicted_ml`` in segmentation.
    """

    arm: str
    seed: int
    fold: int
    patient: str
    case: str
    values: dict[str, float]


def write_scores(scores: Sequence[Score], path: Path) -> None:
    """Write scores as TSV, whole or not at all."""
    with atomic_file(path) as draft, open(draft, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        names = list(scores[0].values) if scores else []
        writer.writerow([*_FACTS, *names])
        for score in scores:
            facts = (getattr(score, fact) for fact in _FACTS)
            writer.writerow([*facts, *(repr(float(score.values[name])) for name in names)])


def read_scores(path: Path) -> list[Score]:
    """Read what write_scores wrote."""
    with open(path, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return [
        Score(
            row["arm"], int(row["seed"]), int(row["fold"]), row["patient"], row["case"],
            {name: float(value) for name, value in row.items() if name not in _FACTS},
        )
        for row in rows
    ]  # fmt: skip
