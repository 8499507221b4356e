"""What a study found: tables with intervals, as text, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..files import atomic_file
from ..metrics.roc import AucDifference, AucInterval, auc, auc_difference, auc_interval
from .config import Study
from .scores import Score

_FIGURES = ("dice", "ppv", "tpr", "ltpr", "lfpr", "reference_ml", "predicted_ml")


@dataclass(frozen=True)
class StudyResult:
    """The scores of a finished study.

    Attributes
    ----------
    study : what was compared. task : segmentation or classification.
    scores : of every arm, seed, fold and held-out case.
    """

    study: Study
    task: str
    scores: tuple[Score, ...]

    @property
    def names(self) -> list[str]:
        """Arms and baselines in the order of the study."""
        return [arm.name for arm in self.study.arms] + list(self.study.baselines)

    @property
    def table_text(self) -> str:
        """The result for a terminal."""
        return "\n".join(_table(self))

    def of(self, name: str) -> list[Score]:
        """Scores of one arm or baseline."""
        return [score for score in self.scores if score.arm == name]


def write_study_report(result: StudyResult, out: Path) -> None:
    """Write ``report.md`` and ``results.json`` into ``out``."""
    lines = [f"# {result.study.name}", "", *_table(result), ""]
    with atomic_file(out / "report.md") as draft:
        draft.write_text("\n".join(lines), encoding="utf-8")
    with atomic_file(out / "results.json") as draft:
        draft.write_text(json.dumps(_results(result), indent=2), encoding="utf-8")


def out_of_fold(scores: Sequence[Score]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Scores of every finding, averaged over seeds -> (scores (n,), truth (n,), patients), ordered by case."""
    by_case: dict[str, list[Score]] = {}
    for score in scores:
        by_case.setdefault(score.case, []).append(score)
    cases = sorted(by_case)
    means = np.array([np.mean([s.values["score"] for s in by_case[case]]) for case in cases])
    truth = np.array([int(by_case[case][0].values["truth"]) for case in cases])
    return means, truth, [by_case[case][0].patient for case in cases]


def auc_of(result: StudyResult, name: str) -> AucInterval:
    """AUC of the out-of-fold scores of an arm, averaged over its seeds, with its patient-bootstrap interval."""
    return auc_interval(*out_of_fold(result.of(name)))


def auc_difference_of(result: StudyResult, pair: tuple[str, str]) -> AucDifference:
    """AUC of the first minus that of the second of a pair, same bootstrap draws of patients for both."""
    first, truth, patients = out_of_fold(result.of(pair[0]))
    second, _, _ = out_of_fold(result.of(pair[1]))
    return auc_difference(first, second, truth, patients)


def smallest_p_value(patients: int) -> float:
    """The smallest two-sided p-value of an exact paired sign-flip test on so many patients: 2 / 2^n."""
    return min(1.0, 2.0 / 2.0**patients)


def _table(result: StudyResult) -> list[str]:
    return _classification_table(result) if result.task == "classification" else _segmentation_table(result)


def _classification_table(result: StudyResult) -> list[str]:
    seeds = len(result.study.seeds)
    lines = [
        f"Out-of-fold AUC, {result.study.folds} patient-grouped folds, {seeds} seed{'s' * (seeds > 1)}"
        f"{' (scores averaged over seeds)' if seeds > 1 else ''}; 95 % interval by patient bootstrap, 2,000 draws",
        "",
        "| arm | AUC | 95 % interval | AUC of each seed | findings | positive | patients |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in result.names:
        found = auc_of(result, name)
        per_seed = " ".join(f"{value:.3f}" for value in _auc_by_seed(result.of(name)))
        lines.append(
            f"| {name} | {found.auc:.3f} | {found.low:.3f} to {found.high:.3f} | {per_seed} "
            f"| {found.positives + found.negatives} | {found.positives} | {found.patients} |"
        )
    if result.study.comparisons:
        lines += ["", "| difference | AUC | 95 % interval | p | finding |", "|---|---|---|---|---|"]
    for pair in result.study.comparisons:
        d = auc_difference_of(result, pair)
        lines.append(
            f"| {pair[0]} - {pair[1]} | {d.difference:+.3f} | {d.low:+.3f} to {d.high:+.3f} | {d.p_value:.3f} "
            f"| {_verdict(d.low, d.high)} |"
        )
    return lines


def _segmentation_table(result: StudyResult) -> list[str]:
    lines = [
        "Held-out cases; overlap on the reference grid, lesions 26-connected, volumes in ml",
        "",
        "| arm | case | seed | Dice | PPV | TPR | LTPR | LFPR | reference ml | predicted ml |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in result.names:
        for score in sorted(result.of(name), key=lambda s: (s.case, s.seed)):
            figures = " | ".join(f"{score.values[figure]:.3f}" for figure in _FIGURES)
            lines.append(f"| {name} | {score.case} | {score.seed} | {figures} |")
    lines += ["", "| arm | mean Dice | mean LTPR | mean LFPR |", "|---|---|---|---|"]
    for name in result.names:
        means = (np.mean([s.values[figure] for s in result.of(name)]) for figure in ("dice", "ltpr", "lfpr"))
        lines.append(f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    patients = len({score.patient for score in result.scores})
    if smallest_p_value(patients) > 0.05:
        lines += [
            "",
            f"Unit of analysis: the patient. With {patients} patients an exact paired test cannot fall below "
            f"p = {smallest_p_value(patients):.3g}: these figures are a demonstration, not evidence for either arm.",
        ]
    return lines


def _auc_by_seed(scores: Sequence[Score]) -> list[float]:
    values = []
    for seed in sorted({score.seed for score in scores}):
        found, truth, _ = out_of_fold([score for score in scores if score.seed == seed])
        values.append(auc(found, truth))
    return values


def _verdict(low: float, high: float) -> str:
    """Worded from the interval alone."""
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def _results(result: StudyResult) -> dict:
    facts = {"study": result.study.model_dump(mode="json"), "task": result.task}
    if result.task == "classification":
        facts["auc"] = {name: asdict(auc_of(result, name)) for name in result.names}
        facts["differences"] = [
            {"pair": list(pair), **asdict(auc_difference_of(result, pair))} for pair in result.study.comparisons
        ]
    else:
        facts["mean"] = {
            name: {f: float(np.mean([s.values[f] for s in result.of(name)])) for f in _FIGURES} for name in result.names
        }
    return facts
