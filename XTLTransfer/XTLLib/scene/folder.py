"""The output folder of ``xtl segment`` and ``xtl classify``: files for every kind of reader, whole or not at all."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..data.images import write_volume
from ..files import atomic_folder
from ..inference.results import ClassificationResult, SegmentationResult
from .classification import add_classification
from .export import save_scene, save_segmentation
from .inputs import add_case
from .rated_segments import add_rated_segments
from .segmentation import add_segmentation
from .session import new_scene
from .transforms import add_transforms
from .views import add_slice_views


def write_result_folder(
    result: SegmentationResult | ClassificationResult, out: str | os.PathLike, scene: Any = None
) -> Path:
    """Write everything that a result gives into the folder ``out``.

    ========================================  ==================================================================
    segmentation.seg.nrrd                     names, colours, terminology, on the reference geometry
    labelmap.nii.gz, probability.nii.gz       on the reference grid
    lesions.tsv, lesions.json                 one row a lesion, units in the header
    scene.mrb                                 the input channels and all results, as Apply would leave them
    report.png                                pictures and figures for reading
    ========================================  ==================================================================

    Parameters
    ----------
    out : made, or replaced when it is an earlier output of XTL.
    scene : input channels and results are added to this scene, and it is the one saved; None uses a fresh one.

    Raises
    ------
    InputError : ``out`` holds other files or cannot be written; nothing is left behind then.
    MissingPackageError : slicer-core or matplotlib is not installed.
    """
    from ..inference.report import write_report
    from ..inference.table import write_lesion_table

    with atomic_folder(out) as draft, new_scene() if scene is None else nullcontext(scene) as target:
        write_volume(result.label, draft / "labelmap.nii.gz")
        write_volume(result.probability, draft / "probability.nii.gz")
        write_lesion_table(result, draft)
        write_report(result, draft / "report.png")
        inputs = add_case(result.case, target)
        if scene is None:
            add_slice_views(target, inputs.reference, _position_of_interest(result))
        if isinstance(result, SegmentationResult):
            nodes = add_segmentation(result, target, inputs.reference)
            add_transforms(result, inputs.channels, target)
            save_segmentation(nodes.segmentation, draft / "segmentation.seg.nrrd")
        else:
            add_classification(result, target, inputs.reference)
            with new_scene() as aside:  # the scene shows the findings as a label map; twice would be once too often
                save_segmentation(add_rated_segments(result, aside), draft / "segmentation.seg.nrrd")
        save_scene(target, draft / "scene.mrb")
    return Path(out)


def _position_of_interest(result: SegmentationResult | ClassificationResult) -> tuple[float, float, float] | None:
    """Where the saved slice views open: on the largest lesion, or on the likeliest finding."""
    if isinstance(result, SegmentationResult):
        return result.lesions[0].position_ras if result.lesions else None
    likeliest = max(result.findings, key=lambda rated: rated.probability, default=None)
    return None if likeliest is None else likeliest.finding.position_ras
