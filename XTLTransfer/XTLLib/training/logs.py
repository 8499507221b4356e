"""The logs that the stages of a run leave, and all of them as one table."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_file

VALIDATION_LOSS = "validation loss"


def write_log(path: Path, metric: str, rows: Sequence[Sequence[float | None]]) -> None:
    """Write the log of a stage: tab-separated, one row a moment of its training.

    Parameters
    ----------
    metric : name of the validation figure. rows : [step, loss, learning rate, figure, validation loss], the
        last two None where there was no validation; the loss is the mean since the row before.
    """
    # Not synced: after a power failure the checkpoint, which holds the rows too, writes it anew.
    with atomic_file(path, sync=False) as draft, open(draft, "w", encoding="utf-8") as stream:
        stream.write("\t".join(("step", "loss", "learning_rate", metric, VALIDATION_LOSS)) + "\n")
        for row in rows:
            stream.write("\t".join("" if value is None else f"{value:.8g}" for value in row) + "\n")


def logs_changed_ns(out: str | os.PathLike) -> int:
    """When a log of the run was last written, in nanoseconds since the epoch; 0 where there is none."""
    return max((path.stat().st_mtime_ns for path in _logs(out)), default=0)


def read_logs(out: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of ``out/stages/*/log.tsv``, in the order in which the stages ran.

    Every row has ``step`` (counted through the whole chain), ``stage`` (its folder's name, such as
    ``02-target``), ``loss`` and ``learning_rate``; from the first validation of its stage on also the
    figures of the latest one under their names. No log yet is no error: no rows.
    """
    rows: list[dict[str, Any]] = []
    for path in _logs(out):
        before = rows[-1]["step"] if rows else 0
        validated: dict[str, float] = {}
        with open(path, encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream, delimiter="\t"):
                values = {key: float(text) for key, text in line.items() if text}
                step = before + int(values.pop("step"))
                validated |= {key: value for key, value in values.items() if key not in ("loss", "learning_rate")}
                rows.append({"step": step, "stage": path.parent.name, **values, **validated})
    return rows


def _logs(out: str | os.PathLike) -> list[Path]:
    return sorted(Path(out).glob("stages/*/log.tsv"))
