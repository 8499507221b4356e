"""A chain's plan as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .plan import ChainPlan, StagePlan

_MIB = 1 << 20  # not from memory.py: windows take words from here, and must not wait for torch


def text_of(plan: ChainPlan) -> str:
    """The chain in one line, a table of its stages, their parts of memory and time, and what to know of them."""
    from .plan import MEMORY_ACCURACY, TIME_ACCURACY

    table = [("stage", "parameters", "carried", "patients", "entries", "batch", "steps", "memory", "time")]
    table += [_row(stage) for stage in plan.stages]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    table.insert(1, tuple("-" * width for width in widths))
    lines = [plan.line, f"0 initialisation: {plan.initialisation}", ""]
    lines += [" | ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    lines.append("(patients and entries: training + validation)")
    for stage in plan.stages:
        lines += ["", f"stage {stage.number}: {stage.title}", f"  memory: {_memory(stage)}"]
        if stage.timing is not None:
            lines.append(f"  time: {_time(stage)}")
        lines += [f"  note: {note}" for note in stage.notes]
    total = "unknown" if plan.seconds is None else f"{duration(plan.seconds)} (+- {TIME_ACCURACY:.0%})"
    lines += [
        "",
        f"all stages on {plan.device}: {total}, {plan.memory_mib:.0f} MiB at the peak (+- {MEMORY_ACCURACY:.0%})",
        "Estimates from three steps on a sample of the data. Nothing was written.",
    ]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _row(stage: StagePlan) -> tuple[str, ...]:
    return (
        f"{stage.number} {stage.task}",
        f"{stage.parameters:,}",
        f"{stage.carried_share:.1%}",
        "{} + {}".format(*stage.patients),
        "{} + {}".format(*stage.entries),
        " x ".join(map(str, stage.shape)),
        f"{stage.steps}" + ("" if stage.epochs is None else f" ({stage.epochs} epochs)"),
        f"{stage.memory.total / _MIB:.0f} MiB",
        "unknown" if stage.seconds is None else duration(stage.seconds),
    )


def _memory(stage: StagePlan) -> str:
    return ", ".join(f"{name} {size / _MIB:.0f} MiB" for name, size in vars(stage.memory).items())


def _time(stage: StagePlan) -> str:
    timing = stage.timing
    beside = f"{stage.batches} batches, each prepared in {timing.batch_s:.2f} s beside them"
    parts = [f"reading {duration(stage.reading_s)}", f"{stage.steps} steps of {timing.step_s:.2f} s ({beside})"]
    if stage.validations:
        parts.append(f"{stage.validations} validations {duration(stage.validation_s)}")
    return ", ".join(parts)
