"""Lesions over time in the scene: a segment for each status, a table with a row a lesion, and the transforms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..inference.history_table import history_columns
from ..inference.longitudinal import STATUSES, LongitudinalResult, Status
from ..inference.results import RESEARCH_NOTE
from ..metrics.components import bounding_box
from .arrays import oriented_image, vtk_matrix
from .change import check_output, one_change, output_node
from .colors import Rgb, color_labels
from .hierarchy import place_beside
from .nodes import label_to_node
from .session import import_slicer
from .table import fill_table, table_columns
from .terminology import MS_LESION
from .views import show_in_slice_views

# Told apart by the colour-blind as well: warm for more, grey for the same, cool for less.
STATUS_COLORS: dict[Status, Rgb] = {
    "new": (0.84, 0.11, 0.11),
    "enlarging": (0.98, 0.60, 0.10),
    "stable": (0.75, 0.75, 0.75),
    "shrinking": (0.35, 0.65, 0.95),
    "resolved": (0.12, 0.27, 0.68),
}
_FILL_OPACITY = 0.45


@dataclass(frozen=True)
class LongitudinalNodes:
    """The output nodes of a comparison over time.

    Attributes
    ----------
    segmentation : vtkMRMLSegmentationNode, one segment for each status that occurs, its ID is the status.
    status : vtkMRMLLabelMapVolumeNode: 1 + place in ``STATUSES``.
    table : vtkMRMLTableNode, one row a lesion: the columns of comparison.tsv.
    transforms : vtkMRMLLinearTransformNode of each later time point, None where nothing was registered.
    """

    segmentation: Any
    status: Any
    table: Any
    transforms: tuple[Any, ...]


def add_longitudinal(
    result: LongitudinalResult,
    scene: Any,
    image_nodes: Sequence[Any] = (),
    segmentation_node: Any = None,
    status_node: Any = None,
    table_node: Any = None,
) -> LongitudinalNodes:
    """Put a comparison over time into the scene, beside the first image in the subject hierarchy.

    Parameters
    ----------
    image_nodes : the time points' volume nodes in order, or none. Later ones are put under the transform that
        registers them to the first, so that all lie on each other in the views; their voxels are not touched.
    segmentation_node, status_node, table_node : filled anew when given.

    Raises
    ------
    InputError : an output node of the wrong class; the scene is as it was.
    """
    check_output(segmentation_node, "vtkMRMLSegmentationNode")
    check_output(status_node, "vtkMRMLLabelMapVolumeNode")
    check_output(table_node, "vtkMRMLTableNode")
    columns = table_columns(history_columns(result.names), result.histories)
    first = image_nodes[0] if image_nodes else None
    prefix = "" if first is None else f"{first.GetName()} "
    with one_change(scene):
        status_node = label_to_node(result.status, f"{prefix}lesion status", scene, status_node)
        color_labels(status_node, STATUSES, [STATUS_COLORS[status] for status in STATUSES], scene)
        segmentation_node = output_node(
            segmentation_node, "vtkMRMLSegmentationNode", f"{prefix}MS lesions over time", scene
        )
        _fill(segmentation_node, result, first or status_node)
        table_node = output_node(table_node, "vtkMRMLTableNode", f"{prefix}MS lesions over time table", scene)
        fill_table(table_node, columns)
        transforms = tuple(
            _transform(registration, name, scene) for registration, name in zip(result.registrations, result.names[1:])
        )
        for node, transform in zip(image_nodes[1:], transforms):
            if transform is not None and node is not None:
                node.SetAndObserveTransformNodeID(transform.GetID())
        counts = ", ".join(f"{result.count(status)} {status}" for status in STATUSES)
        for node in (segmentation_node, status_node, table_node):
            node.SetDescription(f"XTL, {' to '.join(result.names)}: {counts}. {RESEARCH_NOTE}.")
        place_beside(scene, (segmentation_node, status_node, table_node, *filter(None, transforms)), first)
        show_in_slice_views(scene, first)
    return LongitudinalNodes(segmentation_node, status_node, table_node, transforms)


def _fill(node: Any, result: LongitudinalResult, geometry_node: Any) -> None:
    slicer = import_slicer()
    representation = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    node.SetAndObserveTransformNodeID(None)
    node.SetReferenceImageGeometryParameterFromVolumeNode(geometry_node)
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName(representation)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    for status in STATUSES:
        if segmentation.GetSegment(status) is not None:
            segmentation.RemoveSegment(status)
    codes = result.status.array
    box = bounding_box(codes > 0)
    if box is None:
        return
    image = oriented_image(
        np.ascontiguousarray(codes[box]), result.status.grid, tuple(part.start for part in box[::-1])
    )
    for number, status in enumerate(STATUSES, start=1):
        if not (codes[box] == number).any():
            continue
        segment = slicer.vtkSegment()
        segment.SetName(f"MS lesion, {status}")
        segment.SetColor(*STATUS_COLORS[status])
        segment.SetNameAutoGenerated(False)  # else a terminology dialog renames it
        segment.SetColorAutoGenerated(False)
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), MS_LESION)
        segment.SetLabelValue(number)
        segment.AddRepresentation(representation, image)
        segmentation.AddSegment(segment, status)
        node.GetDisplayNode().SetSegmentOpacity2DFill(status, _FILL_OPACITY)


def _transform(registration: Any, name: str, scene: Any) -> Any:
    if registration is None:
        return None
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", f"{name} to first time point")
    node.SetMatrixTransformToParent(vtk_matrix(registration.moving_to_fixed))
    node.SetDescription(
        f"Rigid, mutual information; moves the head by {registration.displacement_mm:.1f} mm on average "
        f"and turns it by {registration.rotation_degrees:.1f} degrees"
    )
    return node
