"""The output folder of ``xtl segment`` and ``xtl classify``: files for every kind of reader, whole or not at all."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.images import write_volume
from ..errors import XTLError
from ..files import atomic_folder, file_names
from ..inference.results import ClassificationResult, SegmentationResult
from .classification import add_classification
from .colors import lesion_colors, probability_color
from .export import save_scene, save_segmentation
from .inputs import add_case
from .rated_segments import add_rated_segments
from .segmentation import add_segmentation
from .session import new_scene
from .surfaces import show_in_3d
from .transforms import add_transforms
from .views import add_slice_views


def write_result_folder(
    result: SegmentationResult | ClassificationResult,
    out: str | os.PathLike,
    scene: Any = None,
    *,
    chain: str = "",
    patient: str | None = None,
    proxid: str | None = None,
    keep_identity: bool = False,
) -> Path:
    """Write everything that a result gives into the folder ``out``.

    ========================================  ==================================================================
    segmentation.seg.nrrd                     names, colours, terminology, on the reference geometry
    labelmap.nii.gz, probability.nii.gz       on the reference grid
    segmentation.dcm                          DICOM SEG, where the reference was read from a DICOM series
    lesions.tsv, lesions.json                 one row a lesion, units in the header
    statistics.tsv, statistics.json           of a segmentation: measures under the names of Segment Statistics
    report.dcm                                of findings: DICOM SR (TID 1500), where there is a DICOM SEG
    findings.csv                              of findings: as ``xtl classify --findings`` reads them, and their ratings
    evidence/<finding>-<kind>.nii.gz          of findings: evidence maps, where the result has them
    submission.csv                            of findings: ProstateX's file, where ``proxid`` names the patient
    scene.mrb                                 the input channels and all results, as Apply would leave them, in 3D too
    report.png, report.html                   pictures and figures for reading; the page has pictures of each lesion
    ========================================  ==================================================================

    Parameters
    ----------
    out : made, or replaced when it is an earlier output of XTL.
    scene : input channels and results are added to this scene, and it is the one saved; None uses a fresh one.
    chain : of the bundle, in one line, for report.html. patient : named there when given; no other file does.
    proxid : the patient in submission.csv; None writes none.
    keep_identity : the DICOM objects say whose they are, by the headers of the source series; else they name nobody.

    A DICOM object that cannot be made (no highdicom, a series without frame of reference) is left out, and the
    report says why; the other files are whole without it.

    Raises
    ------
    InputError : ``out`` holds other files or cannot be written; nothing is left behind then.
    MissingPackageError : slicer-core or matplotlib is not installed.
    """
    from ..inference.report import write_report
    from ..inference.report_page import write_report_page
    from ..inference.segment_statistics import write_statistics
    from ..inference.table import write_lesion_table

    with atomic_folder(out) as draft, new_scene() if scene is None else nullcontext(scene) as target:
        write_volume(result.label, draft / "labelmap.nii.gz")
        write_volume(result.probability, draft / "probability.nii.gz")
        write_lesion_table(result, draft)
        if isinstance(result, SegmentationResult):
            names = {lesion.identifier: f"lesion {lesion.identifier}" for lesion in result.lesions}
            write_statistics(result.label, draft, names)
        else:
            _write_finding_files(result, draft, proxid)
        result = _with_dicom_objects(result, draft, keep_identity)
        write_report(result, draft / "report.png")
        write_report_page(result, draft / "report.html", patient=patient, chain=chain)
        inputs = add_case(result.case, target)
        if scene is None:
            add_slice_views(target, inputs.reference, _position_of_interest(result))
        if isinstance(result, SegmentationResult):
            nodes = add_segmentation(result, target, inputs.reference)
            show_in_3d(nodes.segmentation)
            add_transforms(result, inputs.channels, target)
            save_segmentation(nodes.segmentation, draft / "segmentation.seg.nrrd")
        else:
            add_classification(result, target, inputs.reference)
            with new_scene() as aside:  # the scene shows the findings as a label map; twice would be once too often
                save_segmentation(add_rated_segments(result, aside), draft / "segmentation.seg.nrrd")
        save_scene(target, draft / "scene.mrb")
    return Path(out)


def _write_finding_files(result: ClassificationResult, folder: Path, proxid: str | None) -> None:
    from ..inference.findings_csv import write_findings_csv
    from ..inference.submission import write_submission

    write_findings_csv(result, folder / "findings.csv")
    if proxid is not None:
        write_submission([(proxid, rated.probability) for rated in result.findings], folder / "submission.csv")
    names = file_names([rated.finding.identifier for rated in result.findings], "finding")
    for rated in result.findings:
        for kind, volume in result.evidence.get(rated.row, {}).items():
            (folder / "evidence").mkdir(exist_ok=True)
            write_volume(volume, folder / "evidence" / f"{names[rated.finding.identifier]}-{kind}.nii.gz")


def _with_dicom_objects(
    result: SegmentationResult | ClassificationResult, folder: Path, keep_identity: bool
) -> SegmentationResult | ClassificationResult:
    """Write DICOM SEG and SR of a result whose reference was a DICOM series; what hinders one becomes a note."""
    from ..inference.dicom_seg import write_dicom_seg
    from ..inference.dicom_source import dicom_series_of
    from ..inference.dicom_sr import write_dicom_sr

    is_segmentation = isinstance(result, SegmentationResult)
    rows = result.lesions if is_segmentation else result.findings
    if not rows or dicom_series_of(result) is None:
        return result
    colors = lesion_colors(len(rows)) if is_segmentation else [probability_color(row.probability) for row in rows]
    notes = []
    try:
        write_dicom_seg(result, folder / "segmentation.dcm", colors=colors, keep_identity=keep_identity)
    except XTLError as error:
        notes.append(f"No DICOM segmentation was written: {error.what}")
    try:
        if not is_segmentation:
            write_dicom_sr(result, folder / "report.dcm", keep_identity=keep_identity)
    except XTLError as error:
        notes.append(f"No DICOM report was written: {error.what}")
    return replace(result, notes=(*result.notes, *notes))


def _position_of_interest(result: SegmentationResult | ClassificationResult) -> tuple[float, float, float] | None:
    """Where the saved slice views open: on the largest lesion, or on the likeliest finding."""
    if isinstance(result, SegmentationResult):
        return result.lesions[0].position_ras if result.lesions else None
    likeliest = max(result.findings, key=lambda rated: rated.probability, default=None)
    return None if likeliest is None else likeliest.finding.position_ras
