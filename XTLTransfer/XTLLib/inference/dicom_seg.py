"""DICOM Segmentation objects: a result in the archive, beside the series that it was computed from.

What the standard asks of patient and study is taken over from the source series and goes into the file only:
neither messages nor logs hold any of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..data.dicom import Slice, series_slices
from ..data.geometry import LPS_TO_RAS, Grid
from ..data.quiet_dicom import quiet_pydicom
from ..data.volume import Volume
from ..errors import InputError, MissingPackageError, XTLError
from ..files import atomic_file
from .coded_terms import ALTERED_STRUCTURE, BRAIN, LESION, PROSTATE, Code
from .results import ClassificationResult, SegmentationResult

if TYPE_CHECKING:
    from pydicom import Dataset

Rgb = tuple[float, float, float]
_POSITION_TOLERANCE_MM = 0.02
_DIRECTION_TOLERANCE = 1e-4
_MOST_SEGMENTS = 65535
# Type 2 in the patient and study modules: they have to be there, and may be empty.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName",
    "StudyID", "StudyDate", "StudyTime",
)  # fmt: skip
_SERIES_NUMBER = 300  # high, so that it is no number of a scanner's series


def dicom_series_of(result: SegmentationResult | ClassificationResult) -> str | None:
    """The series that the reference channel was read from, as ``FOLDER`` or ``FOLDER#4`` (that of number 4).

    None when it came from elsewhere.
    """
    name = result.case.channels[result.case.reference].name
    return name if _folder_and_number(name)[0].is_dir() else None


def write_dicom_seg(
    result: SegmentationResult | ClassificationResult,
    path: str | os.PathLike,
    series: str | os.PathLike | None = None,
    *,
    segment_per_lesion: bool = True,
    colors: Sequence[Rgb] | None = None,
) -> Path:
    """Write the lesions (or rated findings) of a result as one DICOM SEG file, binary, with coded terms.

    Parameters
    ----------
    path : the file; it appears whole or not at all.
    series : folder of the series that the reference channel was read from, or ``folder#4`` where it holds several;
        None takes the one it was read from. Of several b-values the highest is meant, as in reading.
    segment_per_lesion : a segment for each lesion, with its identifier as segment number and a tracking UID;
        else one segment of all. Findings always have their own.
    colors : recommended display colours, 0 to 1, one a segment.

    Returns
    -------
    The path.

    Raises
    ------
    InputError : there is no series, it is not on the result's grid, it lacks what a segmentation needs (named),
        or there is nothing to be written: the standard knows no empty segment.
    MissingPackageError : highdicom is not installed.
    """
    hd = _import_highdicom()
    series = os.fspath(series) if series is not None else dicom_series_of(result)
    if series is None:
        raise InputError("the reference channel was not read from a DICOM series", "Name the folder of its series")
    names, organ = _segments(result, segment_per_lesion)
    if not names:
        raise InputError("a result without lesions has no DICOM segmentation", "Use its label map")
    if len(names) > _MOST_SEGMENTS:
        raise InputError(f"{len(names)} lesions for one DICOM segmentation", "Write one segment of all lesions")
    slices, mask = slices_with_label(series, result.label)
    if not segment_per_lesion and isinstance(result, SegmentationResult):
        mask = mask > 0
    path = Path(path)
    with quiet_pydicom(), _quiet("highdicom"):
        sources = [_source_header(one) for one in slices]
        algorithm = hd.AlgorithmIdentificationSequence(
            name=f"XTL {result.bundle_name}"[:64],
            family=_concept(hd, Code("DCM", "123110", "Artificial Intelligence")),
            version=__version__,
        )
        descriptions = [
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=name[:64],
                segmented_property_category=_concept(hd, ALTERED_STRUCTURE),
                segmented_property_type=_concept(hd, LESION),
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                tracking_uid=hd.UID(),
                tracking_id=name[:64],
                anatomic_regions=[_concept(hd, organ)],
                display_color=_cielab(hd, colors[number - 1]) if colors is not None else None,
            )
            for number, name in enumerate(names, start=1)
        ]
        try:
            segmentation = hd.seg.Segmentation(
                source_images=sources,
                pixel_array=mask.astype(np.uint16 if len(names) > 255 else np.uint8),
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=descriptions,
                series_instance_uid=hd.UID(),
                series_number=_SERIES_NUMBER,
                sop_instance_uid=hd.UID(),
                instance_number=1,
                manufacturer="XTL",
                manufacturer_model_name="XTL",
                software_versions=__version__,
                device_serial_number="none",
                content_label="LESIONS",
                content_description="Research software, not a medical device",
                series_description="XTL lesions, research only",
            )
            with atomic_file(path) as draft:
                segmentation.save_as(draft)
        except XTLError:
            raise
        except Exception as error:  # what it says may quote the header: only its kind is told
            raise InputError(
                f"the series in {series} cannot carry a DICOM segmentation ({type(error).__name__})",
                "Export the series again from the archive",
            ) from None
    return path


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


def _segments(result: SegmentationResult | ClassificationResult, one_each: bool) -> tuple[list[str], Code]:
    """Names of the segments by number, and the organ they lie in."""
    if isinstance(result, ClassificationResult):
        return [f"finding {r.finding.identifier}: {r.probability:.2f}" for r in result.findings], PROSTATE
    if not one_each:
        return (["MS lesions"] if result.lesions else []), BRAIN
    return [f"MS lesion {lesion.identifier}" for lesion in result.lesions], BRAIN


def _source_header(one: Slice) -> Dataset:
    import pydicom

    header = pydicom.dcmread(one.path, stop_before_pixels=True)
    for keyword in ("FrameOfReferenceUID", "StudyInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if not header.get(keyword):
            raise InputError(
                f"the DICOM file {one.path} lacks {keyword}, which a segmentation of it has to name",
                "Export the series again from the archive",
            )
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, "")
    return header


def _concept(hd: Any, code: Code) -> Any:
    return hd.sr.CodedConcept(code.value, code.scheme, code.meaning)


def _cielab(hd: Any, color: Rgb) -> Any:
    from_rgb = getattr(hd.color.CIELabColor, "from_rgb", None)  # older ones do without a colour
    return from_rgb(*(round(255 * part) for part in color)) if from_rgb is not None else None


def _import_highdicom() -> Any:
    try:
        import highdicom
        import highdicom.seg
    except ImportError as error:
        raise MissingPackageError(
            "DICOM segmentations need the Python package highdicom",
            'Install it with: pip install "xtl-transfer[dicom]"',
        ) from error
    return highdicom


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
