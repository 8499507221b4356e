"""Small MR series written as DICOM files, oblique and with the quirks of real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

ROWS = np.array([np.cos(0.2), np.sin(0.2), 0.0])
COLUMNS = np.array([-np.sin(0.2) * np.cos(0.3), np.cos(0.2) * np.cos(0.3), np.sin(0.3)])
NORMAL = np.cross(ROWS, COLUMNS)
ORIGIN_LPS = np.array([-30.0, 12.0, -5.0])
SPACING_MM = (0.7, 0.9, 3.0)
SHAPE = (5, 8, 10)


def series_array(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2000, shape).astype(np.uint16)


def write_series(folder: Path, array: np.ndarray, *, shuffled: bool = True, start: int = 0, **tags) -> list[Path]:
    """Write one file a slice, numbered in an order that is not that of the slices.

    Parameters
    ----------
    tags : DICOM keywords; ``private_b`` is bytes for (0019,100C); ``positions_mm`` along the normal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    private_b = tags.pop("private_b", None)
    positions = tags.pop("positions_mm", np.arange(len(array)) * SPACING_MM[2])
    uid, study = tags.pop("SeriesInstanceUID", None) or generate_uid(), tags.pop("StudyInstanceUID", None) or "1.2.3"
    order = np.random.default_rng(5).permutation(len(array)) if shuffled else np.arange(len(array))
    paths = [folder / f"1-{start + 1 + place:03d}.dcm" for place in order]
    for path, pixels, position in zip(paths, array, positions):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = MRImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
        ds.PatientName = "SECRET^NAME"
        ds.Modality, ds.SeriesInstanceUID, ds.StudyInstanceUID = "MR", uid, study
        ds.Rows, ds.Columns = pixels.shape
        ds.PixelSpacing = [SPACING_MM[1], SPACING_MM[0]]
        ds.SliceThickness = SPACING_MM[2]
        ds.ImageOrientationPatient = [round(float(value), 9) for value in (*ROWS, *COLUMNS)]
        ds.ImagePositionPatient = [round(float(value), 6) for value in ORIGIN_LPS + position * NORMAL]
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        for keyword, value in tags.items():
            setattr(ds, keyword, value)
        if private_b is not None:
            ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
            ds.add_new(0x0019100C, "OB", private_b)
        ds.PixelData = np.ascontiguousarray(pixels).tobytes()
        ds.save_as(path, enforce_file_format=True)
    return paths
