"""PI-CAI: prostate MR as ``<patient>_<study>_{t2w,adc,hbv}.mha`` with public lesion labels.

Saha A, Bosma JS, Twilt JJ et al., Lancet Oncol 2024;25:879-887. Labels: repository
DIAGNijmegen/picai_labels (CC BY-NC 4.0), ``csPCa_lesion_delineations/human_expert``: 0 is background and
everything of ISUP grade <= 1, 2 to 5 is a clinically significant lesion of that grade. The directions of
labels and images differ by up to 2e-4, which loading sets right.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from ...errors import InputError
from ..case import Finding
from ..datalist import Datalist, Entry
from ..finding_sources import regions_as_findings
from ..findings import read_findings_csv
from ..images import read_volume
from ..ktrans import ktrans_of_patients
from ..zones import guess_zones
from .common import UNLABELLED, choose, require_entries

TASKS = ("segmentation", "classification", UNLABELLED)
LICENCE = "images CC BY-NC 4.0; labels CC BY-NC 4.0: not for commercial use"
CHANNELS = {"T2W": "t2w", "ADC": "adc", "HBV": "hbv"}
SIGNIFICANT_GRADE = 2
_LABEL_NAMES = {
    "segmentation": {"0": "background", "1": "significant lesion"},
    "classification": {"0": "not significant", "1": "clinically significant"},
    UNLABELLED: {},
}
_T2W = re.compile(r"(\d+)_(\d+)_t2w\.mha")
_LABELS = Path("csPCa_lesion_delineations") / "human_expert"
_ZONES = Path("anatomical_delineations") / "zonal_pz_tz" / "AI"
_MAPPING = Path("additional_resources") / "ProstateX-mapping.json"


def read(
    source: Path, task: str = "segmentation", labels: str = "", findings: str = "", zones: str = "", ktrans: str = ""
) -> Datalist:
    """Read PI-CAI.

    Parameters
    ----------
    source : a folder at or above the .mha files (flat, or one folder a patient, or folds of them).
    task : "segmentation": one entry a study, the label is the lesion mask, empty where there is no
        significant lesion. "classification": one entry a finding. "unlabelled": one entry a study, the
        images alone; the labels need not be there.
    labels : the picai_labels folder; when empty, ``picai_labels`` in or beside ``source``.
    findings : for classification, the table ProstateX-Findings-Train.csv.
    zones : for classification, which zonal masks of picai_labels tell the zone of findings that have none,
        for example HeviAI23 (see data.zones).
    ktrans : a folder at or above ProstateX's Ktrans maps: they become the channel KTRANS of the studies that PI-CAI
        took from ProstateX, and studies without a map are left out.

    Classification needs findings of both kinds, and PI-CAI publishes places of significant lesions
    only. Each 26-connected component of a label is a significant finding, at the component's voxel
    nearest to its centroid; studies without lesion give none. With ``findings``, those studies that
    PI-CAI took from ProstateX (its own mapping tells) get the findings of that table instead,
    significant and not: without it every label is 1, and the description says so.

    Studies without a human expert's label file are left out and counted in the description.
    """
    choose("picai", "task", task, TASKS)
    if findings and task != "classification":
        raise InputError("the option findings of the layout picai goes with task=classification", "Add it, or leave it")
    if zones and task != "classification":
        raise InputError("the option zones of the layout picai goes with task=classification", "Add it, or leave it")
    label_folder = _label_folder(source, labels) if task != UNLABELLED or ktrans else None
    known = _mapped_findings(label_folder, Path(os.path.abspath(findings))) if findings else {}
    maps = _mapped_ktrans(label_folder, Path(os.path.abspath(ktrans))) if ktrans else None
    entries: list[Entry] = []
    unlabelled = unmapped = 0
    for t2w in sorted(source.rglob("*_t2w.mha")):
        match = _T2W.fullmatch(t2w.name)
        if match is None:
            continue
        patient, case = match.group(1), f"{match.group(1)}_{match.group(2)}"
        images = {name: str(t2w.with_name(f"{case}_{ending}.mha")) for name, ending in CHANNELS.items()}
        if maps is not None and case not in maps:
            unmapped += 1
            continue
        if maps is not None:
            images["KTRANS"] = str(maps[case])
        if task == UNLABELLED:
            entries.append(Entry(patient, case, images))
            continue
        label = _label_of(label_folder, case)
        if label is None:
            unlabelled += 1
        elif task == "segmentation":
            entries.append(Entry(patient, case, images, str(label)))
        else:
            places = known[case] if case in known else _lesions(label)
            if zones:
                places = _with_zones(places, label_folder / _ZONES / zones / f"{case}.nii.gz")
            entries += [_finding_entry(patient, case, images, finding, grade) for finding, grade in places]
    told = f"{len(entries)} {'findings' if task == 'classification' else 'studies'}"
    if task == "classification" and all(entry.label for entry in entries):
        told += "; all are significant: give the option findings for others"
    if maps is not None:
        told += f"; {unmapped} studies without a Ktrans map left out"
    if task != UNLABELLED:
        told += f"; {unlabelled} studies without a human label left out"
    expected = "studies named <patient>_<study>_t2w.mha"
    return Datalist(
        name="PI-CAI",
        layout="picai",
        task=task,
        channels=(*CHANNELS, *(["KTRANS"] if maps is not None else [])),
        reference="T2W",
        labels=_LABEL_NAMES[task],
        licence=LICENCE,
        description=told,
        training=require_entries(
            entries, source, expected if task == UNLABELLED else f"labelled {expected} with lesions"
        ),
    )


def _finding_entry(patient: str, case: str, images: dict[str, str], finding: Finding, grade: str) -> Entry:
    attributes = {"zone": finding.zone, "grade": grade}
    return Entry(
        patient=patient,
        case=f"{case}-{finding.identifier}",
        images=images,
        label=int(bool(finding.significant)),
        finding=finding,
        attributes={name: value for name, value in attributes.items() if value},
    )


def _label_folder(source: Path, labels: str) -> Path:
    if labels:
        folder = Path(os.path.abspath(labels))
        candidates = [folder]
    else:
        candidates = [source / "picai_labels", source, source.parent / "picai_labels"]
    for candidate in candidates:
        if (candidate / _LABELS).is_dir():
            return candidate
    raise InputError(
        f"{candidates[0]} holds no {_LABELS.as_posix()}", "Get DIAGNijmegen/picai_labels and name it with labels="
    )


def _label_of(folder: Path, case: str) -> Path | None:
    """The label on the T2W grid: "resampled" where there is one, else the original delineation."""
    choices = [folder / _LABELS / kind / f"{case}.nii.gz" for kind in ("resampled", "original")]
    return next((path for path in choices if path.is_file()), None)


def _lesions(label: Path) -> list[tuple[Finding, str]]:
    """(finding, ISUP grade) of each 26-connected component, the larger ones first."""
    regions = regions_as_findings(read_volume(label), SIGNIFICANT_GRADE, significant=True)
    return [(region.finding, str(region.value)) for region in regions]


def _with_zones(places: list[tuple[Finding, str]], mask: Path) -> list[tuple[Finding, str]]:
    if not places:
        return []
    told = guess_zones([finding for finding, _ in places], read_volume(mask))
    return [(finding, grade) for finding, (_, grade) in zip(told.findings, places)]


def _mapped_findings(label_folder: Path, table: Path) -> dict[str, list[tuple[Finding, str]]]:
    """PI-CAI case -> the findings that ProstateX gives for it."""
    cases = _prostatex_cases(label_folder)
    found: dict[str, list[tuple[Finding, str]]] = {}
    for patient, finding in read_findings_csv(table):
        if patient in cases and finding.significant is not None:
            found.setdefault(cases[patient], []).append((finding, ""))
    return found


def _mapped_ktrans(label_folder: Path, folder: Path) -> dict[str, Path]:
    """PI-CAI case -> the Ktrans map that ProstateX gives for it."""
    cases = _prostatex_cases(label_folder)
    return {cases[patient]: path for patient, path in ktrans_of_patients(folder).items() if patient in cases}


def _prostatex_cases(label_folder: Path) -> dict[str, str]:
    """ProstateX patient -> PI-CAI case, of the patients with one study.

    A patient of several studies is left out: neither the table of findings nor a Ktrans map says which study it is of.
    """
    path = label_folder / _MAPPING
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"the mapping {path} cannot be read", "Complete picai_labels, or leave out findings and ktrans"
        ) from error
    patients = [name.split("_")[0] for name in mapping]
    return {patient: case for patient, case in zip(patients, mapping.values()) if patients.count(patient) == 1}
