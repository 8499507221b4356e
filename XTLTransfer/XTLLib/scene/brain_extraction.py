"""Brain masks by other extensions of Slicer, where one is installed.

Written from the source of these extensions and tried with stand-ins only: it has not run in a real Slicer.

=====================  =========================================================
HDBrainExtractionTool  extension HDBrainExtraction (HD-BET); any contrast
SwissSkullStripper     extension SwissSkullStripper (an atlas and a level set); T1
=====================  =========================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..data.geometry import Grid
from ..data.volume import Volume, resample
from ..errors import MissingPackageError, XTLError
from .arrays import numpy_matrix
from .nodes import grid_of_node, own_grid_of_node
from .session import import_slicer


def brain_modules() -> tuple[str, ...]:
    """The installed modules that make a brain mask, the better first; () outside of Slicer."""
    modules = getattr(import_slicer(), "modules", None)
    return tuple(name for name in _EXTRACTORS if hasattr(modules, name.lower()))


def extract_brain(node: Any, module: str | None = None) -> Volume:
    """The brain mask that an installed module makes of a volume node: bool on the node's grid, in world coordinates.

    It runs on the main thread; on a CPU HD-BET takes minutes. The scene is left as it was.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode.
    module : one of :func:`brain_modules`; None takes the first.

    Raises
    ------
    MissingPackageError : no such module is installed.
    XTLError : the module failed; its own words are in the message.
    """
    installed = brain_modules()
    name = module or next(iter(installed), None)
    if name is None or name not in installed:
        raise MissingPackageError(
            f"no module for brain extraction is installed ({name or ' or '.join(_EXTRACTORS)})",
            "Install the extension HDBrainExtraction, choose a mask, or take the built-in method",
        )
    try:
        array = _EXTRACTORS[name](node)
    except Exception as error:  # whatever somebody else's module raises
        raise XTLError(
            f"the module {name} made no brain mask of {node.GetName()} ({type(error).__name__}: {error})",
            "Run that module by itself to see why, or choose a mask",
        ) from error
    return Volume(np.asarray(array) > 0, grid_of_node(node), f"brain mask of {node.GetName()} ({name})")


def _hd_bet(node: Any) -> np.ndarray:
    slicer = import_slicer()
    logic = slicer.util.getModuleLogic("HDBrainExtractionTool")
    logic.setupPythonRequirements()
    segmentation = node.GetScene().AddNewNodeByClass("vtkMRMLSegmentationNode", "brain")
    try:
        logic.process(node, None, segmentation)
        brain = _volume_of(segmentation.GetSegmentation().GetNthSegment(0))
        # The module reads the volume without the transform above it.
        return resample(brain, own_grid_of_node(node), "nearest").array
    finally:
        node.GetScene().RemoveNode(segmentation)


def _volume_of(segment: Any) -> Volume:
    """A segment's binary label map, in the coordinates of its segmentation."""
    import vtk
    from vtk.util import numpy_support

    image = segment.GetRepresentation(import_slicer().vtkSegmentationConverter.GetBinaryLabelmapRepresentationName())
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    affine = numpy_matrix(matrix)
    affine[:3, 3] += affine[:3, :3] @ image.GetExtent()[::2]
    shape = image.GetDimensions()[::-1]
    values = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)
    return Volume((values == segment.GetLabelValue()).astype(np.uint8), Grid(shape, affine), "brain")


def _swiss(node: Any) -> np.ndarray:
    slicer = import_slicer()
    scene = node.GetScene()
    mask = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "brain")
    stripped = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "stripped")
    parameters = {
        "patientVolume": node.GetID(),
        "patientOutputVolume": stripped.GetID(),
        "patientMaskLabel": mask.GetID(),
    }
    run = None
    try:
        run = slicer.cli.runSync(slicer.modules.swissskullstripper, None, parameters)
        if run.GetStatus() & run.ErrorsMask:
            raise RuntimeError(run.GetErrorText())
        return slicer.util.arrayFromVolume(mask).copy()
    finally:
        for made in (run, mask, stripped):
            if made is not None:
                scene.RemoveNode(made)


_EXTRACTORS: dict[str, Callable[[Any], np.ndarray]] = {"HDBrainExtractionTool": _hd_bet, "SwissSkullStripper": _swiss}
