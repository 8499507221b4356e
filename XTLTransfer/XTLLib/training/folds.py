"""Networks on folds of the training patients, and what each says of the patients that it never saw."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..bundle.calibration import Calibration, fit_calibration
from ..data.datalist import Datalist, Entry
from ..data.tables import read_table
from ..errors import InputError
from ..files import atomic_file
from .seeds import derive

OUT_OF_FOLD = "out_of_fold.tsv"
_LOWEST = 1e-6  # of a threshold
_COLUMNS = ("patient", "case", "fold", "truth", "score")


@dataclass(frozen=True)
class OutOfFoldScore:
    """A finding as the network of the fold that it was left out of rates it.

    Attributes
    ----------
    patient, case : as in the datalist. fold : from 1 on. truth : 0 or 1. score : probability, not calibrated.
    """

    patient: str
    case: str
    fold: int
    truth: int
    score: float


def fold_datalists(datalist: Datalist, count: int, seed: int) -> list[Datalist]:
    """For each fold of the training patients a datalist whose test part it is.

    Training are the other folds. The validation part, which chooses checkpoints, is that of the datalist in every
    fold; where there is none, ``stages.hold_out`` takes one from the training part, and never from the fold.
    """
    folds = replace(datalist, validation=(), test=()).folds(count, derive(seed, "folds"))
    return [replace(fold, validation=datalist.validation) for fold in folds]


def scores_of(fold: Datalist, number: int, probabilities: np.ndarray) -> list[OutOfFoldScore]:
    """The scores of a fold's test part, from probabilities (n,) in its order."""
    return [
        OutOfFoldScore(entry.patient, entry.case, number, int(entry.label), float(score))
        for entry, score in zip(fold.test, probabilities, strict=True)
    ]


def write_scores(scores: Sequence[OutOfFoldScore], path: Path) -> None:
    """A line for each finding; a score is written such that it is read again as the same number."""
    with atomic_file(path) as draft, open(draft, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows((s.patient, s.case, s.fold, s.truth, repr(s.score)) for s in scores)


def read_scores(path: Path) -> list[OutOfFoldScore]:
    """What :func:`write_scores` wrote. Raises InputError for anything else."""
    try:
        return [
            OutOfFoldScore(row["patient"], row["case"], int(row["fold"]), int(row["truth"]), float(row["score"]))
            for row in read_table(path, _COLUMNS)
        ]
    except ValueError as error:
        raise InputError(f"{path} is no table of out-of-fold scores ({error})", "Delete it, and resume") from error


def calibration_of_folds(scores: Sequence[OutOfFoldScore], method: str) -> Calibration:
    """Calibration and operating points from out-of-fold scores.

    Each score is that of one network; the bundle's result is the mean of all of them, which varies less and is
    less extreme. So the mean is calibrated with what was fitted on single networks: the best that can be had
    without patients that none of them saw, and not the same.
    """
    count = len({score.fold for score in scores})
    return fit_calibration(
        method,
        np.array([score.score for score in scores]),
        np.array([score.truth for score in scores]),
        [score.patient for score in scores],
        f"out-of-fold scores of {count} networks",
    )


def calibration_of_validation(entries: Sequence[Entry], probabilities: np.ndarray, method: str) -> Calibration:
    """The same from the validation part, which chose the checkpoint: a little too good for findings to come.

    Parameters
    ----------
    probabilities : (n,) of the entries, by the one network.
    """
    return fit_calibration(
        method,
        probabilities,
        np.array([entry.label for entry in entries]),
        [entry.patient for entry in entries],
        "validation findings, which also chose the checkpoint",
    )


def calibrated_threshold(calibration: Calibration, threshold: float) -> float:
    """Where a threshold on a network's probability stands among calibrated ones; above 0, as a bundle wants it."""
    return float(np.clip(calibration(np.array(threshold)), _LOWEST, 1.0))
