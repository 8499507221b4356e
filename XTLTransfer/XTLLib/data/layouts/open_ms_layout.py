"""The open MS data of Ljubljana: cross-sectional brain MR with the consensus of three raters.

Lesjak Z et al., Neuroinformatics 2017, doi 10.1007/s12021-017-9348-7. The folder ``cross_sectional``
holds ``MNI/patientNN/`` with files whose names begin with FLAIR, T1, T2 and GOLD_STANDARD.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import InputError
from ..datalist import Datalist, Entry
from .common import require_entries

LICENCE = "CC BY"
_BEGINNINGS = {"FLAIR": "FLAIR", "T1": "T1", "T2": "T2", "mask": "GOLD_STANDARD"}


def read(source: Path) -> Datalist:
    """Read the open MS data.

    Parameters
    ----------
    source : the data set's folder, its ``cross_sectional`` folder, or the folder that holds ``patientNN``.

    One entry a patient; channels FLAIR (reference), T1, T2; the label is the consensus lesion mask.
    """
    folder = next((f for f in (source, source / "MNI", source / "cross_sectional" / "MNI") if _patients(f)), source)
    entries = []
    for patient in _patients(folder):
        files = {name: _one_file(patient, beginning) for name, beginning in _BEGINNINGS.items()}
        mask = files.pop("mask")
        entries.append(Entry(patient.name, patient.name, {k: str(v) for k, v in files.items()}, str(mask)))
    return Datalist(
        name="open-ms",
        layout="open-ms",
        task="segmentation",
        channels=("FLAIR", "T1", "T2"),
        reference="FLAIR",
        labels={"0": "background", "1": "lesion"},
        licence=LICENCE,
        description=f"{len(entries)} patients, one time point each; the mask is the consensus of three raters",
        training=require_entries(entries, source, "folders named patientNN"),
    )


def _patients(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if child.is_dir() and re.fullmatch(r"patient\d+", child.name))


def _one_file(folder: Path, beginning: str) -> Path:
    pattern = re.compile(rf"{beginning}(_.*)?\.nii(\.gz)?")
    found = sorted(file for file in folder.iterdir() if pattern.fullmatch(file.name))
    if len(found) != 1:
        problem = "has no image" if not found else f"has {len(found)} images"
        raise InputError(f"{folder} {problem} whose name begins with {beginning}", "Keep exactly one")
    return found[0]
