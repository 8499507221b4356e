"""Time points in the scene: lesions and FLAIR of each, as nodes that a user chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.volume import Volume
from ..errors import InputError
from ..inference.longitudinal import TimePoint
from .nodes import grid_of_node, own_grid_of_node, volume_from_node
from .refresh import voxels_on
from .segmentation import SEGMENT_ID
from .session import import_slicer

_COUNT = "XTL.TimePoints"  # attribute of the parameter node
_ROLES = ("XTL.TimePoint.{}.Lesions", "XTL.TimePoint.{}.Image")  # its references, with the place


@dataclass(frozen=True, eq=False)
class TimePointNodes:
    """One examination.

    Attributes
    ----------
    lesions : vtkMRMLSegmentationNode, of which the segment "ms-lesion" is taken and without one all segments; or a
        label map or volume node, of which every value above 0 is lesion.
    image : FLAIR volume node.
    """

    lesions: Any
    image: Any

    @property
    def name(self) -> str:
        """What to call it."""
        return self.image.GetName() if self.image is not None else self.lesions.GetName()


def stored_time_points(parameter_node: Any) -> list[TimePointNodes]:
    """Those that a vtkMRMLScriptedModuleNode refers to; of which a node was removed are left out."""
    points = []
    for number in range(int(parameter_node.GetAttribute(_COUNT) or 0)):
        pair = [parameter_node.GetNodeReference(role.format(number)) for role in _ROLES]
        if None not in pair:
            points.append(TimePointNodes(*pair))
    return points


def store_time_points(points: Sequence[TimePointNodes], parameter_node: Any) -> None:
    """Keep them with the scene, by references, which stay right when a scene is read into another one.

    Each has roles of its own: in a role of several nodes, the others move up when one is removed from the scene.
    """
    modifying = parameter_node.StartModify()
    for number in range(int(parameter_node.GetAttribute(_COUNT) or 0)):
        for role in _ROLES:
            parameter_node.RemoveNodeReferenceIDs(role.format(number))
    for number, point in enumerate(points):
        for role, node in zip(_ROLES, (point.lesions, point.image)):
            parameter_node.SetNodeReferenceID(role.format(number), node.GetID())
    parameter_node.SetAttribute(_COUNT, str(len(points)))
    parameter_node.EndModify(modifying)


def read_time_points(points: Sequence[TimePointNodes]) -> list[TimePoint]:
    """The time points as volumes in world coordinates, each named after its image; equal names get a number.

    Raises InputError naming the node that is missing, empty, or under a non-linear transform.
    """
    names = [point.name for point in points]
    names = [name if names.count(name) == 1 else f"{name} ({n})" for n, name in enumerate(names, start=1)]
    read = []
    for name, point in zip(names, points):
        image = None if point.image is None else volume_from_node(point.image, f"the image of {name}")
        read.append(TimePoint(name, lesions_of(point.lesions, point.image), image))
    return read


def lesions_of(node: Any, image: Any) -> Volume:
    """The lesions of a time point (see TimePointNodes): bool (K, J, I), a segmentation's on the grid of ``image``."""
    slicer = import_slicer()
    if not isinstance(node, slicer.vtkMRMLSegmentationNode):
        given = volume_from_node(node, "the lesions")
        return Volume(given.array > 0, given.grid, given.name)
    if image is None:
        raise InputError(f"the segmentation {node.GetName()} has no image beside it", "Choose the FLAIR it belongs to")
    segmentation, grid = node.GetSegmentation(), own_grid_of_node(image)
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    array = np.zeros(grid.shape, dtype=bool)
    for identifier in [SEGMENT_ID] if SEGMENT_ID in ids else ids:
        array.reshape(-1)[voxels_on(grid, node, segmentation.GetSegment(identifier), image)] = True
    return Volume(array, grid_of_node(image), node.GetName())


def image_of(lesions: Any) -> Any:
    """The volume that a segmentation was made on, or None."""
    slicer = import_slicer()
    if not isinstance(lesions, slicer.vtkMRMLSegmentationNode):
        return None
    node = lesions.GetNodeReference(lesions.GetReferenceImageGeometryReferenceRole())
    return node if node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode" else None
