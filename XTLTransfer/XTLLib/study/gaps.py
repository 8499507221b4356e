"""What a study lacks: runs that failed or never were, and scores that are no numbers. Named, never averaged away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .result import StudyResult
from .runs import PlannedRun, planned_runs
from .scores import Score


@dataclass(frozen=True)
class Gap:
    """Something that the study should have given.

    Attributes
    ----------
    run : its name. what : in words, with the error of a run that failed.
    patient, case : of a missing score; "" for a whole run.
    """

    run: str
    what: str
    patient: str = ""
    case: str = ""


@dataclass(frozen=True, eq=False)
class CaseMeans:
    """Of each case of one arm the mean over seeds and repetitions; a case that lacks one of them is left out.

    Attributes
    ----------
    cases, patients : (n,) ordered by case. values : (n,) means.
    truth : (n,) 0 or 1; None in segmentation.
    left_out : cases that some run did not give, or gave without a finite value.
    """

    cases: tuple[str, ...]
    patients: tuple[str, ...]
    values: np.ndarray
    truth: np.ndarray | None
    left_out: tuple[str, ...]

    def restricted(self, cases: set[str]) -> CaseMeans:
        """Only these cases."""
        keep = np.array([case in cases for case in self.cases], dtype=bool)
        truth = None if self.truth is None else self.truth[keep]
        names = [pair for pair, kept in zip(zip(self.cases, self.patients), keep) if kept]
        return CaseMeans(
            tuple(case for case, _ in names),
            tuple(patient for _, patient in names),
            self.values[keep],
            truth,
            tuple(sorted({*self.left_out, *set(self.cases).difference(cases)})),
        )


def find_gaps(result: StudyResult, key: str) -> tuple[Gap, ...]:
    """Runs without scores, cases that a run lacks, and values ``key`` that are not finite, in the order of the plan."""
    errors = {str(f.get("run", "")): str(f.get("error", "")) for f in result.facts.get("failures", ())}
    by_run = _by_run(result.scores)
    tested = _tested(result)
    gaps = []
    for run in planned_runs(result.study):
        scores = by_run.get(run, {})
        if not scores:
            error = errors.pop(run.name, "")
            gaps.append(Gap(run.name, f"failed: {error}" if error else "the run is missing"))
            continue
        for case, patient in tested.get((run.repeat, run.fold), {}).items():
            score = scores.get(case)
            value = None if score is None else score.values.get(key)
            if value is None:
                gaps.append(Gap(run.name, "the score is missing", patient, case))
            elif not math.isfinite(value):
                gaps.append(Gap(run.name, f"the score is {value}", patient, case))
    gaps += [Gap(name, f"failed: {error}") for name, error in errors.items() if name not in _names(by_run)]
    return tuple(gaps)


def case_means(result: StudyResult, name: str, size: int | None, key: str) -> CaseMeans:
    """Means over the planned seeds and repetitions of one value of every tested case of an arm.

    In classification ``key`` is ``score``. No case is averaged over fewer runs than were planned.
    """
    planned = {(run.seed, run.repeat) for run in planned_runs(result.study) if run.arm == name and run.size == size}
    found: dict[str, dict[tuple[int, int], float]] = {}
    patients: dict[str, str] = {}
    truths: dict[str, float] = {}
    for cases in _tested(result).values():
        patients.update(cases)
    for score in result.of(name, size):
        found.setdefault(score.case, {})[score.seed, score.repeat] = score.values.get(key, math.nan)
        truths[score.case] = score.values.get("truth", math.nan)
    means, kept, left_out = [], [], []
    for case in sorted(patients):
        values = found.get(case, {})
        is_labelled = result.task != "classification" or truths.get(case) in (0.0, 1.0)
        given = [values.get(run, math.nan) for run in sorted(planned)]
        if given and is_labelled and np.isfinite(given).all():
            kept.append(case)
            means.append(np.mean(given))
        else:
            left_out.append(case)
    truth = None
    if result.task == "classification":
        truth = np.array([truths[case] for case in kept]).astype(bool)
    return CaseMeans(
        tuple(kept), tuple(patients[case] for case in kept), np.array(means, dtype=float), truth, tuple(left_out)
    )


def _by_run(scores: Sequence[Score]) -> dict[PlannedRun, dict[str, Score]]:
    runs: dict[PlannedRun, dict[str, Score]] = {}
    for score in scores:
        run = PlannedRun(score.arm, score.seed, score.repeat, score.fold, score.size)
        runs.setdefault(run, {})[score.case] = score
    return runs


def _tested(result: StudyResult) -> dict[tuple[int, int], dict[str, str]]:
    """(repeat, fold) -> case -> patient, over all arms: what one arm was tested on, every arm had to be."""
    tested: dict[tuple[int, int], dict[str, str]] = {}
    for score in result.scores:
        tested.setdefault((score.repeat, score.fold), {})[score.case] = score.patient
    return tested


def _names(runs: dict[PlannedRun, dict[str, Score]]) -> set[str]:
    return {run.name for run in runs}
