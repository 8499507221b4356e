"""The DICOM series that a result's reference channel was read from, for objects that go into the archive beside it.

Unless its identity is asked for, nothing that a header says of the patient, of dates or of the place leaves this file:
a source keeps what its images are named by and where they lie in space.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.case import Finding
from ..data.dicom import Slice, series_slices
from ..data.geometry import LPS_TO_RAS, Grid
from ..data.quiet_dicom import quiet_pydicom
from ..data.volume import Volume
from ..errors import InputError, MissingPackageError, XTLError
from .coded_terms import Code
from .results import ClassificationResult, SegmentationResult

if TYPE_CHECKING:
    from pydicom import Dataset

_POSITION_TOLERANCE_MM = 0.02
_DIRECTION_TOLERANCE = 1e-4
# Type 2 in the patient and study modules: they have to be there, and may be empty.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName",
    "StudyID", "StudyDate", "StudyTime",
)  # fmt: skip
_NEEDED = ("FrameOfReferenceUID", "StudyInstanceUID", "SOPInstanceUID", "SOPClassUID")
# What stays of a header without the identity: names of objects, and geometry.
_PLAIN = (
    *_NEEDED, "SeriesInstanceUID", "Modality", "PositionReferenceIndicator", "Rows", "Columns", "PixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "ImageOrientationPatient", "ImagePositionPatient", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip


def dicom_series_of(result: SegmentationResult | ClassificationResult) -> str | None:
    """The series that the reference channel was read from, as ``FOLDER`` or ``FOLDER#4`` (that of number 4).

    Of a node that Slicer loaded from its DICOM database, the series there. None when it came from elsewhere.
    """
    reference = result.case.channels[result.case.reference]
    name = reference.series or reference.name
    return name if _folder_and_number(name)[0].is_dir() else None


def require_dicom_series(result: SegmentationResult | ClassificationResult) -> str:
    """As :func:`dicom_series_of`. Raises InputError when it came from elsewhere."""
    series = dicom_series_of(result)
    if series is None:
        raise InputError(
            "the reference channel was not read from DICOM, or Slicer's DICOM database does not know its files",
            "Load it through Slicer's DICOM module, or name the folder of its series",
        )
    return series


@contextmanager
def written_beside(series: str, what: str) -> Iterator[None]:
    """Turns what a library says of a source that cannot carry an object into an InputError.

    Its words may quote the header: only their kind is told. ``what`` : the object, with its article.
    """
    try:
        yield
    except XTLError:
        raise
    except Exception as error:
        raise InputError(
            f"the series in {series} cannot carry {what} ({type(error).__name__})",
            "Export the series again from the archive",
        ) from None


def slices_with_label(series: str, label: Volume) -> tuple[list[Slice], np.ndarray]:
    """The slices of a series along its normal, and the label map (slices, rows, columns) as they show it.

    The map may lie on the series' grid with axes exchanged or flipped, as some readers have it.

    Raises InputError when the grids differ in patient space, or the folder holds several series and none is named.
    """
    folder, number = _folder_and_number(series)
    with quiet_pydicom():
        slices = [one for one in series_slices(folder) if number in ("", one.series_number)]
    if len({one.series_uid for one in slices}) != 1:
        raise InputError(f"{series} is not one DICOM series", "Name one, as FOLDER or FOLDER#NUMBER")
    slices.sort(key=lambda one: -(one.b_value or 0.0))
    shown = _as_shown(label, slices[0])
    where: dict[int, Slice] = {}
    for one in slices if shown is not None else ():
        ras = LPS_TO_RAS[:3, :3] @ one.position_lps
        k = round(float(shown.grid.ras_to_index(ras)[2]))
        off_mm = np.linalg.norm(shown.grid.index_to_ras((0, 0, k)) - ras)
        fits = one.shape == shown.grid.shape[1:] and np.allclose(one.spacing_mm, shown.grid.spacing_mm[:2], rtol=1e-3)
        if fits and 0 <= k < shown.grid.shape[0] and off_mm <= _POSITION_TOLERANCE_MM:
            where.setdefault(k, one)
    if shown is None or len(where) != shown.grid.shape[0]:
        raise InputError(
            f"the result does not lie on the voxel grid of the series in {series}",
            "Name the series it was computed from",
        )
    return [where[k] for k in range(shown.grid.shape[0])], shown.array


def source_header(one: Slice, keep_identity: bool) -> Dataset:
    """The header of a slice, without its pixels, as highdicom takes patient, study and geometry from it.

    Parameters
    ----------
    keep_identity : all of the header; else what names its objects and says where it lies, and empty values for the
        patient and the dates, marked as removed.

    Raises InputError when it lacks a UID that an object beside it has to name.
    """
    import pydicom

    header = pydicom.dcmread(one.path, stop_before_pixels=True)
    for keyword in _NEEDED:
        if not header.get(keyword):
            raise InputError(
                f"the DICOM file {one.path} lacks {keyword}, which an object beside it has to name",
                "Export the series again from the archive",
            )
    if not keep_identity:
        header = _without_identity(header)
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, "")
    return header


def finding_tracking_uid(frame_of_reference: str, finding: Finding) -> str:
    """The same for a finding in every object written of it, also later: made of its name and its place."""
    from pydicom.uid import generate_uid

    place = " ".join(f"{mm:.3f}" for mm in finding.position_ras)
    return generate_uid(entropy_srcs=[frame_of_reference, finding.identifier, place])


def import_highdicom() -> Any:
    """The package highdicom with its rooms for segmentations and reports. MissingPackageError without it."""
    try:
        import highdicom
        import highdicom.seg
        import highdicom.sr
    except ImportError as error:
        raise MissingPackageError.of("DICOM segmentations and reports", "highdicom", "dicom") from error
    return highdicom


def concept(hd: Any, code: Code) -> Any:
    """A coded term as highdicom has them."""
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


@contextmanager
def quiet_highdicom() -> Iterator[None]:
    """Within it neither pydicom nor highdicom says anything: both quote headers."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with quiet_pydicom():
            yield
    finally:
        logger.setLevel(level)


def _without_identity(header: Dataset) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset

    plain = Dataset()
    plain.file_meta = FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    for keyword in _PLAIN:
        if keyword in header:
            plain.add(header[keyword])
    plain.PatientIdentityRemoved = "YES"
    plain.DeidentificationMethod = "XTL: patient, dates and place left out"
    return plain


def _folder_and_number(series: str) -> tuple[Path, str]:
    """Folder and series number ("" for its only series); as data.images.read_image takes them."""
    folder, mark, number = series.rpartition("#")
    return (Path(folder), number) if mark and not Path(series).exists() else (Path(series), "")


def _as_shown(label: Volume, first: Slice) -> Volume | None:
    """The same voxels with i, j, k along a slice's rows, its columns and its normal; None when they lie aslant."""
    wanted = np.stack([first.rows, first.columns, first.normal], axis=1)
    lps = (LPS_TO_RAS @ label.grid.ijk_to_ras)[:3, :3]
    along = (lps / np.linalg.norm(lps, axis=0)).T @ wanted  # (own axis, wanted axis)
    order = np.abs(along).argmax(axis=0).tolist()
    if sorted(order) != [0, 1, 2] or np.abs(along[order, range(3)]).min() < 1 - _DIRECTION_TOLERANCE:
        return None
    counts = label.grid.shape[::-1]
    affine = label.grid.ijk_to_ras.copy()
    flipped = [axis for place, axis in enumerate(order) if along[axis, place] < 0]
    for axis in flipped:
        affine[:3, 3] += affine[:3, axis] * (counts[axis] - 1)
        affine[:3, axis] *= -1
    affine[:3, :3] = affine[:3, order]
    array = np.flip(label.array, [2 - axis for axis in flipped]).transpose([2 - axis for axis in order[::-1]])
    return Volume(np.ascontiguousarray(array), Grid(array.shape, affine), label.name)
