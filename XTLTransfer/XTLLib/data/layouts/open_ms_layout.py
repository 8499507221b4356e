"""The open MS data of Ljubljana: cross-sectional brain MR with the consensus of three raters.

Lesjak Z et al., Neuroinformatics 2017, doi 10.1007/s12021-017-9348-7. The folder ``cross_sectional``
holds ``MNI/patientNN/`` with files whose names begin with FLAIR, T1, T2 and GOLD_STANDARD.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import InputError
from ..datalist import Datalist, Entry
from .common import UNLABELLED, choose, require_entries

LICENCE = "CC BY"
TASKS = ("segmentation", UNLABELLED)
_CHANNELS = {"FLAIR": "FLAIR", "T1": "T1", "T2": "T2"}
_MASK = "GOLD_STANDARD"


def read(source: Path, task: str = "segmentation") -> Datalist:
    """Read the open MS data.

    Parameters
    ----------
    source : the data set's folder, its ``cross_sectional`` folder, or the folder that holds ``patientNN``.
    task : "segmentation", or "unlabelled": the images alone, whose masks need not be there.

    One entry a patient; channels FLAIR (reference), T1, T2; the label is the consensus lesion mask.
    """
    choose("open-ms", "task", task, TASKS)
    is_labelled = task != UNLABELLED
    folder = next((f for f in (source, source / "MNI", source / "cross_sectional" / "MNI") if _patients(f)), source)
    entries = []
    for patient in _patients(folder):
        images = {name: str(_one_file(patient, beginning)) for name, beginning in _CHANNELS.items()}
        mask = str(_one_file(patient, _MASK)) if is_labelled else None
        entries.append(Entry(patient.name, patient.name, images, mask))
    truth = "; the mask is the consensus of three raters" if is_labelled else ""
    return Datalist(
        name="open-ms",
        layout="open-ms",
        task=task,
        channels=tuple(_CHANNELS),
        reference="FLAIR",
        labels={"0": "background", "1": "lesion"} if is_labelled else {},
        licence=LICENCE,
        description=f"{len(entries)} patients, one time point each{truth}",
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
