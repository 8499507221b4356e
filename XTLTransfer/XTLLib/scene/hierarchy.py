"""The subject hierarchy: results stand under the study and the patient of their input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .session import import_slicer


def hierarchy_of(scene: Any) -> Any:
    """The scene's subject hierarchy node."""
    return import_slicer().vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def patient_of(node: Any) -> str | None:
    """The name of the patient item above a node, None when there is none."""
    if node is None or node.GetScene() is None:
        return None
    slicer = import_slicer()
    hierarchy = hierarchy_of(node.GetScene())
    item = hierarchy.GetItemByDataNode(node)
    if not item:
        return None
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient()
    patient = hierarchy.GetItemAncestorAtLevel(item, level)
    return hierarchy.GetItemName(patient) if patient else None


def add_study(scene: Any, patient: str, study: str) -> int:
    """A new study item under the patient item of that name, which is made when there is none yet."""
    slicer = import_slicer()
    hierarchy = hierarchy_of(scene)
    root = hierarchy.GetSceneItemID()
    subject = hierarchy.GetItemChildWithName(root, patient)
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient()
    if not subject or hierarchy.GetItemLevel(subject) != level:
        subject = hierarchy.CreateSubjectItem(root, patient)
    return hierarchy.CreateStudyItem(subject, study)


def place_under(scene: Any, nodes: Iterable[Any], item: int) -> None:
    """Give each node an item under ``item``; a node that the user has put somewhere else stays there."""
    hierarchy = hierarchy_of(scene)
    root = hierarchy.GetSceneItemID()
    for node in nodes:
        own = hierarchy.GetItemByDataNode(node)
        if not own:  # Slicer makes the items itself; slicer-core does not
            hierarchy.CreateItem(item, node)
        elif hierarchy.GetItemParent(own) in (0, root) and item != root:
            hierarchy.SetItemParent(own, item)


def place_beside(scene: Any, nodes: Iterable[Any], input_node: Any) -> None:
    """Give each node an item where ``input_node`` stands (its study); at the top when that is None."""
    hierarchy = hierarchy_of(scene)
    parent = hierarchy.GetSceneItemID()
    if input_node is not None:
        item = hierarchy.GetItemByDataNode(input_node) or hierarchy.CreateItem(parent, input_node)
        parent = hierarchy.GetItemParent(item) or parent
    place_under(scene, nodes, parent)
