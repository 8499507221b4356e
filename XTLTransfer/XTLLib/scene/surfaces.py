"""Lesions in the 3D views: the closed surface of a segmentation, made when it is asked for.

It is not made at every Apply: each later change of the segment would have to make it again, and a slider that
moves does not wait for that.
"""

from __future__ import annotations

from typing import Any

from .session import import_slicer

# With Slicer's own settings (flying edges, 0.5) the surface of a lesion of 2 x 2 x 2 voxels shrinks to a point, and
# that of 3 x 3 x 3 to 4 % of its volume. Surface nets with 0.1 round the steps: a lesion of 8 voxels or more keeps its
# volume within a tenth, and one voxel keeps three quarters.
SMOOTHING = 0.1
_SURFACE_NETS = "1"


def show_in_3d(segmentation_node: Any, smoothing: float = SMOOTHING) -> bool:
    """Make the closed surface of every segment anew and show it in the 3D views; the label maps stay the source.

    A lesion of one voxel keeps a surface of its own. Surface Nets (vtkSurfaceNets3D), then windowed sinc smoothing.

    Parameters
    ----------
    smoothing : 0 (the voxels' steps) to 1, as Slicer's control "Smoothing factor" has it.

    Returns
    -------
    Whether there is a surface to be seen; not for a segmentation without voxels.
    """
    slicer = import_slicer()
    segmentation = segmentation_node.GetSegmentation()
    rule = slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule
    segmentation.SetConversionParameter(rule.GetConversionMethodParameterName(), _SURFACE_NETS)
    segmentation.SetConversionParameter(rule.GetSmoothingFactorParameterName(), f"{smoothing:g}")
    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    if segmentation.ContainsRepresentation(surface):  # of voxels that may have changed
        segmentation.RemoveRepresentation(surface)
    if segmentation_node.GetDisplayNode() is None:
        segmentation_node.CreateDefaultDisplayNodes()
    if not segmentation_node.CreateClosedSurfaceRepresentation():
        return False
    display = segmentation_node.GetDisplayNode()
    modifying = display.StartModify()
    display.SetPreferredDisplayRepresentationName3D(surface)
    display.SetVisibility(True)
    display.SetVisibility3D(True)
    display.EndModify(modifying)
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    made = [segmentation.GetSegment(one).GetRepresentation(surface) for one in ids]
    return any(poly is not None and poly.GetNumberOfPoints() > 0 for poly in made)


def hide_in_3d(segmentation_node: Any) -> None:
    """Take the closed surface away, so that changes of the segment cost no surface."""
    segmentation_node.RemoveClosedSurfaceRepresentation()


def is_shown_in_3d(segmentation_node: Any) -> bool:
    """Whether the segmentation has a closed surface that its display shows."""
    slicer = import_slicer()
    display = segmentation_node.GetDisplayNode()
    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    there = segmentation_node.GetSegmentation().ContainsRepresentation(surface)
    return bool(there and display is not None and display.GetVisibility3D())
