"""The nodes that show a study, found again when its results are shown once more."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from .change import remove_node
from .hierarchy import hierarchy_of

_STUDY, _PART = "XTL.StudyFolder", "XTL.StudyPart"  # attributes of the nodes, saved with the scene


class StudyParts:
    """Hands out the nodes of a study: those of an earlier call by the part that they play, else new ones.

    Parameters
    ----------
    scene : vtkMRMLScene. folder : of the study. name : of the study; one of another name in the same folder is
        another study, whose nodes are left alone.
    """

    def __init__(self, scene: Any, folder: Path, name: str) -> None:
        self._scene, self._name = scene, name
        # Of the folder, that a saved scene does not tell where on a computer it was made.
        self._key = hashlib.sha256(f"{folder.absolute()}\n{name}".encode()).hexdigest()[:16]
        nodes = [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]
        self._old = {node.GetAttribute(_PART): node for node in nodes if node.GetAttribute(_STUDY) == self._key}

    def node(self, part: str, class_name: str, name: str = "") -> tuple[Any, bool]:
        """The node for a part of the study, and whether it is new. ``name`` : of a new one; default: study and part."""
        node = self._old.get(part)
        if node is not None and node.IsA(class_name):
            del self._old[part]
            return node, False
        node = self._scene.AddNewNodeByClass(class_name, name or f"{self._name} {part}")
        node.SetAttribute(_STUDY, self._key)
        node.SetAttribute(_PART, part)
        return node, True

    def remove_rest(self) -> None:
        """Remove the nodes of parts that were not asked for: the study no longer has them."""
        for node in self._old.values():
            if node.GetScene() is not None:
                remove_node(node, self._scene)
        self._old = {}

    def item(self, name: str) -> int:
        """The study's folder in the subject hierarchy, made with this name when it is not there."""
        import vtk

        hierarchy, items = hierarchy_of(self._scene), vtk.vtkIdList()
        hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
        for number in range(items.GetNumberOfIds()):
            if hierarchy.GetItemAttribute(items.GetId(number), _STUDY) == self._key:
                return items.GetId(number)
        item = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), name)
        hierarchy.SetItemAttribute(item, _STUDY, self._key)
        return item
