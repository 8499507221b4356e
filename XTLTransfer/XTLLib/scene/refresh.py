"""The nodes of a segmentation brought up to date in place: quick enough to follow a slider."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.geometry import Grid
from ..data.volume import Volume, resample
from ..inference.lesions import Regions
from ..inference.table import lesion_columns
from .arrays import numpy_matrix
from .colors import color_labels, lesion_colors
from .nodes import grid_of_node, label_to_node, own_grid_of_node, world_matrix
from .segmentation import SEGMENT_ID, describe_shown, fill_segment, mask_image
from .session import import_slicer
from .table import fill_table, table_columns


class ResultNodes:
    """The four nodes of one segmentation result, which show lesions of its probability map.

    Parameters
    ----------
    segmentation, label, probability, table : see segmentation.SegmentationNodes.
    """

    def __init__(self, segmentation: Any, label: Any, probability: Any, table: Any) -> None:
        self.segmentation, self.label, self.probability, self.table = segmentation, label, probability, table
        self._written: np.ndarray | None = None  # what the label map holds, as long as nobody else changes it
        self._written_at = -1
        self._segment_at: tuple[int, int] | None = None

    def all(self) -> tuple[Any, Any, Any, Any]:
        """Segmentation, label map, probability map, table."""
        return self.segmentation, self.label, self.probability, self.table

    @property
    def grid(self) -> Grid:
        """Of the probability map, in the map's own coordinates."""
        return own_grid_of_node(self.probability)

    def show(
        self,
        regions: Regions,
        threshold: float,
        minimum_volume_mm3: float,
        with_segment: bool = True,
        keep_surface: bool = False,
    ) -> None:
        """Put these lesions into the label map, the table and, ``with_segment``, the segment; further segments stay.

        ``keep_surface`` : see segmentation.fill_segment.
        """
        grid, scene = self.grid, self.probability.GetScene()
        state = import_slicer().vtkMRMLScene.BatchProcessState
        scene.StartState(state)  # the views are drawn once
        try:
            self._fill_label(regions, grid)
            names = [f"lesion {lesion.identifier}" for lesion in regions.lesions]
            color_labels(self.label, names, lesion_colors(len(names)), scene)
            if with_segment:
                _stand_with(self.segmentation, self.probability)
                fill_segment(self.segmentation, mask_image(regions.voxels, grid), keep_surface)
                self.remember_segment()
            self.show_table(regions)
            bundle = self.probability.GetAttribute("XTL.Bundle") or ""
            for node in (self.segmentation, self.label, self.table):
                describe_shown(node, bundle, threshold, minimum_volume_mm3)
        finally:
            scene.EndState(state)

    def show_table(self, regions: Regions) -> None:
        """Put these lesions into the table."""
        fill_table(self.table, table_columns(lesion_columns(regions.lesions), regions.lesions))

    def remember_segment(self) -> None:
        """Take the segment as it is for known: see :attr:`is_segment_changed`."""
        self._segment_at = self._segment_state()

    @property
    def is_segment_changed(self) -> bool:
        """Whether somebody may have drawn in the segment since it was filled or remembered."""
        return self._segment_at is None or self._segment_state() != self._segment_at

    def drawn_voxels(self) -> np.ndarray | None:
        """The segment's voxels as sorted flat indices on the map's grid; None when the segment is gone.

        A segment on another geometry, or under another transform, is resampled (nearest neighbour).
        """
        segment = self.segmentation.GetSegmentation().GetSegment(SEGMENT_ID)
        if segment is None:
            return None
        return voxels_on(self.grid, self.segmentation, segment, self.probability)

    def _segment_state(self) -> tuple[int, int] | None:
        image = _labelmap(self.segmentation.GetSegmentation().GetSegment(SEGMENT_ID))
        return None if image is None else (id(image), image.GetMTime())

    def _fill_label(self, regions: Regions, grid: Grid) -> None:
        """Write into the label map's own memory: only the voxels that were or become lesion."""
        _stand_with(self.label, self.probability)
        array = _array_of(self.label)
        if array is None or array.dtype != np.int32 or not own_grid_of_node(self.label).matches(grid):
            label = np.zeros(grid.shape, np.int32)
            label.reshape(-1)[regions.voxels] = regions.identifier
            label_to_node(Volume(label, grid, "lesions"), "", self.label.GetScene(), self.label, share=True)
            _stand_with(self.label, self.probability)
        else:
            scalars = self.label.GetImageData().GetPointData().GetScalars()
            flat = array.reshape(-1)
            if self._written is not None and scalars.GetMTime() == self._written_at:
                flat[self._written] = 0
            else:
                flat[:] = 0
            flat[regions.voxels] = regions.identifier
            scalars.Modified()
            self.label.GetImageData().Modified()
        self._written = regions.voxels
        self._written_at = self.label.GetImageData().GetPointData().GetScalars().GetMTime()


def _stand_with(node: Any, other: Any) -> None:
    """Put a node under the parent transform of another."""
    if node.GetTransformNodeID() != other.GetTransformNodeID():
        node.SetAndObserveTransformNodeID(other.GetTransformNodeID())


def _array_of(node: Any) -> np.ndarray | None:
    """The voxels (K, J, I) of a volume node, not copied; None when it holds none."""
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        return None
    return import_slicer().util.arrayFromVolume(node)


def _labelmap(segment: Any) -> Any:
    name = import_slicer().vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    return None if segment is None else segment.GetRepresentation(name)


def voxels_on(grid: Grid, segmentation: Any, segment: Any, volume: Any) -> np.ndarray:
    """The voxels (flat indices) of a segment on the grid of a volume: as they are, or resampled from elsewhere.

    Parameters
    ----------
    grid : of the volume, in its own coordinates. segmentation : the node that holds the segment.
    volume : the volume node; each of the two nodes may stand under a linear transform.
    """
    import vtk
    from vtk.util import numpy_support

    image = _labelmap(segment)
    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfPoints() == 0:
        return np.zeros(0, np.int64)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    affine, extent = numpy_matrix(matrix), image.GetExtent()
    first = np.array(extent[4::-2])  # k, j, i of the part's first voxel
    shape = np.array(image.GetDimensions()[::-1])
    part = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)
    part = part == segment.GetLabelValue()
    same_frame = segmentation.GetTransformNodeID() == volume.GetTransformNodeID()
    if not (same_frame and Grid(grid.shape, affine).matches(grid)):
        affine = world_matrix(segmentation) @ affine
        affine[:3, 3] += affine[:3, :3] @ first[::-1]
        moved = resample(Volume(part, Grid(shape, affine), "the segment"), grid_of_node(volume), "nearest")
        return np.flatnonzero(moved.array)
    low = np.maximum(-first, 0)
    high = np.minimum(np.array(grid.shape) - first, shape)
    part = part[tuple(slice(max(a, 0), max(b, a, 0)) for a, b in zip(low, high))]
    kji = np.unravel_index(np.flatnonzero(part), part.shape)
    return np.ravel_multi_index(tuple(index + f + o for index, f, o in zip(kji, first, low)), grid.shape)
