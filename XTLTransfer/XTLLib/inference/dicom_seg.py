"""DICOM Segmentation objects: a result in the archive, beside the series that it was computed from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import InputError
from ..files import atomic_file
from .coded_terms import ALTERED_STRUCTURE, BRAIN, LESION, PROSTATE, Code
from .dicom_source import (
    concept,
    finding_tracking_uid,
    import_highdicom,
    quiet_highdicom,
    require_dicom_series,
    slices_with_label,
    source_header,
    written_beside,
)
from .results import RESEARCH_NOTE, ClassificationResult, SegmentationResult

Rgb = tuple[float, float, float]
_MOST_SEGMENTS = 65535
_SERIES_NUMBER = 300  # high, so that it is no number of a scanner's series


def write_dicom_seg(
    result: SegmentationResult | ClassificationResult,
    path: str | os.PathLike,
    series: str | os.PathLike | None = None,
    *,
    segment_per_lesion: bool = True,
    colors: Sequence[Rgb] | None = None,
    keep_identity: bool = False,
) -> Path:
    """Write the lesions (or rated findings) of a result as one DICOM SEG file, binary, with coded terms.

    Parameters
    ----------
    path : the file; it appears whole or not at all.
    series : folder of the series that the reference channel was read from, or ``folder#4`` where it holds several;
        None takes the one it was read from, also through Slicer's DICOM database. Of several b-values the highest is
        meant, as in reading.
    segment_per_lesion : a segment for each lesion, with its identifier as segment number and a tracking UID;
        else one segment of all. Findings always have their own.
    colors : recommended display colours, 0 to 1, one a segment.
    keep_identity : patient and study are taken over from the source series, as an archive needs them; else the file
        is of the same study and names nobody.

    Returns
    -------
    The path.

    Raises
    ------
    InputError : there is no series, it is not on the result's grid, it lacks what a segmentation needs (named),
        or there is nothing to be written: the standard knows no empty segment.
    MissingPackageError : highdicom is not installed.
    """
    hd = import_highdicom()
    series = os.fspath(series) if series is not None else require_dicom_series(result)
    names, organ = _segments(result, segment_per_lesion)
    if not names:
        raise InputError("a result without lesions has no DICOM segmentation", "Use its label map")
    if len(names) > _MOST_SEGMENTS:
        raise InputError(f"{len(names)} lesions for one DICOM segmentation", "Write one segment of all lesions")
    slices, mask = slices_with_label(series, result.label)
    if not segment_per_lesion and isinstance(result, SegmentationResult):
        mask = mask > 0
    path = Path(path)
    with quiet_highdicom():
        sources = [source_header(one, keep_identity) for one in slices]
        algorithm = hd.AlgorithmIdentificationSequence(
            name=f"XTL {result.bundle_name}"[:64],
            family=concept(hd, Code("DCM", "123110", "Artificial Intelligence")),
            version=__version__,
        )
        tracking = _tracking_uids(hd, result, sources[0].FrameOfReferenceUID, len(names))
        descriptions = [
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=name[:64],
                segmented_property_category=concept(hd, ALTERED_STRUCTURE),
                segmented_property_type=concept(hd, LESION),
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                tracking_uid=tracking[number - 1],
                tracking_id=name[:64],
                anatomic_regions=[concept(hd, organ)],
                display_color=_cielab(hd, colors[number - 1]) if colors is not None else None,
            )
            for number, name in enumerate(names, start=1)
        ]
        with written_beside(series, "a DICOM segmentation"):
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
                content_description=RESEARCH_NOTE,
                series_description="XTL lesions, research only",
            )
            with atomic_file(path) as draft:
                segmentation.save_as(draft)
    return path


def _segments(result: SegmentationResult | ClassificationResult, one_each: bool) -> tuple[list[str], Code]:
    """Names of the segments by number, and the organ they lie in."""
    if isinstance(result, ClassificationResult):
        return [f"finding {r.finding.identifier}: {r.probability:.2f}" for r in result.findings], PROSTATE
    if not one_each:
        return (["MS lesions"] if result.lesions else []), BRAIN
    return [f"MS lesion {lesion.identifier}" for lesion in result.lesions], BRAIN


def _tracking_uids(
    hd: Any, result: SegmentationResult | ClassificationResult, frame_of_reference: str, count: int
) -> list[str]:
    """Findings have the same in every object written of them; lesions are found anew by each computation."""
    if isinstance(result, ClassificationResult):
        return [finding_tracking_uid(frame_of_reference, rated.finding) for rated in result.findings]
    return [hd.UID() for _ in range(count)]


def _cielab(hd: Any, color: Rgb) -> Any:
    from_rgb = getattr(hd.color.CIELabColor, "from_rgb", None)  # older ones do without a colour
    return from_rgb(*(round(255 * part) for part in color)) if from_rgb is not None else None
