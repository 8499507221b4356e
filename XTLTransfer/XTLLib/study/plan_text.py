"""A study's plan as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..training.plan import MEMORY_ACCURACY, TIME_ACCURACY
from ..training.plan_text import duration
from .config import ALL

if TYPE_CHECKING:
    from .plan import StudyPlan

_UNKNOWN = "unknown"


def text_of(plan: StudyPlan) -> str:
    """Data, arms, number of runs, time, memory and power, for a terminal."""
    study = plan.study
    kind = "cases" if plan.positives is None else f"findings ({plan.positives} positive)"
    sizes = (
        "" if study.training_sizes == (None,) else f", sizes {', '.join(str(s or ALL) for s in study.training_sizes)}"
    )
    lines = [f"{study.name}: {study.question}".rstrip(": ")]
    lines += [
        f"{plan.cases} {kind} of {plan.patients} patients; {_count(study.folds, 'patient-grouped fold')}, "
        f"{_count(study.repeats, 'repeat')}, {_count(len(study.seeds), 'seed')}{sizes}",
        f"primary: {study.metric_of(plan.task)}, unit of analysis: {study.unit}, "
        f"{_count(len(study.comparisons), 'comparison')}, alpha {study.alpha:g}",
        "",
        *_table(plan),
        "",
        f"{_count(plan.runs, 'run')}: {_count(plan.trainings, 'training')} of the target, "
        f"{plan.runs - plan.trainings} of baselines; {_count(plan.shared, 'training')} of earlier stages, each once "
        "for all runs that share it",
    ]
    if plan.finished:
        lines.append(f"{_count(plan.finished, 'run')} finished already")
    lines += [_resources(plan), "", f"power: {plan.power.text}"]
    lines += [f"note: {note}" for note in plan.notes]
    lines += ["", "Nothing was written."]
    return "\n".join(lines)


def _table(plan: StudyPlan) -> list[str]:
    rows = [("arm", "runs", "a run takes", "memory", "chain")]
    for arm in plan.arms:
        memory = "" if arm.memory_mib is None else f"{arm.memory_mib:.0f} MiB"
        line = arm.line.partition(": ")[2] or ("baseline" if plan.study.arm(arm.name) is None else "")
        rows.append((arm.name, str(arm.runs), "" if arm.seconds is None else duration(arm.seconds), memory, line))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, tuple("-" * width for width in widths))
    return [" | ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _resources(plan: StudyPlan) -> str:
    time = _UNKNOWN if plan.seconds is None else f"{duration(plan.seconds)} (+- {TIME_ACCURACY:.0%})"
    memory = _UNKNOWN if plan.memory_mib is None else f"{plan.memory_mib:.0f} MiB (+- {MEMORY_ACCURACY:.0%})"
    return (
        f"time on {plan.device}, one run after another, without testing and baselines: {time}; memory of the largest "
        f"run: {memory}"
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
