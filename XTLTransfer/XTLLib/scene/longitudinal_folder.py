"""The output folder of ``xtl compare``: files for every kind of reader, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..data.images import write_volume
from ..files import atomic_folder
from ..inference.longitudinal import LongitudinalResult, TimePoint
from .export import save_scene, save_segmentation
from .hierarchy import add_study, place_under
from .longitudinal import add_longitudinal
from .nodes import volume_to_node
from .session import new_scene
from .views import add_slice_views


def write_longitudinal_folder(
    result: LongitudinalResult, time_points: Sequence[TimePoint], out: str | os.PathLike, patient: str = "patient"
) -> Path:
    """Write everything that a comparison over time gives into the folder ``out``.

    ========================================  ==================================================================
    segmentation.seg.nrrd                     a segment for each status, on the first time point's geometry
    status.nii.gz                             1 new, 2 enlarging, 3 stable, 4 shrinking, 5 resolved
    lesions_1.nii.gz, lesions_2.nii.gz, ...   per time point, on the same grid: the lesions' identifiers
    comparison.tsv, comparison.json           one row a lesion, units in the header
    scene.mrb                                 the images, registered by transforms, and all results
    report.png                                pictures and figures for reading; where there are images
    ========================================  ==================================================================

    Raises InputError when ``out`` holds other files or cannot be written; nothing is left behind then.
    """
    from ..inference.history_table import write_history_table
    from ..inference.report import write_history_report

    with atomic_folder(out) as draft, new_scene() as scene:
        write_volume(result.status, draft / "status.nii.gz")
        for number, label in enumerate(result.labels, start=1):
            write_volume(label, draft / f"lesions_{number}.nii.gz")
        write_history_table(result, draft)
        images = [point.image for point in time_points]
        nodes = []
        if None not in images:
            write_history_report(result, images, draft / "report.png")
            nodes = [volume_to_node(point.image, f"FLAIR {point.name}", scene) for point in time_points]
            place_under(scene, nodes, add_study(scene, patient, "MRI over time"))
            first = result.histories[0].position_ras if result.histories else None
            add_slice_views(scene, nodes[0], first)
        outputs = add_longitudinal(result, scene, nodes)
        save_segmentation(outputs.segmentation, draft / "segmentation.seg.nrrd")
        save_scene(scene, draft / "scene.mrb")
    return Path(out)
