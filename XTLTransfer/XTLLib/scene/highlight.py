"""The outline of the lesion that was chosen in the table."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.geometry import Grid
from .change import one_change
from .segmentation import mask_image
from .session import import_slicer

_ROLE = "XTL.Highlight"
_COLOR = (1.0, 0.92, 0.2)
_THICKNESS = 3  # pixels


def highlight(beside: Any, voxels: np.ndarray, grid: Grid) -> None:
    """Outline these voxels in all views, in place of what was outlined before.

    The outline is a node of its own, which no list shows and no file keeps, so that the result stays as it is.

    Parameters
    ----------
    beside : a volume node; the outline stands under its parent transform.
    voxels : flat indices. grid : what they count on, in the coordinates of ``beside``.
    """
    slicer, scene = import_slicer(), beside.GetScene()
    representation = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    segment = slicer.vtkSegment()
    segment.SetName("chosen lesion")
    segment.SetColor(*_COLOR)
    segment.AddRepresentation(representation, mask_image(voxels, grid))
    with one_change(scene):
        node = _node_in(scene) or _new_node(scene)
        node.SetAndObserveTransformNodeID(beside.GetTransformNodeID())
        node.GetSegmentation().RemoveAllSegments()
        node.GetSegmentation().SetSourceRepresentationName(representation)
        node.GetSegmentation().AddSegment(segment, "chosen")
        display = node.GetDisplayNode()
        display.SetVisibility2DFill(False)
        display.SetSliceIntersectionThickness(_THICKNESS)


def hide_highlight(scene: Any) -> None:
    """Take the outline away."""
    node = _node_in(scene)
    if node is not None:
        display = node.GetDisplayNode()
        scene.RemoveNode(node)
        if display is not None and display.GetScene() is scene:
            scene.RemoveNode(display)


def _node_in(scene: Any) -> Any:
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLSegmentationNode")
        if node.GetAttribute(_ROLE):
            return node
    return None


def _new_node(scene: Any) -> Any:
    node = scene.CreateNodeByClass("vtkMRMLSegmentationNode")
    node.UnRegister(None)
    node.SetName("XTL chosen lesion")
    node.SetAttribute(_ROLE, "1")
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetSelectable(False)
    node = scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetSaveWithScene(False)
    node.GetDisplayNode().SetHideFromEditors(True)
    return node
