"""The logs that the stages of a run leave, as one table."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any


def logs_changed_ns(out: str | os.PathLike) -> int:
    """When a log of the run was last written, in nanoseconds since the epoch; 0 where there is none."""
    return max((path.stat().st_mtime_ns for path in _logs(out)), default=0)


def read_logs(out: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of ``out/stages/*/log.tsv``, in the order in which the stages ran.

    Every row has ``step`` (counted through the whole chain), ``stage`` (its folder's name, such as
    ``02-target``), ``loss`` and ``learning_rate``; from the first validation of its stage on also the
    figure of the latest one under that figure's name. No log yet is no error: no rows.
    """
    rows: list[dict[str, Any]] = []
    for path in _logs(out):
        before = rows[-1]["step"] if rows else 0
        validated: dict[str, float] = {}
        with open(path, encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream, delimiter="\t"):
                values = {key: float(text) for key, text in line.items() if text}
                step = before + int(values.pop("step"))
                validated |= {key: values[key] for key in values.keys() - {"loss", "learning_rate"}}
                rows.append({"step": step, "stage": path.parent.name, **values, **validated})
    return rows


def _logs(out: str | os.PathLike) -> list[Path]:
    return sorted(Path(out).glob("stages/*/log.tsv"))
