"""What the panel of XTL Segment does in the background, here and now: for the console and for scripts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.volume import Volume
from ..inference.lesions import LesionFinder
from ..inference.longitudinal import ChangeRules, compare_over_time
from ..progress import Progress
from .change import check_apart
from .choices import bundle_for
from .compare_run import add_comparison
from .lesion_measures import LesionMeasures
from .longitudinal import LongitudinalNodes
from .nodes import grid_of_node
from .refresh import ResultNodes
from .segmentation import EDITS, MINIMUM_VOLUME, SegmentationNodes
from .session import import_slicer
from .time_points import TimePointNodes, read_time_points
from .worker_run import Around, add_result, case_for, located


def segment_now(
    channels: Mapping[str, Any],
    bundle: str | os.PathLike,
    scene: Any,
    outputs: Mapping[str, Any],
    around: Around,
    progress: Progress | None = None,
    **options: Any,
) -> SegmentationNodes:
    """Segment a case and put the result into the scene.

    Parameters
    ----------
    channels, around : see worker_run.case_for. outputs : see worker_run.add_result.
    options : of inference.segment.segment_case.

    Raises
    ------
    InputError : names the node or file that is wrong; the scene is as it was.
    """
    from ..inference.segment import segment_case

    progress = progress or Progress()
    check_apart(outputs, around.nodes(channels))
    model = bundle_for("segmentation", bundle)
    case, used = case_for(model, channels, around)
    result = segment_case(case, model, **around.options, **options, progress=progress.part(0.0, 0.9))
    if around.tissue is not None:
        result = located(result, around.tissue)
    progress.report("Adding the results to the scene", 0.95)
    return add_result(result, scene, used, outputs, around)


def rethreshold_now(nodes: SegmentationNodes, threshold: float, minimum_volume_mm3: float | None = None) -> int:
    """Show the lesions of a result at another threshold: the probability map is kept, no network runs again.

    Label map, segment and table follow, as they follow the slider of the panel. What was changed by hand is set aside,
    and so are the places of lesions, which a tissue segmentation had told.

    Parameters
    ----------
    nodes : of segment_now. threshold : probability from which a voxel is lesion.
    minimum_volume_mm3 : smallest lesion kept; None keeps the one that the nodes show.

    Returns
    -------
    Number of lesions.

    Raises
    ------
    InputError : a threshold or a volume out of range; the scene is as it was.
    """
    result, node = ResultNodes(nodes.segmentation, nodes.label, nodes.probability, nodes.table), nodes.probability
    if minimum_volume_mm3 is None:
        minimum_volume_mm3 = float(nodes.segmentation.GetAttribute(MINIMUM_VOLUME))
    array = import_slicer().util.arrayFromVolume(node)
    regions = LesionFinder(Volume(array, grid_of_node(node), node.GetName())).find(threshold, minimum_volume_mm3)
    result.show(LesionMeasures().of(regions, result, nodes.uncertainty, None), threshold, minimum_volume_mm3)
    nodes.segmentation.RemoveAttribute(EDITS)
    return len(regions.lesions)


def compare_now(
    time_points: Sequence[tuple[Any, Any]],
    scene: Any,
    register: bool = True,
    rules: ChangeRules | None = None,
    progress: Progress | None = None,
) -> LongitudinalNodes:
    """Compare time points, each (lesions, image) as in time_points.TimePointNodes, and put the result into the scene.

    Raises InputError naming the node that is wrong; the scene is as it was.
    """
    points = [TimePointNodes(lesions, image) for lesions, image in time_points]
    result = compare_over_time(read_time_points(points), rules, register=register, progress=progress)
    return add_comparison(result, scene, [point.image for point in points], {})
