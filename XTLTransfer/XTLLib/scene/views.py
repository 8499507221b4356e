"""What the slice views show: results over the input, for the user who has just pressed Apply."""

from __future__ import annotations

from typing import Any

_VIEWS = (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal"))
_VIEW_SIZE_PIXELS = (512, 512)
_LABEL_OPACITY = 0.6


def show_in_slice_views(scene: Any, reference_node: Any, label_node: Any = None) -> None:
    """Put the reference behind, and the label map when given in the label layer, in every slice view there is."""
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        layers = scene.GetNthNodeByClass(index, "vtkMRMLSliceCompositeNode")
        if reference_node is not None:
            layers.SetBackgroundVolumeID(reference_node.GetID())
        if label_node is not None:
            layers.SetLabelVolumeID(label_node.GetID())
            layers.SetLabelOpacity(_LABEL_OPACITY)


def centre_slice_views(scene: Any, position_ras: tuple[float, float, float]) -> None:
    """Bring a point (RAS mm) into the middle of every slice view, and the slices to it."""
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceNode")):
        scene.GetNthNodeByClass(index, "vtkMRMLSliceNode").JumpSliceByCentering(*position_ras)


def add_slice_views(scene: Any, reference_node: Any, position_ras: tuple[float, float, float] | None = None) -> None:
    """Describe Slicer's three slice views in a scene without views, so that a saved scene opens on the images.

    Slices lie in the planes of the reference, as acquired, which for oblique MR are not the patient's.

    Parameters
    ----------
    reference_node : shown as the background, whole.
    position_ras : where the slices go; None leaves them in the middle of the image.
    """
    from .session import import_slicer

    slicer = import_slicer()
    for name, orientation in _VIEWS:
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLScene(scene)
        view = logic.AddSliceNode(name)
        view.SetOrientation(orientation)
        view.SetDimensions(*_VIEW_SIZE_PIXELS, 1)
        view.RotateToVolumePlane(reference_node)
        logic.GetSliceCompositeNode().SetBackgroundVolumeID(reference_node.GetID())
        logic.FitSliceToBackground(*_VIEW_SIZE_PIXELS)
        if position_ras is not None:
            view.JumpSliceByCentering(*position_ras)
