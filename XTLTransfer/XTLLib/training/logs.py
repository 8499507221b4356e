"""The logs that the stages of a run leave, as one table."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any


def read_logs(out: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of ``out/stages/*/log.tsv``, in the order in which the stages ran.

    Every row has ``step`` (counted through the whole chain), ``stage`` (its folder's name, such as
    ``02-target``), ``loss`` and ``learning_rate``, and the figure of the latest validation of its stage
    under that figure's name; None before the first validation. No log yet is no error: no rows.
    """
    rows: list[dict[str, Any]] = []
    for path in sorted(Path(out).glob("stages/*/log.tsv")):
        before = rows[-1]["step"] if rows else 0
        latest: dict[str, float | None] = {}
        with open(path, encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream, delimiter="\t"):
                values = {key: float(text) if text else None for key, text in line.items()}
                step = before + int(values.pop("step"))
                row = {"step": step, "stage": path.parent.name, **values}
                for key in values.keys() - {"loss", "learning_rate"}:
                    latest[key] = row[key] = latest.get(key) if row[key] is None else row[key]
                rows.append(row)
    return rows
