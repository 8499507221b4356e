"""ProstateX: DICOM folders and the table of findings.

Litjens G et al., SPIE-AAPM PROSTATEx Challenge Data, doi 10.7937/K9TCIA.2017.MURS5CL. Folders are
``ProstateX-NNNN/<study>/<series>/*.dcm``; the table has the columns ProxID, fid, pos, zone, ClinSig.
``pos`` is patient space (LPS, mm) and is used as it is; the ``ijk`` of other tables sits half a voxel off.
Findings of PI-RADS 2 were never biopsied and count as not significant. Nothing is written or converted.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..case import Finding
from ..datalist import Datalist, Entry
from ..dicom import series_grid
from ..findings import read_findings_csv
from ..geometry import Grid
from ..prostate_series import CHANNELS, Series, choose_series, find_series
from .common import require_entries

LICENCE = "TCIA PROSTATEx (CC BY 3.0), doi 10.7937/K9TCIA.2017.MURS5CL"
_PATIENT = re.compile(r"ProstateX-\d{4}", re.IGNORECASE)
_DEEPEST = 4


def read(source: Path, findings: str = "") -> Datalist:
    """Read ProstateX.

    Parameters
    ----------
    source : a folder at or above the patients' folders.
    findings : the table; when empty, ProstateX-Findings-Train.csv at or below ``source``.

    One entry a finding; channels T2W (reference), ADC, HBV are series folders, chosen as
    ``prostate_series`` says. Of several studies of a patient the latest is taken in which all three
    channels show the finding. Left out, and counted in the description: findings whose patient has no
    folder, and findings that no study shows in all three channels. Findings without ClinSig (those of
    the challenge's test table) go to the test part.
    """
    table = Path(os.path.abspath(findings)) if findings else _find_table(source)
    folders = _patient_folders(source)
    training: list[Entry] = []
    test: list[Entry] = []
    absent = unseen = 0
    studies_of: dict[str, list[_Study]] = {}
    for patient, finding in read_findings_csv(table):
        if patient not in folders:
            absent += 1
            continue
        if patient not in studies_of:
            studies_of[patient] = _studies(folders[patient])
        study = next((study for study in studies_of[patient] if study.shows(finding)), None)
        if study is None:
            unseen += 1
            continue
        (test if finding.significant is None else training).append(_entry(patient, finding, study))
    require_entries(training + test, source, f"patient of {table} with T2W, ADC and HBV series around a finding")
    return Datalist(
        name="ProstateX",
        layout="prostatex",
        task="classification",
        channels=CHANNELS,
        reference="T2W",
        labels={"0": "not significant", "1": "clinically significant"},
        licence=LICENCE,
        description=f"{len(training) + len(test)} findings; left out: {absent} of patients without images, "
        f"{unseen} that no study shows in T2W, ADC and HBV",
        training=training,
        test=test,
    )


class _Study:
    """The three chosen series of one study, and where their voxels lie."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders
        self._grids: dict[str, Grid] = {}

    def shows(self, finding: Finding) -> bool:
        for channel, folder in self.folders.items():
            if channel not in self._grids:
                self._grids[channel] = series_grid(folder)
            if not self._grids[channel].contains(np.array(finding.position_ras)):
                return False
        return True


def _studies(folder: Path) -> list[_Study]:
    """The studies that have all three channels, the latest first."""
    by_study: dict[tuple[str, str], list[Series]] = {}
    for series in find_series(folder):
        by_study.setdefault(series.study, []).append(series)
    chosen = [choose_series(by_study[study]) for study in sorted(by_study, reverse=True)]
    return [_Study(folders) for folders in chosen if set(folders) == set(CHANNELS)]


def _entry(patient: str, finding: Finding, study: _Study) -> Entry:
    return Entry(
        patient=patient,
        case=f"{patient}-{finding.identifier}",
        images={channel: str(study.folders[channel]) for channel in CHANNELS},
        label=None if finding.significant is None else int(finding.significant),
        finding=finding,
        attributes={"zone": finding.zone} if finding.zone else {},
    )


def _patient_folders(source: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root, folders, _ in os.walk(source):
        folders.sort()
        for name in [name for name in folders if _PATIENT.fullmatch(name)]:
            patient = f"ProstateX-{name[-4:]}"
            if patient in found:
                raise InputError(
                    f"{source} holds the patient {patient} twice ({found[patient]} and {Path(root) / name})",
                    "Name the folder of one copy",
                )
            found[patient] = Path(root) / name
            folders.remove(name)
        if len(Path(root).relative_to(source).parts) >= _DEEPEST:
            folders.clear()
    if not found and _PATIENT.fullmatch(source.name):
        found[f"ProstateX-{source.name[-4:]}"] = source
    if not found:
        raise InputError(f"{source} holds no folder named ProstateX-NNNN", "Name the folder of the download")
    return found


def _find_table(source: Path) -> Path:
    found = []
    for root, folders, files in os.walk(source):
        folders[:] = sorted(name for name in folders if not _PATIENT.fullmatch(name))
        found += [Path(root) / name for name in files if name.lower() == "prostatex-findings-train.csv"]
    if len(found) != 1:
        problem = "holds no" if not found else f"holds {len(found)} tables"
        raise InputError(f"{source} {problem} ProstateX-Findings-Train.csv", "Name it with the option findings")
    return found[0]
