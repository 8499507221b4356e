"""Small prostate studies as DICOM files, with findings within them, and with names that must not come out again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dicom_series import COLUMNS, NORMAL, ORIGIN_LPS, ROWS, SPACING_MM, series_array, write_series

SHAPE = (6, 48, 56)
FRAME_OF_REFERENCE = "1.2.826.0.1.3680043.8.498.77"
# Of the patient, of dates, of the place: keyword -> value, none of which may reach an output.
IDENTITY = {
    "PatientName": "UNMISTAKABLE^NAME",
    "PatientID": "UNMISTAKABLE-ID",
    "OtherPatientIDs": "UNMISTAKABLE-OTHER",
    "PatientBirthDate": "19531117",
    "PatientAddress": "UNMISTAKABLE STREET",
    "PatientComments": "UNMISTAKABLE COMMENT",
    "AccessionNumber": "UNMISTAKABLE-ACC",
    "StudyID": "UNMISTAKABLE-SID",
    "StudyDescription": "UNMISTAKABLE STUDY",
    "StudyDate": "20130822",
    "SeriesDate": "20130822",
    "AcquisitionDate": "20130822",
    "ContentDate": "20130822",
    "AcquisitionTime": "112358.132134",
    "InstitutionName": "UNMISTAKABLE HOSPITAL",
    "ReferringPhysicianName": "UNMISTAKABLE^DOCTOR",
    "OperatorsName": "UNMISTAKABLE^OPERATOR",
    "DeviceSerialNumber": "UNMISTAKABLE-SERIAL",
}


def place_ras(i: float, j: float, k: float) -> tuple[float, float, float]:
    """A point of the made series, given in its voxels."""
    lps = ORIGIN_LPS + SPACING_MM[0] * i * ROWS + SPACING_MM[1] * j * COLUMNS + SPACING_MM[2] * k * NORMAL
    return (float(-lps[0]), float(-lps[1]), float(lps[2]))


def write_study(folder: Path, **tags) -> Path:
    """T2W, ADC and b 1400, each in a folder of its own, oblique and on one grid; returns the folder."""
    diffusion = ["DERIVED", "PRIMARY", "DIFFUSION"]
    for number, (name, own) in enumerate(
        {
            "t2_tse_tra": {},
            "diff_ADC": {"ImageType": [*diffusion, "ADC"]},
            "diff_bval": {"ImageType": [*diffusion, "TRACEW"], "private_b": b"1400"},
        }.items(),
        start=1,
    ):
        write_series(
            folder / name,
            series_array(number, SHAPE) + np.uint16(1),
            SeriesDescription=name,
            SeriesNumber=number,
            SeriesInstanceUID=f"1.2.3.{number}",
            FrameOfReferenceUID=FRAME_OF_REFERENCE,
            **{**IDENTITY, **own, **tags},
        )
    return folder
