"""DICOM structured reports: rated findings in the archive, beside the series that they were marked in.

A Measurement Report (DICOM PS3.16, TID 1500) as Comprehensive 3D SR. Each finding is a planar ROI group (TID 1410)
with a point in patient space, its zone as finding site, and its probability as a measurement in percent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..data.geometry import LPS_TO_RAS
from ..errors import InputError
from ..files import atomic_file
from .coded_terms import ALTERED_STRUCTURE, LESION, PROSTATE_SITES, Code
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
from .results import RESEARCH_NOTE, ClassificationResult, RatedFinding

PROBABILITY = Code("DCM", "111047", "Probability of cancer")
PERCENT = Code("UCUM", "%", "Percent")
CALLED_SIGNIFICANT = Code("99XTL", "significant", "Reaches the threshold of the operating point")
_YES, _NO = Code("SCT", "373066001", "Yes"), Code("SCT", "373067005", "No")
_LOWEST, _HIGHEST = Code("SCT", "255605001", "Minimum"), Code("SCT", "56851009", "Maximum")
_COMMENT = Code("DCM", "121106", "Comment")
_REPORT = Code("DCM", "126000", "Imaging Measurement Report")
_EXAMINATION = Code("SCT", "719178004", "Multiparametric MRI of prostate")
_DEVICE = Code("DCM", "121007", "Device")
_ENGLISH = Code("RFC5646", "en", "English")
_SERIES_NUMBER = 301  # the segmentation has 300; high, so that it is no number of a scanner's series


def write_dicom_sr(
    result: ClassificationResult,
    path: str | os.PathLike,
    series: str | os.PathLike | None = None,
    *,
    keep_identity: bool = False,
) -> Path:
    """Write the rated findings of a result as one DICOM SR file.

    The first measurement of a finding is its probability; where the result has an interval, the lowest and the highest
    follow, told apart by their derivation. The operating point and what else is to be known of the computation
    stand as parameters of the algorithm, warnings as comments.

    Parameters
    ----------
    path : the file; it appears whole or not at all.
    series : folder of the series that the reference channel was read from, or ``folder#4`` where it holds several;
        None takes the one it was read from.
    keep_identity : patient and study are taken over from the source series, as an archive needs them; else the file
        is of the same study and names nobody.

    Raises
    ------
    InputError : there is no series, it is not on the result's grid, it lacks what a report needs (named), or there
        are no findings.
    MissingPackageError : highdicom is not installed.
    """
    hd = import_highdicom()
    series = os.fspath(series) if series is not None else require_dicom_series(result)
    if not result.findings:
        raise InputError("a result without findings has no DICOM report", "Mark at least one finding")
    slices, _ = slices_with_label(series, result.label)
    path = Path(path)
    with quiet_highdicom():
        sources = [source_header(one, keep_identity) for one in slices]
        with written_beside(series, "a DICOM report"):
            report = _report(hd, result, sources)
            with atomic_file(path) as draft:
                report.save_as(draft)
    return path


def _report(hd: Any, result: ClassificationResult, sources: list) -> Any:
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=hd.UID(), name="XTL", manufacturer_name="XTL", model_name=f"XTL {result.bundle_name}"[:64]
    )
    frame = sources[0].FrameOfReferenceUID
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(
            observer_device_context=hd.sr.ObserverContext(concept(hd, _DEVICE), device)
        ),
        procedure_reported=concept(hd, _EXAMINATION),
        imaging_measurements=[_group(hd, result, rated, frame) for rated in result.findings],
        title=concept(hd, _REPORT),
        language_of_content_item_and_descendants=hd.sr.LanguageOfContentItemAndDescendants(concept(hd, _ENGLISH)),
        referenced_images=sources,
    )
    return hd.sr.Comprehensive3DSR(
        evidence=sources,
        content=content,
        series_instance_uid=hd.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="XTL",
        manufacturer_model_name="XTL",
        software_versions=__version__,
        device_serial_number="none",
        series_description="XTL findings, research only",
        is_complete=True,
        is_final=False,
        is_verified=False,
    )


def _group(hd: Any, result: ClassificationResult, rated: RatedFinding, frame_of_reference: str) -> Any:
    finding = rated.finding
    algorithm = hd.sr.AlgorithmIdentification(
        name=f"XTL {result.bundle_name}"[:64], version=__version__, parameters=list(_parameters(result, rated))
    )
    values = [(rated.probability, None)]
    if rated.interval is not None:
        values += [(rated.interval[0], _LOWEST), (rated.interval[1], _HIGHEST)]
    measurements = [
        hd.sr.Measurement(
            name=concept(hd, PROBABILITY),
            value=round(100.0 * value, 6),
            unit=concept(hd, PERCENT),
            derivation=concept(hd, derivation) if derivation is not None else None,
            algorithm_id=algorithm if derivation is None else None,
        )
        for value, derivation in values
    ]
    evaluations = []
    if rated.is_significant is not None:
        answer = _YES if rated.is_significant else _NO
        evaluations = [hd.sr.QualitativeEvaluation(concept(hd, CALLED_SIGNIFICANT), concept(hd, answer))]
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=finding_tracking_uid(frame_of_reference, finding), identifier=f"finding {finding.identifier}"[:64]
        ),
        referenced_region=hd.sr.ImageRegion3D(
            graphic_type=hd.sr.GraphicTypeValues3D.POINT,
            graphic_data=np.array([finding.position_ras]) @ LPS_TO_RAS[:3, :3],  # its own inverse
            frame_of_reference_uid=frame_of_reference,
        ),
        finding_category=concept(hd, ALTERED_STRUCTURE),
        finding_type=concept(hd, LESION),
        finding_sites=[hd.sr.FindingSite(concept(hd, PROSTATE_SITES[finding.zone]))],
        measurements=measurements,
        qualitative_evaluations=evaluations,
    )
    for warning in rated.warnings:
        group[0].ContentSequence.append(
            hd.sr.TextContentItem(concept(hd, _COMMENT), warning, hd.sr.RelationshipTypeValues.CONTAINS)
        )
    return group


def _parameters(result: ClassificationResult, rated: RatedFinding) -> Iterator[str]:
    """What the probability rests on, in sentences."""
    yield RESEARCH_NOTE
    yield "Probability of clinically significant cancer"
    if rated.raw_probability is not None:
        yield f"Before calibration: {rated.raw_probability:.6g}"
    if rated.threshold is not None:
        yield f"Operating point: {result.operating_point}, threshold {rated.threshold:.6g}"
    if rated.ppv is not None and rated.npv is not None:
        yield f"In the data of calibration, at this threshold: PPV {rated.ppv:.3g}, NPV {rated.npv:.3g}"
    yield from result.notes
