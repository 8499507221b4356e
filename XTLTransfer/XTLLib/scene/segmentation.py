"""A segmentation result in the scene: segmentation, label map, probability map and lesion table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.geometry import Grid
from ..inference.results import RESEARCH_NOTE, SegmentationResult
from ..inference.table import lesion_columns
from .arrays import oriented_image
from .change import check_output, one_change, output_node
from .colors import LESION_COLOR, PROBABILITY_MAP_ID, color_labels, lesion_colors
from .hierarchy import place_beside
from .nodes import label_to_node, volume_to_node
from .session import import_slicer
from .table import fill_table, table_columns
from .terminology import MS_LESION
from .views import show_in_slice_views

SEGMENT_ID = "ms-lesion"
SEGMENT_NAME = "MS lesion"
PROBABILITY_ROLE = "XTL.Probability"  # of a result's nodes: the map that they were made of
THRESHOLD, MINIMUM_VOLUME = "XTL.Threshold", "XTL.MinimumVolume"  # attributes: what the nodes show
EDITS = "XTL.Edits"  # attribute of the segmentation: what a user changed in it
_FILL_OPACITY = 0.35  # the image stays readable under the lesion
_HIDE_BELOW = 0.05  # of the probability map, when it is laid over an image


@dataclass(frozen=True)
class SegmentationNodes:
    """The output nodes of a segmentation.

    Attributes
    ----------
    segmentation : vtkMRMLSegmentationNode with one segment, ``SEGMENT_ID``, of all lesions.
    label : vtkMRMLLabelMapVolumeNode, one value a lesion.
    probability : vtkMRMLScalarVolumeNode, 0 to 1.
    table : vtkMRMLTableNode, one row a lesion: the columns of lesions.tsv.
    colors : vtkMRMLColorTableNode of the label map.
    uncertainty : vtkMRMLScalarVolumeNode, SD of the probability; None where the result has none.
    brain : vtkMRMLLabelMapVolumeNode of a brain mask that was made for the result; else None.
    """

    segmentation: Any
    label: Any
    probability: Any
    table: Any
    colors: Any
    uncertainty: Any = None
    brain: Any = None


def add_segmentation(
    result: SegmentationResult,
    scene: Any,
    reference_node: Any = None,
    label_node: Any = None,
    segmentation_node: Any = None,
    probability_node: Any = None,
    table_node: Any = None,
) -> SegmentationNodes:
    """Put a segmentation result into the scene, in world coordinates, beside its input in the subject hierarchy.

    Output nodes that are given are filled anew, so that a second Apply adds no node; of a given
    segmentation node only the segment ``SEGMENT_ID`` is replaced, and other segments stay.

    Parameters
    ----------
    reference_node : the reference channel's volume node: the results stand under its study, and it
        becomes the background of the slice views. None: they stand at the top.

    Raises
    ------
    InputError : an output node of the wrong class; the scene is as it was.
    """
    check_output(label_node, "vtkMRMLLabelMapVolumeNode")
    check_output(segmentation_node, "vtkMRMLSegmentationNode")
    check_output(probability_node, "vtkMRMLScalarVolumeNode")
    check_output(table_node, "vtkMRMLTableNode")
    label = result.label.array.reshape(-1)
    image = mask_image(np.flatnonzero(label != 0), result.label.grid)
    columns = table_columns(lesion_columns(result), result.lesions)
    prefix = "" if reference_node is None else f"{reference_node.GetName()} "

    with one_change(scene):
        label_node = label_to_node(result.label, f"{prefix}MS lesion label map", scene, label_node, share=True)
        names = [f"lesion {lesion.identifier}" for lesion in result.lesions]
        colors = color_labels(label_node, names, lesion_colors(len(names)), scene)
        name = f"{prefix}MS lesion probability"
        probability_node = output_node(probability_node, "vtkMRMLScalarVolumeNode", name, scene)
        show_as_probability(probability_node)  # before it has voxels, whose histogram nobody needs
        volume_to_node(result.probability, name, scene, probability_node, share=True)
        name = f"{prefix}MS lesions"
        segmentation_node = output_node(segmentation_node, "vtkMRMLSegmentationNode", name, scene)
        segmentation_node.SetAndObserveTransformNodeID(None)
        segmentation_node.SetReferenceImageGeometryParameterFromVolumeNode(reference_node or label_node)
        fill_segment(segmentation_node, image)
        table_node = output_node(table_node, "vtkMRMLTableNode", f"{prefix}MS lesion table", scene)
        fill_table(table_node, columns)
        nodes = (segmentation_node, label_node, probability_node, table_node)
        for node in nodes:
            describe_shown(node, result.bundle_name, result.threshold, result.minimum_volume_mm3)
            if node is not probability_node:
                node.SetNodeReferenceID(PROBABILITY_ROLE, probability_node.GetID())
        segmentation_node.RemoveAttribute(EDITS)  # of a result that was there before
        place_beside(scene, nodes, reference_node)
        show_in_slice_views(scene, reference_node)
    return SegmentationNodes(segmentation_node, label_node, probability_node, table_node, colors)


def show_as_probability(node: Any) -> None:
    """Show a probability volume node from 0 to 1 in a colour map that does not depend on its values."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    modifying = display.StartModify()
    display.SetAndObserveColorNodeID(PROBABILITY_MAP_ID)
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, 1.0)
    display.SetAutoThreshold(False)
    display.SetThreshold(_HIDE_BELOW, 1.0)
    display.SetApplyThreshold(True)
    display.EndModify(modifying)


def describe(node: Any, bundle_name: str, detail: str) -> None:
    """Write on a node what it was computed with, and that it is no medical device's output."""
    node.SetAttribute("XTL.Bundle", bundle_name)
    node.SetDescription(f"XTL, bundle {bundle_name}, {detail}. {RESEARCH_NOTE}.")


def describe_shown(node: Any, bundle_name: str, threshold: float, minimum_volume_mm3: float) -> None:
    """Write on a result node what it shows, exactly, so that it can be told apart from what was drawn later."""
    describe(node, bundle_name, f"threshold {threshold:g}")
    node.SetAttribute(THRESHOLD, repr(float(threshold)))
    node.SetAttribute(MINIMUM_VOLUME, repr(float(minimum_volume_mm3)))


def mask_image(voxels: np.ndarray, grid: Grid) -> Any:
    """Voxels (flat indices) as vtkOrientedImageData (uint8), cut to their bounding box: small and quick.

    Without voxels it is a few empty ones: an image without voxels would lose the geometry when saved, and VTK's
    surfaces, which are asked for in 3D views, take no single one.
    """
    if voxels.size == 0:
        return oriented_image(np.zeros((2, 2, 2), np.uint8), grid)
    kji = np.unravel_index(voxels, grid.shape)
    start = [int(index.min()) for index in kji]
    shape = [int(index.max()) - first + 1 for index, first in zip(kji, start)]
    part = np.zeros(shape, np.uint8)
    place = (kji[0] - start[0]) * shape[1] + (kji[1] - start[1])
    part.reshape(-1)[place * shape[2] + (kji[2] - start[2])] = 1
    return oriented_image(part, grid, tuple(start[::-1]), share=True)


def fill_segment(node: Any, image: Any, keep_surface: bool = False) -> None:
    """Make ``image`` the segment ``SEGMENT_ID`` of a segmentation node; other segments stay as they are.

    Parameters
    ----------
    keep_surface : a surface that the segment has stays as it was, because the caller soon puts another in its place;
        else it is made anew.
    """
    slicer = import_slicer()
    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName(binary)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    segment = segmentation.GetSegment(SEGMENT_ID)
    if segment is not None:  # its name and colour may have been changed by the user: they stay
        shown = segment.GetRepresentation(surface)
        segment.RemoveAllRepresentations()
        segment.SetLabelValue(1)
        segment.AddRepresentation(binary, image)
        if shown is not None and keep_surface:
            segment.AddRepresentation(surface, shown)
        elif shown is not None:  # in 3D: it follows
            segmentation.CreateRepresentation(surface, True)
        segmentation.Modified()
        return
    segment = slicer.vtkSegment()
    segment.SetName(SEGMENT_NAME)
    segment.SetColor(*LESION_COLOR)
    segment.SetNameAutoGenerated(False)  # else a terminology dialog renames it
    segment.SetColorAutoGenerated(False)
    segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), MS_LESION)
    segment.AddRepresentation(binary, image)
    segmentation.AddSegment(segment, SEGMENT_ID)
    node.GetDisplayNode().SetSegmentOpacity2DFill(SEGMENT_ID, _FILL_OPACITY)
