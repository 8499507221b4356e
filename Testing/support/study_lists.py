"""Datalists without images, for what a study decides before it reads any."""

from __future__ import annotations

from collections.abc import Sequence

from XTLLib.data.datalist import Datalist, Entry
from XTLLib.study.config import Study


def findings_of(labels: Sequence[Sequence[int]], name: str = "findings") -> Datalist:
    """A classification datalist: one patient for each sequence of labels, one finding for each label."""
    entries = [
        Entry(f"p{number:03d}", f"p{number:03d}-{index}", {"ADC": f"/none/{name}/{number}.nii"}, label)
        for number, patient in enumerate(labels)
        for index, label in enumerate(patient)
    ]
    return Datalist(name, "csv", "classification", ("ADC",), "ADC", {"0": "no", "1": "yes"}, training=entries)


def scans_of(patients: int, scans: int = 1, name: str = "scans") -> Datalist:
    """A segmentation datalist of so many patients with so many scans each."""
    entries = [
        Entry(
            f"p{patient:03d}",
            f"p{patient:03d}-{scan}",
            {"FLAIR": f"/none/{name}/{patient}-{scan}.nii"},
            f"/none/{name}/{patient}-{scan}-mask.nii",
        )
        for patient in range(patients)
        for scan in range(scans)
    ]
    labels = {"0": "background", "1": "lesion"}
    return Datalist(name, "csv", "segmentation", ("FLAIR",), "FLAIR", labels, training=entries)


CLASSIFICATION = {"kind": "target", "task": "classification", "datalist": "t.json", "channels": ["ADC"]}
SEGMENTATION = {"kind": "target", "task": "segmentation", "datalist": "t.json", "channels": ["FLAIR"]}


def chain_values(target: dict, *between: dict, **more: object) -> dict:
    """A chain as a study file writes it out."""
    return {"name": "c", "stages": [{"kind": "initialisation", "weights": "random"}, *between, target], **more}


def study_of(arms: Sequence[dict], **more: object) -> Study:
    """A study of these arms."""
    return Study.model_validate({"name": "s", "datalist": "d.json", "folds": 3, "arms": list(arms), **more})
