"""Registrations in the scene: each registered channel stands under a linear transform of its own, not hardened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..inference.results import SegmentationResult
from .arrays import numpy_matrix, vtk_matrix
from .change import one_change
from .hierarchy import place_beside

_OURS = "XTL.Registration"


def add_transforms(result: SegmentationResult, channel_nodes: Mapping[str, Any], scene: Any) -> dict[str, Any]:
    """Put the channels that a result registered under transforms that bring them onto the reference.

    Transforms under which a volume already stands stay and keep their place: the registration goes between the
    volume and them, and moves this volume alone. A second registration changes the transform of the first.

    Parameters
    ----------
    channel_nodes : channel -> vtkMRMLScalarVolumeNode, as the case was made of them; others are passed over.

    Returns
    -------
    channel -> vtkMRMLLinearTransformNode, named after the channel ("T1 to FLAIR").
    """
    reference = channel_nodes.get(result.case.reference)
    nodes = {}
    with one_change(scene):
        for channel, matrix in result.transforms.items():
            volume = channel_nodes.get(channel)
            if volume is not None:
                nodes[channel] = _add_transform(volume, matrix, f"{channel} to {result.case.reference}", scene)
        place_beside(scene, nodes.values(), reference)
    return nodes


def _add_transform(volume: Any, world_to_world: np.ndarray, name: str, scene: Any) -> Any:
    transform = volume.GetParentTransformNode()
    own = np.eye(4)
    if transform is None or transform.GetAttribute(_OURS) != volume.GetID():
        parent = transform
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
        transform.SetAttribute(_OURS, volume.GetID())
        transform.SetAndObserveTransformNodeID(None if parent is None else parent.GetID())
    else:
        own = _to_parent(transform)
    above = _to_world_of_parent(transform)
    # What the volume's points go through, after its own matrix: own, then above, then the registration. The same
    # is reached with this node's matrix alone changed.
    transform.SetMatrixTransformToParent(vtk_matrix(np.linalg.inv(above) @ world_to_world @ above @ own))
    transform.SetDescription("Rigid registration by mutual information, XTL")
    volume.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def _to_parent(transform: Any) -> np.ndarray:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToParent(matrix)
    return numpy_matrix(matrix)


def _to_world_of_parent(transform: Any) -> np.ndarray:
    import vtk

    parent = transform.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return numpy_matrix(matrix)
