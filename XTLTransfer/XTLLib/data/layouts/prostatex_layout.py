"""ProstateX: DICOM folders and the table of findings.

Litjens G et al., SPIE-AAPM PROSTATEx Challenge Data, doi 10.7937/K9TCIA.2017.MURS5CL. Folders are
``ProstateX-NNNN/<study>/<series>/*.dcm``; the table has the columns ProxID, fid, pos, zone, ClinSig.
``pos`` is patient space (LPS, mm) and is used as it is; the ``ijk`` of other tables sits half a voxel off.
Findings of PI-RADS 2 were never biopsied and count as not significant. Nothing is written or converted.
Ktrans maps come apart from the images, as ``ProstateX-NNNN-Ktrans.mhd`` and ``.zraw``.
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
from ..ktrans import ktrans_of_patients, read_ktrans
from ..prostate_series import CHANNELS, Series, choose_series, find_series
from .common import require_entries

LICENCE = "TCIA PROSTATEx (CC BY 3.0), doi 10.7937/K9TCIA.2017.MURS5CL"
_PATIENT = re.compile(r"ProstateX-\d{4}", re.IGNORECASE)
_DEEPEST = 4
KTRANS = "KTRANS"


def read(source: Path, findings: str = "", ktrans: str = "") -> Datalist:
    """Read ProstateX.

    Parameters
    ----------
    source : a folder at or above the patients' folders.
    findings : the table; when empty, ProstateX-Findings-Train.csv at or below ``source``.
    ktrans : a folder at or above the Ktrans maps (``source`` itself, where they lie beside the images): they become
        the channel KTRANS, and findings of patients without a map are left out. When empty, there is no such channel.

    One entry a finding; channels T2W (reference), ADC, HBV are series folders, chosen as
    ``prostate_series`` says. Of several studies of a patient the latest is taken in which all
    channels show the finding. Left out, and counted in the description: findings whose patient has no
    folder or no map, and findings that no study shows in all channels. Findings without ClinSig (those of
    the challenge's test table) go to the test part.
    """
    maps = ktrans_of_patients(os.path.abspath(ktrans)) if ktrans else None
    channels = CHANNELS if maps is None else (*CHANNELS, KTRANS)
    table = Path(os.path.abspath(findings)) if findings else _find_table(source)
    folders = _patient_folders(source)
    training: list[Entry] = []
    test: list[Entry] = []
    absent = unseen = 0
    studies_of: dict[str, list[_Study]] = {}
    for patient, finding in read_findings_csv(table):
        if patient not in folders or (maps is not None and patient not in maps):
            absent += 1
            continue
        if patient not in studies_of:
            studies_of[patient] = _studies(folders[patient], maps[patient] if maps is not None else None)
        study = next((study for study in studies_of[patient] if study.shows(finding)), None)
        if study is None:
            unseen += 1
            continue
        (test if finding.significant is None else training).append(_entry(patient, finding, study))
    shown = "T2W, ADC and HBV series" + ("" if maps is None else " and a Ktrans map")
    require_entries(training + test, source, f"patient of {table} with {shown} around a finding")
    return Datalist(
        name="ProstateX",
        layout="prostatex",
        task="classification",
        channels=channels,
        reference="T2W",
        labels={"0": "not significant", "1": "clinically significant"},
        licence=LICENCE,
        description=f"{len(training) + len(test)} findings; left out: {absent} of patients without images, "
        f"{unseen} that no study shows in {', '.join(channels)}",
        training=training,
        test=test,
    )


class _Study:
    """The images of one study, the chosen series and the Ktrans map, and where their voxels lie."""

    def __init__(self, images: dict[str, Path]) -> None:
        self.images = images
        self._grids: dict[str, Grid] = {}

    def shows(self, finding: Finding) -> bool:
        for channel, path in self.images.items():
            if channel not in self._grids:
                self._grids[channel] = read_ktrans(path).grid if channel == KTRANS else series_grid(path)
            if not self._grids[channel].contains(np.array(finding.position_ras)):
                return False
        return True


def _studies(folder: Path, ktrans: Path | None) -> list[_Study]:
    """The studies that have all three channels, the latest first."""
    by_study: dict[tuple[str, str], list[Series]] = {}
    for series in find_series(folder):
        by_study.setdefault(series.study, []).append(series)
    chosen = [choose_series(by_study[study]) for study in sorted(by_study, reverse=True)]
    further = {} if ktrans is None else {KTRANS: ktrans}
    return [_Study({**folders, **further}) for folders in chosen if set(folders) == set(CHANNELS)]


def _entry(patient: str, finding: Finding, study: _Study) -> Entry:
    return Entry(
        patient=patient,
        case=f"{patient}-{finding.identifier}",
        images={channel: str(path) for channel, path in study.images.items()},
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
            if not any(path.is_dir() or path.suffix == ".dcm" for path in (Path(root) / name).iterdir()):
                continue  # without images: of the download of the Ktrans maps, whose folders have these names too
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
