"""Evidence maps in the scene: a volume for each finding and method, cut to where it says something."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ..data.geometry import Grid
from ..data.volume import Volume
from .colors import evidence_colors
from .hierarchy import hierarchy_of, place_beside
from .nodes import volume_to_node
from .segmentation import describe

_ROLE = "XTL.Evidence"  # of the lesion table: its evidence maps
_OUTLINED = "XTL.LabelOutline"  # of a slice view whose labels were filled before
_POINT, _KIND = "XTL.EvidencePoint", "XTL.EvidenceKind"
_NAMES = {"grad-cam": "Grad-CAM", "occlusion": "Occlusion"}
_FOREGROUND_OPACITY = 0.5
_FAINT = 0.1  # share of the largest value below which nothing is drawn, so that the anatomy stays readable


def set_evidence(
    table: Any, point: str, finding: str, maps: Mapping[str, Volume], bundle_name: str, reference: Any = None
) -> list[Any]:
    """Put the evidence maps of a finding into the scene, in place of those that it had.

    Parameters
    ----------
    table : the lesion table, which refers to the maps. point : ID of the finding's control point.
    finding : its name. maps : "grad-cam" or "occlusion" -> float on the reference grid, 0 where nothing is said.
    reference : volume node beside which they stand.

    Returns
    -------
    vtkMRMLScalarVolumeNode of each map, which covers the part of the grid that is not 0.
    """
    scene = table.GetScene()
    before = {node.GetAttribute(_KIND): node for node in evidence_of(table, point)}
    for kind in set(before) - set(maps):
        _remove(table, before[kind])
    nodes = []
    for kind, volume in maps.items():
        method = _NAMES.get(kind, kind)
        node = volume_to_node(_cut(volume), f"{method} of finding {finding}", scene, before.get(kind))
        node.SetAttribute(_POINT, point)
        node.SetAttribute(_KIND, kind)
        describe(node, bundle_name, f"{method} of finding {finding}")
        if kind not in before:
            table.AddNodeReferenceID(_ROLE, node.GetID())
        _show_colored(node)
        nodes.append(node)
    place_beside(scene, nodes, reference)
    return nodes


def evidence_of(table: Any, point: str) -> list[Any]:
    """The evidence maps of a finding."""
    return [node for node in _all(table) if node.GetAttribute(_POINT) == point]


def keep_evidence(table: Any, points: Collection[str]) -> None:
    """Remove the evidence maps of all findings but these."""
    for node in _all(table):
        if node.GetAttribute(_POINT) not in points:
            _remove(table, node)


def lay_over(scene: Any, node: Any) -> None:
    """Show an evidence map, or for None no evidence map, as the foreground of the slice views.

    Labels are drawn as outlines meanwhile, as they would hide the evidence at the finding itself.
    """
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        layers = scene.GetNthNodeByClass(index, "vtkMRMLSliceCompositeNode")
        shown = scene.GetNodeByID(layers.GetForegroundVolumeID() or "")
        if node is not None:
            layers.SetForegroundVolumeID(node.GetID())
            layers.SetForegroundOpacity(_FOREGROUND_OPACITY)
        elif shown is None or shown.GetAttribute(_KIND):
            layers.SetForegroundVolumeID(None)
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceNode")):
        _outline_labels(scene.GetNthNodeByClass(index, "vtkMRMLSliceNode"), node is not None)


def _outline_labels(view: Any, is_wanted: bool) -> None:
    """Draw labels as outlines, or as they were; an outline that the user has asked for stays."""
    if is_wanted and not view.GetUseLabelOutline():
        view.SetUseLabelOutline(True)
        view.SetAttribute(_OUTLINED, "1")
    elif not is_wanted and view.GetAttribute(_OUTLINED):
        view.SetUseLabelOutline(False)
        view.RemoveAttribute(_OUTLINED)


def _all(table: Any) -> list[Any]:
    nodes = [table.GetNthNodeReference(_ROLE, n) for n in range(table.GetNumberOfNodeReferences(_ROLE))]
    return [node for node in nodes if node is not None]


def _remove(table: Any, node: Any) -> None:
    scene, hierarchy = node.GetScene(), hierarchy_of(node.GetScene())
    for index in range(table.GetNumberOfNodeReferences(_ROLE)):
        if table.GetNthNodeReferenceID(_ROLE, index) == node.GetID():
            table.RemoveNthNodeReferenceID(_ROLE, index)
            break
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.RemoveItem(item, False, False)
    display = node.GetDisplayNode()
    scene.RemoveNode(node)
    if display is not None and display.GetScene() is scene:
        scene.RemoveNode(display)


def _cut(volume: Volume) -> Volume:
    """The box around what is not 0: five findings would fill the memory five times otherwise."""
    array = np.nan_to_num(np.asarray(volume.array, np.float32))
    filled = np.argwhere(array != 0)
    if not len(filled):
        filled = np.zeros((1, 3), int)
    low, high = filled.min(axis=0), filled.max(axis=0) + 1
    part = array[tuple(slice(a, b) for a, b in zip(low, high))]
    affine = volume.grid.ijk_to_ras.copy()
    affine[:3, 3] += affine[:3, :3] @ low[::-1]
    return Volume(np.ascontiguousarray(part), Grid(part.shape, affine), volume.name)


def _show_colored(node: Any) -> None:
    """From no evidence to the most in one colour map; a map with both signs from blue (against) to red (for)."""
    display, scene = node.GetDisplayNode(), node.GetScene()
    low, high = node.GetImageData().GetScalarRange()
    most = max(abs(low), abs(high)) or 1.0
    is_signed = low < 0
    modifying = display.StartModify()
    display.SetAndObserveColorNodeID(evidence_colors(scene, is_signed).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(-most if is_signed else 0.0, most)
    if is_signed:
        display.SetApplyThreshold(False)
    else:
        display.SetThreshold(_FAINT * most, most)
        display.SetApplyThreshold(True)
    display.EndModify(modifying)
