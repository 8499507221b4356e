"""Small made mammograms, as arrays and as DICOM files with any tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid


def breast(height: int = 120, width: int = 90, largest: float = 4000, side: str = "left", seed: int = 0) -> np.ndarray:
    """A half ellipse of tissue on one edge with an uneven gland; whole numbers from 10 to ``largest``."""
    y, x = np.mgrid[:height, :width]
    depth = 1 - ((y - 0.5 * height) / (0.42 * height)) ** 2 - (x / (0.7 * width)) ** 2
    coarse = np.random.default_rng(seed).random((height // 10 + 1, width // 10 + 1))
    texture = np.kron(coarse, np.ones((10, 10)))[:height, :width]
    tissue = np.where(depth > 0, 0.3 + 0.4 * np.sqrt(np.clip(depth, 0, None)) + 0.3 * texture * (depth > 0.2), 0)
    image = np.rint(10 + (largest - 10) * tissue).astype(np.uint16)
    return image if side == "left" else image[:, ::-1].copy()


def write_dicom(path: Path, pixels: np.ndarray, **tags) -> Path:
    """Write an MG file of 12 bits stored; ``tags`` are DICOM keywords, None takes one out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    dataset.PatientName, dataset.PatientBirthDate = "SECRET^NAME", "19010203"
    dataset.PatientID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "ID-SECRET-1", "1.2.3", "1.2.4"
    dataset.Modality = "MG"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = np.ascontiguousarray(pixels.astype("<i2" if pixels.dtype.kind == "i" else "<u2")).tobytes()
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
