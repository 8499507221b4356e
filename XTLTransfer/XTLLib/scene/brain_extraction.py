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

from ..data.volume import Volume
from ..errors import MissingPackageError, XTLError
from .nodes import grid_of_node
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
        # The module reads the volume without the transform above it.
        segmentation.SetAndObserveTransformNodeID(node.GetTransformNodeID())
        brain = segmentation.GetSegmentation().GetNthSegmentID(0)
        return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, brain, node)
    finally:
        node.GetScene().RemoveNode(segmentation)


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
