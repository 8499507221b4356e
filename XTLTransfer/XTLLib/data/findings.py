"""Findings: reading the points that someone marked."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from .case import Finding
from .finding_sources import findings_of_mask_file, is_mask_file
from .geometry import ras_from_lps
from .tables import Row, nearest, read_table, require_columns, unique_names
from .zones import ZONES

_FARTHEST_MM = 1e5
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": None}


def read_findings_csv(path: str | os.PathLike) -> list[tuple[str, Finding]]:
    """Read a table of findings: (patient, finding) in the table's order.

    Two sets of columns are understood:

    * ProstateX: ``ProxID, fid, pos, zone, ClinSig``; pos is three blank-separated numbers, DICOM
      patient space (LPS) in mm. zone and ClinSig may be absent.
    * generic: ``finding, r, a, s``, RAS mm, and optionally ``patient, zone, significant``.

    ProstateX numbers some findings of a patient alike, so a finding is known by patient, number and
    position; the later ones of a number are called "1-2", "1-3" ... A line that repeats all three is dropped
    (in tables such as ProstateX-Images every image repeats its finding).

    Raises
    ------
    InputError : a column is missing, a position is not three finite numbers, a truth value or a zone
        is unknown; a line names no patient or no finding; or a repeated line says another truth or zone.
    """
    rows = read_table(path)
    if not rows:
        raise InputError(f"the table {path} has no findings", "Add a line for each finding")
    prostatex = "ProxID" in rows[0].values
    require_columns(path, rows[0].values, ("ProxID", "fid", "pos") if prostatex else ("finding", "r", "a", "s"))
    result: list[tuple[str, Finding]] = []
    has_patients = prostatex or any(row.get("patient") for row in rows)
    seen: dict[tuple, tuple[str, bool | None, str]] = {}
    numbers: dict[tuple[str, str], int] = {}
    for row in rows:
        patient = row["ProxID"] if prostatex else row.get("patient")
        number = row["fid"] if prostatex else row["finding"]
        position = position_lps(row, "pos") if prostatex else position_ras(row)
        if not number or (has_patients and not patient):
            raise InputError(
                f"{row.where} names no {'finding' if patient or not has_patients else 'patient'}", "Add it"
            )
        truth, zone = truth_of(row, "ClinSig" if prostatex else "significant"), zone_of(row)
        key = (patient, number, tuple(round(value, 3) for value in position))
        if key in seen:
            where, *before = seen[key]
            if before != [truth, zone]:
                raise InputError(
                    f"{row.where} repeats the finding {patient} {number} of {where} with another "
                    f"{'truth value' if before[0] != truth else 'zone'}",
                    "Keep one of the two lines",
                )
            continue
        seen[key] = (row.where, truth, zone)
        numbers[patient, number] = numbers.get((patient, number), 0) + 1
        repeat = numbers[patient, number]
        identifier = number if repeat == 1 else f"{number}-{repeat}"
        result.append((patient, Finding(identifier, position, zone, truth)))
    twice = [name for name, times in Counter((name, one.identifier) for name, one in result).items() if times > 1]
    if twice:
        raise InputError(f"the table {path} has findings that are both called {' '.join(twice[0])}", "Rename one")
    return result


def read_findings(path: str | os.PathLike, patient: str | None = None) -> tuple[Finding, ...]:
    """The findings of one patient: from a table, a point list of Slicer (.mrk.json, .fcsv) or a lesion mask.

    Of a mask (NIfTI, NRRD, MetaImage, also .seg.nrrd) each 26-connected region is a finding, at its voxel
    nearest to its centroid (see finding_sources).

    Parameters
    ----------
    patient : which patient's lines of a table to take; needed where it holds several.

    Raises
    ------
    InputError : as read_findings_csv and regions_as_findings; the table holds several patients and none was
        named, or not the named one; a point list or a mask is damaged or empty.
    """
    if str(path).lower().endswith(".json"):
        return _read_point_list(Path(path))
    if str(path).lower().endswith(".fcsv"):
        return _read_fcsv(Path(path))
    if is_mask_file(path):
        return findings_of_mask_file(path)
    rows = read_findings_csv(path)
    patients = list(dict.fromkeys(name for name, _ in rows))
    if patient is None and len(patients) > 1:
        raise InputError(
            f"the table {path} holds findings of {len(patients)} patients",
            "Name one (--patient), or keep the lines of one patient",
        )
    if patient is not None and patient not in patients:
        close = nearest(patient, patients)
        raise InputError(
            f"the table {path} has no findings of the patient {patient}",
            f"Did you mean {close}" if close else "Check the patient's name",
        )
    return tuple(finding for name, finding in rows if patient in (None, name))


def patients_of(path: str | os.PathLike) -> frozenset[str]:
    """The patients that a file of findings names: none in a point list or a mask. Errors as of read_findings."""
    if str(path).lower().endswith((".json", ".fcsv")) or is_mask_file(path):
        return frozenset()
    return frozenset(name for name, _ in read_findings_csv(path) if name)


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
                if not all(abs(value) < _FARTHEST_MM for value in (x, y, z)):
                    raise ValueError("no position")
                label = str(point.get("label") or point.get("id") or len(findings) + 1)
                findings.append(Finding(label, (sign * x, sign * y, z), zone_in_words(point.get("description"))))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"the point list {path} is not a Markups file ({type(error).__name__})",
            "Save the points again as .mrk.json",
        ) from error
    return _named_apart(path, findings)


def _read_fcsv(path: Path) -> tuple[Finding, ...]:
    """The point list format before .mrk.json: comment lines that name the coordinate system, then CSV."""
    if not path.is_file():
        raise InputError(f"the point list {path} does not exist", "Check the path")
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
        said = [line.partition("=")[2].strip() for line in lines if line.startswith("# CoordinateSystem")]
        sign = {"LPS": -1.0, "1": -1.0, "RAS": 1.0, "0": 1.0}[said[0]]
        findings = []
        for cells in csv.reader(line for line in lines if line.strip() and not line.startswith("#")):
            # id, x, y, z, orientation (4), visible, selected, locked, label, description, ...
            x, y, z = (float(cell) for cell in cells[1:4])
            if not all(abs(value) < _FARTHEST_MM for value in (x, y, z)):
                raise ValueError("no position")
            findings.append(Finding(cells[11].strip() or cells[0], (sign * x, sign * y, z), zone_in_words(cells[12])))
    except (OSError, ValueError, KeyError, IndexError, csv.Error) as error:
        raise InputError(
            f"the point list {path} is not a Markups file ({type(error).__name__})",
            "Save the points again as .mrk.json",
        ) from error
    return _named_apart(path, findings)


def _named_apart(path: Path, findings: list[Finding]) -> tuple[Finding, ...]:
    if not findings:
        raise InputError(f"the point list {path} has no placed point", "Place a point on each finding")
    names = unique_names([finding.identifier for finding in findings])
    return tuple(replace(finding, identifier=name) for finding, name in zip(findings, names))


def zone_in_words(text: object) -> str:
    """The first of PZ, TZ, AS, SV that stands as a word in a description, AS in capitals only; "" when none does."""
    words = re.findall(r"[A-Za-z]+", str(text or ""))
    return next((word.upper() for word in words if word.upper() in ZONES and word not in ("as", "As")), "")


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
    if len(values) != 3 or not all(abs(value) < _FARTHEST_MM for value in values):
        raise InputError(f"{row.where} has no three numbers in {column} ('{' '.join(texts)}')", "Give a position in mm")
    return values
