"""The table of lesions over time: ``comparison.tsv`` for spreadsheets, ``comparison.json`` for programs."""

from __future__ import annotations

import math
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path

from .longitudinal import CONNECTIVITY, STATUSES, LesionHistory, LongitudinalResult
from .table import Column, ras_columns, write_table


def history_columns(names: tuple[str, ...]) -> tuple[Column, ...]:
    """The columns of a comparison of the time points ``names``, first to last."""
    volumes = tuple(
        Column(f"volume_{time + 1}", "mm3", f"volume at {name}, 0 where it is not there", partial(_volume, time), 2)
        for time, name in enumerate(names)
    )
    intervals = tuple(
        Column(f"status_{n}_{n + 1}", "", f"from {names[n - 1]} to {names[n]}", partial(_interval, n - 1))
        for n in range(1, len(names))
    )
    return (
        Column("id", "", "value in the label maps", lambda row: row.identifier),
        Column("status", "", f"from {names[0]} to {names[-1]}: {', '.join(STATUSES)}", lambda row: row.status),
        *ras_columns(lambda row: row.position_ras),
        *volumes,
        Column("change", "mm3", "last volume minus first", lambda row: row.change_mm3, 2),
        Column("change_percent", "", "change over the first volume; empty for a new lesion", _percent),
        Column("brightness_change", "", "change of FLAIR brightness in SD of the head", _brightness),
        Column("parts", "", "connected components at each time point", lambda row: " ".join(map(str, row.parts))),
        *(intervals if len(names) > 2 else ()),
    )


def write_history_table(result: LongitudinalResult, out: str | os.PathLike) -> tuple[Path, Path]:
    """Write ``comparison.tsv`` and ``comparison.json`` into the folder ``out``; returns both paths."""
    about = {
        "task": "lesions over time",
        "time_points": list(result.names),
        "counts": {status: result.count(status) for status in STATUSES},
        "total_volumes_mm3": list(result.total_volumes_mm3),
        "rules": asdict(result.rules),
        "connectivity": CONNECTIVITY,
        "coordinates": "RAS, mm, of the first time point",
        "notes": list(result.notes),
    }
    return write_table(history_columns(result.names), result.histories, about, Path(out) / "comparison")


def _volume(time: int, row: LesionHistory) -> float:
    return row.volumes_mm3[time]


def _interval(number: int, row: LesionHistory) -> str:
    return row.statuses[number]


def _percent(row: LesionHistory) -> str:
    return "" if math.isnan(row.change_percent) else f"{row.change_percent:.1f}"


def _brightness(row: LesionHistory) -> str:
    return "" if row.brightness_change_sd is None else f"{row.brightness_change_sd:.2f}"
