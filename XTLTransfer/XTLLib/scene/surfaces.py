"""Lesions in the 3D views: the closed surface of a segmentation, made when it is asked for.

It is not made at every Apply: each later change of the segment would have to make it again, and a slider that
moves does not wait for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..data.geometry import Grid
from ..inference.lesions import CONNECTIVITY
from ..inference.runs import components_of, expand, runs_of
from .arrays import numpy_matrix
from .segmentation import SEGMENT_ID, mask_image
from .session import import_slicer

# With Slicer's own settings (flying edges, 0.5) the surface of a lesion of 2 x 2 x 2 voxels shrinks to a point, and
# that of 3 x 3 x 3 to 4 % of its volume. Surface nets with 0.1 round the steps: a lesion of 8 voxels or more keeps its
# volume within a tenth, and one voxel keeps three quarters.
SMOOTHING = 0.1
_SURFACE_NETS = "1"
# A surface made at once takes about 0.02 s with so many voxels of lesions, or in a box of so many.
_PIECE_VOXELS, _BOX_VOXELS = 4_000, 1_000_000


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
    return _show(segmentation_node, smoothing, None)


def show_in_3d_by_pieces(segmentation_node: Any, smoothing: float = SMOOTHING) -> Iterator[None]:
    """As :func:`show_in_3d`, the lesions some at a time: between two steps of the iterator a window can be drawn.

    What was shown before stays until the last step. The surface is the same but for the rounding of its points, as
    lesions do not touch each other. Ends early when the node is removed meanwhile, and begins anew when its voxels
    change.
    """
    import vtk

    slicer = import_slicer()
    names = slicer.vtkSegmentationConverter
    binary, surface = names.GetBinaryLabelmapRepresentationName(), names.GetClosedSurfaceRepresentationName()
    segmentation = segmentation_node.GetSegmentation()
    segment = segmentation.GetSegment(SEGMENT_ID)
    image = None if segment is None else segment.GetRepresentation(binary)
    changed_at = 0 if image is None else image.GetMTime()
    rule, together = slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule(), vtk.vtkAppendPolyData()
    for name in (rule.GetDecimationFactorParameterName(), rule.GetComputeSurfaceNormalsParameterName()):
        rule.SetConversionParameter(name, segmentation.GetConversionParameter(name))
    for name, value in _parameters(smoothing).items():
        rule.SetConversionParameter(name, value)
    for lesions in () if image is None else _parts(image, segment.GetLabelValue()):
        yield
        part = slicer.vtkSegment()
        part.AddRepresentation(binary, lesions)
        rule.Convert(part)
        together.AddInputData(part.GetRepresentation(surface))
    yield
    if segmentation_node.GetScene() is None:
        return
    segment = segmentation.GetSegment(SEGMENT_ID)
    now = None if segment is None else segment.GetRepresentation(binary)
    if now is not image or (image is not None and image.GetMTime() != changed_at):
        yield from show_in_3d_by_pieces(segmentation_node, smoothing)
        return
    if together.GetNumberOfInputConnections(0):
        together.Update()
        _show(segmentation_node, smoothing, together.GetOutput())
    else:
        _show(segmentation_node, smoothing, None)


def _parameters(smoothing: float) -> dict[str, str]:
    rule = import_slicer().vtkBinaryLabelmapToClosedSurfaceConversionRule
    return {
        rule.GetConversionMethodParameterName(): _SURFACE_NETS,
        rule.GetSmoothingFactorParameterName(): f"{smoothing:g}",
    }


def _parts(image: Any, value: int) -> Iterator[Any]:
    """The components of a label map as label maps (vtkOrientedImageData) of their own: some neighbours in each."""
    import vtk
    from vtk.util import numpy_support

    scalars = image.GetPointData().GetScalars()
    if scalars is None:
        return
    shape = image.GetDimensions()[::-1]
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    affine = numpy_matrix(matrix)
    affine[:3, 3] += affine[:3, :3] @ image.GetExtent()[::2]
    voxels = np.flatnonzero(numpy_support.vtk_to_numpy(scalars) == value)
    runs = runs_of(voxels, shape)
    component, count = components_of(runs, CONNECTIVITY)
    # Components are numbered in the order of their first voxels: those of near numbers lie in near slices.
    size = np.bincount(component, runs.lengths, count)
    limit = min(_PIECE_VOXELS, _BOX_VOXELS * voxels.size / np.prod(shape))
    piece = ((np.cumsum(size) - size) // max(limit, 1))[component]
    for number in np.unique(piece):
        those = runs.take(np.flatnonzero(piece == number))
        yield mask_image(voxels[expand(those.begins, those.lengths)], Grid(shape, affine))


def _show(segmentation_node: Any, smoothing: float, made: Any) -> bool:
    """Show the surfaces of all segments; ``made`` : that of the lesions (vtkPolyData), where it is there already."""
    slicer = import_slicer()
    segmentation = segmentation_node.GetSegmentation()
    for name, value in _parameters(smoothing).items():
        segmentation.SetConversionParameter(name, value)
    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    if segmentation.ContainsRepresentation(surface):  # of voxels that may have changed
        segmentation.RemoveRepresentation(surface)
    if made is not None:
        segmentation.GetSegment(SEGMENT_ID).AddRepresentation(surface, made)
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
