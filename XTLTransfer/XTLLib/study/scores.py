"""The rows a study is made of: one tested case of one arm, and their file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import atomic_file

_FACTS = ("arm", "seed", "repeat", "fold", "size", "patient", "case")
_ALL = "all"


@dataclass(frozen=True)
class Score:
    """What one arm did on one held-out case.

    Attributes
    ----------
    arm : name of the arm or baseline. seed, fold : of the run.
    patient, case : of the datalist.
    values : named figures; ``truth`` and ``score`` in classification, ``dice``, ``ppv``, ``tpr``,
        ``ltpr``, ``lfpr``, ``reference_ml``, ``predicted_ml`` and others in segmentation.
    repeat : of the dealing into folds. size : training cases that were asked for; None for all.
    """

    arm: str
    seed: int
    fold: int
    patient: str
    case: str
    values: dict[str, float]
    repeat: int = 0
    size: int | None = None


def write_scores(scores: Sequence[Score], path: Path) -> None:
    """Write scores as TSV, whole or not at all. A value that a score has not stays empty; size is "all" or a number."""
    names = list(dict.fromkeys(name for score in scores for name in score.values))
    with atomic_file(path) as draft, open(draft, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow([*_FACTS, *names])
        for score in scores:
            facts = [getattr(score, fact) for fact in _FACTS]
            facts[_FACTS.index("size")] = _ALL if score.size is None else score.size
            values = (repr(float(score.values[name])) if name in score.values else "" for name in names)
            writer.writerow([*facts, *values])


def read_scores(path: Path) -> list[Score]:
    """Read what write_scores wrote. Raises InputError naming file and line when it is something else."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, delimiter="\t")
            missing = [fact for fact in _FACTS if fact not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"the scores {path} lack the column {', '.join(missing)}", "Run the study again")
            return [_score_of(row, path, number) for number, row in enumerate(reader, 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"the scores {path} cannot be read ({error})", "Run the study again") from error


def _score_of(row: dict[str, str], path: Path, line: int) -> Score:
    try:
        return Score(
            row["arm"],
            int(row["seed"]),
            int(row["fold"]),
            row["patient"],
            row["case"],
            {name: float(value) for name, value in row.items() if name not in _FACTS and value != ""},
            int(row["repeat"]),
            None if row["size"] == _ALL else int(row["size"]),
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"the scores {path}, line {line}: {error}", "Run the study again") from error
