"""Findings: reading the points that someone marked."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from .case import Finding
from .geometry import ras_from_lps
from .tables import Row, nearest, read_table, require_columns, unique_names

ZONES = ("PZ", "TZ", "AS", "SV")
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": None}


def read_findings_csv(path: str | os.PathLike) -> list[tuple[str, Finding]]:
    """Read a table of findings: (patient, finding) in the table's order.

    Two sets of columns are understood:

    * ProstateX: ``ProxID, fid, pos, zone, ClinSig``; pos is three blank-separated numbers, DICOM
      patient space (LPS) in mm. zone and ClinSig may be absent.
    * generic: ``finding, r, a, s``, RAS mm, and optionally ``patient, zone, significant``.

    ProstateX numbers some findings of a patient alike, so a finding is known by patient, number and
    position; the later ones of a number are called "1-2", "1-3" ... A line that repeats all three is dropped.

    Raises
    ------
    InputError : a column is missing, a position is not three finite numbers, a truth value or a zone
        is unknown, or a repeated line contradicts itself in the truth.
    """
    rows = read_table(path)
    if not rows:
        raise InputError(f"the table {path} has no findings", "Add a line for each finding")
    prostatex = "ProxID" in rows[0].values
    require_columns(path, rows[0].values, ("ProxID", "fid", "pos") if prostatex else ("finding", "r", "a", "s"))
    result: list[tuple[str, Finding]] = []
    seen: dict[tuple, tuple[str, bool | None]] = {}
    numbers: dict[tuple[str, str], int] = {}
    for row in rows:
        patient = row["ProxID"] if prostatex else row.get("patient")
        number = row["fid"] if prostatex else row["finding"]
        position = position_lps(row, "pos") if prostatex else position_ras(row)
        truth = truth_of(row, "ClinSig" if prostatex else "significant")
        key = (patient, number, tuple(round(value, 3) for value in position))
        if key in seen:
            where, before = seen[key]
            if before != truth:
                raise InputError(
                    f"{row.where} repeats the finding {patient} {number} of {where} with another truth value",
                    "Keep one of the two lines",
                )
            continue
        seen[key] = (row.where, truth)
        numbers[patient, number] = numbers.get((patient, number), 0) + 1
        repeat = numbers[patient, number]
        identifier = number if repeat == 1 else f"{number}-{repeat}"
        result.append((patient, Finding(identifier, position, zone_of(row), truth)))
    return result


def read_findings(path: str | os.PathLike, patient: str | None = None) -> tuple[Finding, ...]:
    """The findings of one patient, from a table or from a point list of Slicer (.mrk.json).

    Parameters
    ----------
    patient : which patient's lines of a table to take; needed where it holds several.

    Raises
    ------
    InputError : as read_findings_csv; or the table holds several patients and none was named, or not the named one.
    """
    if str(path).lower().endswith(".json"):
        return _read_point_list(Path(path))
    rows = read_findings_csv(path)
    patients = list(dict.fromkeys(name for name, _ in rows))
    if patient is None and len(patients) > 1:
        raise InputError(f"the table {path} holds findings of {len(patients)} patients", "Name the patient")
    if patient is not None and patient not in patients:
        close = nearest(patient, patients)
        raise InputError(
            f"the table {path} has no findings of the patient {patient}",
            f"Did you mean {close}" if close else "Check the patient's name",
        )
    return tuple(finding for name, finding in rows if patient in (None, name))


def _read_point_list(path: Path) -> tuple[Finding, ...]:
    if not path.is_file():
        raise InputError(f"the point list {path} does not exist", "Check the path")
    findings: list[Finding] = []
    try:
        for markup in json.loads(path.read_text(encoding="utf-8"))["markups"]:
            sign = {"LPS": -1.0, "RAS": 1.0}[markup.get("coordinateSystem", "LPS")]
            for point in markup["controlPoints"]:
                if point.get("positionStatus", "defined") != "defined":
                    continue
                x, y, z = (float(value) for value in point["position"])
                label = str(point.get("label") or point.get("id") or len(findings) + 1)
                findings.append(Finding(label, (sign * x, sign * y, z)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"the point list {path} is not a Markups file ({type(error).__name__})",
            "Save the points again as .mrk.json",
        ) from error
    if not findings:
        raise InputError(f"the point list {path} has no placed point", "Place a point on each finding")
    names = unique_names([finding.identifier for finding in findings])
    return tuple(replace(finding, identifier=name) for finding, name in zip(findings, names))


def position_lps(row: Row, column: str) -> tuple[float, float, float]:
    """Three blank-separated numbers in LPS mm, as RAS mm."""
    numbers = _numbers(row, column, re.split(r"\s+", row[column].strip()))
    return tuple(float(value) for value in ras_from_lps(numbers))


def position_ras(row: Row) -> tuple[float, float, float]:
    """The columns r, a, s in mm."""
    return _numbers(row, "r, a, s", [row[name] for name in "ras"])


def truth_of(row: Row, column: str) -> bool | None:
    """TRUE/FALSE, 1/0 or yes/no in a column; None when it is empty or absent."""
    text = row.get(column).lower()
    if text not in _TRUTH:
        raise InputError(f"{row.where} has '{row.get(column)}' in {column}", "Use TRUE, FALSE, or leave it empty")
    return _TRUTH[text]


def zone_of(row: Row, column: str = "zone") -> str:
    """PZ, TZ, AS or SV; "" when empty or absent."""
    zone = row.get(column).upper()
    if zone and zone not in ZONES:
        raise InputError(f"{row.where} has the zone '{row.get(column)}'", f"Use {', '.join(ZONES)}, or leave it empty")
    return zone


def _numbers(row: Row, column: str, texts: list[str]) -> tuple[float, float, float]:
    try:
        values = tuple(float(text) for text in texts)
    except ValueError:
        values = ()
    if len(values) != 3 or not all(abs(value) < 1e5 for value in values):
        raise InputError(f"{row.where} has no three numbers in {column} ('{' '.join(texts)}')", "Give a position in mm")
    return values
