"""Volume nodes <-> volumes, and cases from the nodes that a user chose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.case import Case
from ..data.geometry import Grid
from ..data.volume import Volume
from ..errors import InputError
from .arrays import mrml_array, numpy_matrix, vtk_image, vtk_matrix
from .change import output_node
from .findings import findings_from_node
from .hierarchy import patient_of
from .session import import_slicer

_FRAME_AND_NUMBER = ("0020,0052", "0020,0011")  # frame of reference UID, series number


def volume_from_node(node: Any, role: str = "the volume") -> Volume:
    """A scalar volume node in world coordinates: its array (copied) and its geometry.

    A parent transform that is linear is part of the geometry.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode or a subclass with one value a voxel.
    role : what the message calls it where no node is given, for example "channel FLAIR".

    Raises
    ------
    InputError : no node, no image data, several values a voxel (RGB), or a non-linear transform.
    """
    slicer = import_slicer()
    if node is None:
        raise InputError(f"no volume is chosen for {role}", "Choose a volume")
    name = node.GetName()
    if not isinstance(node, slicer.vtkMRMLScalarVolumeNode):
        raise InputError(f"the node {name} chosen for {role} is not a scalar volume", "Choose a scalar volume")
    image = node.GetImageData()
    scalars = None if image is None else image.GetPointData().GetScalars()
    if scalars is None or scalars.GetNumberOfTuples() == 0:
        raise InputError(f"the volume node {name} holds no image", "Choose a volume with image data")
    if scalars.GetNumberOfComponents() != 1:
        raise InputError(
            f"the volume node {name} has {scalars.GetNumberOfComponents()} values a voxel (a colour image)",
            "Choose a volume with one value a voxel",
        )
    return Volume(slicer.util.arrayFromVolume(node).copy(), grid_of_node(node), name, *_dicom_origin(node))


def _dicom_origin(node: Any) -> tuple[str, str]:
    """Frame of reference, and FOLDER#NUMBER of the series, of a volume from Slicer's DICOM database, else "" each.

    A transform above the node takes the image out of both. Not run in a real Slicer, only with a stand-in. Whether
    all slices lie in that folder is asked when an object is written beside them (inference.dicom_source).
    """
    database = getattr(import_slicer(), "dicomDatabase", None)
    instances = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    if database is None or not instances or node.GetParentTransformNode() is not None:
        return "", ""
    file = database.fileForInstance(instances[0])
    if not file:
        return "", ""
    frame, number = ((database.fileValue(file, tag) or "").strip() for tag in _FRAME_AND_NUMBER)
    return frame, f"{Path(file).parent}#{number}" if number else str(Path(file).parent)


def grid_of_node(node: Any) -> Grid:
    """The grid of a volume node in world coordinates, a linear parent transform included.

    Raises InputError when the node stands under a non-linear transform, or its affine is singular or not finite.
    """
    world, transform = world_matrix(node), node.GetParentTransformNode()
    try:
        own = own_grid_of_node(node)
        return Grid(own.shape, world @ own.ijk_to_ras)
    except InputError as error:
        above = "" if transform is None else f" under the transform {transform.GetName()}"
        raise InputError(
            f"the volume {node.GetName()}{above} is flat, or nowhere",
            "Repair its spacing and directions, and the matrix of a transform above it",
        ) from error


def own_grid_of_node(node: Any) -> Grid:
    """The grid of a volume node in its own coordinates, without its parent transform."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return Grid(node.GetImageData().GetDimensions()[::-1], numpy_matrix(matrix))


def world_matrix(node: Any) -> np.ndarray:
    """(4, 4): the node's own coordinates (RAS mm) -> world (RAS mm). InputError when that is not linear."""
    import vtk

    transform = node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    if not transform.IsTransformToWorldLinear():
        raise InputError(
            f"the node {node.GetName()} stands under the non-linear transform {transform.GetName()}",
            "Harden the transform on it first (Data module, right click, Harden transform)",
        )
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    return numpy_matrix(matrix)


def volume_to_node(volume: Volume, name: str, scene: Any, node: Any = None, share: bool = False) -> Any:
    """Put a volume into the scene as a scalar volume node in world coordinates.

    Parameters
    ----------
    volume : any real type; bool, 64-bit integers and half floats are cast (see arrays.mrml_array).
    name : of a new node.
    scene : vtkMRMLScene.
    node : an existing node of the scene to be filled instead; it keeps its name and its display.
    share : the node takes the array's own memory where it can, instead of a copy: for results that nobody
        else changes.
    """
    return _fill_volume_node(volume, name, scene, node, "vtkMRMLScalarVolumeNode", share)


def label_to_node(label: Volume, name: str, scene: Any, node: Any = None, share: bool = False) -> Any:
    """Put a label volume (integers, 0 = background) into the scene as a label map node; else as volume_to_node."""
    if label.array.dtype.kind not in "biu":
        raise InputError(f"{label.name} holds {label.array.dtype} values, not labels", "Give whole numbers")
    return _fill_volume_node(label, name, scene, node, "vtkMRMLLabelMapVolumeNode", share)


def _fill_volume_node(volume: Volume, name: str, scene: Any, node: Any, class_name: str, share: bool) -> Any:
    image = vtk_image(mrml_array(volume.array, volume.name), share)
    node = output_node(node, class_name, name, scene)
    node.SetAndObserveTransformNodeID(None)
    node.SetIJKToRASMatrix(vtk_matrix(volume.grid.ijk_to_ras))
    node.SetAndObserveImageData(image)
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    return node


def case_from_nodes(
    channels: Mapping[str, Any],
    reference: str,
    mask_node: Any = None,
    findings_node: Any = None,
    patient: str | None = None,
    brain_node: Any = None,
    optional: Iterable[str] = (),
) -> Case:
    """A case from the nodes that were chosen for its channels.

    Parameters
    ----------
    channels : channel name (FLAIR, T2W, ...) -> volume node.
    reference : the channel whose grid carries the results.
    mask_node : volume or label map node; every value above 0 is lesion.
    findings_node : point list node, one control point a finding (see findings.findings_from_node).
    patient : default: the patient in the subject hierarchy above the reference, else "patient".
    brain_node : volume or label map node; every value above 0 is brain.
    optional : channels for which no node need be chosen.

    Raises
    ------
    InputError : naming the node that is missing, empty, a colour image, or under a non-linear transform.
    """
    chosen = {name: node for name, node in channels.items() if node is not None or name not in set(optional)}
    volumes = {name: volume_from_node(node, f"channel {name}") for name, node in chosen.items()}
    mask = _mask_from_node(mask_node, "the mask")
    brain = _mask_from_node(brain_node, "the brain mask")
    findings = findings_from_node(findings_node) if findings_node is not None else ()
    patient = patient or patient_of(channels.get(reference)) or "patient"
    return Case(patient, volumes, reference, mask, findings, brain)


def _mask_from_node(node: Any, role: str) -> Volume | None:
    if node is None:
        return None
    given = volume_from_node(node, role)
    return Volume(given.array > 0, given.grid, given.name)
