"""Stand-ins for the qMRML widgets that the panels use, over real MRML nodes."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that hands the scene to the widgets its .ui file connects to ``mrmlSceneChanged``."""

    mrmlSceneChanged = Signal(object)
    SIGNATURES = ("mrmlSceneChanged(vtkMRMLScene*)",)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene = None
        self._entered = False

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene

    # In Slicer this belongs to the module's own widget, which the host does without.
    isEntered = Property(bool, lambda self: self._entered, lambda self, value: setattr(self, "_entered", value))


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """A list of the scene's nodes of given classes, kept up to date by observing the scene."""

    currentNodeChanged = Signal(object)
    SIGNATURES = ("currentNodeChanged(vtkMRMLNode*)",)
    _FLAGS = {"noneEnabled": False, "addEnabled": True, "removeEnabled": True, "editEnabled": False}
    _FLAGS |= {"renameEnabled": False, "showHidden": False, "showChildNodeTypes": True, "selectNodeUponCreation": True}

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._values = dict(self._FLAGS, nodeTypes=[], hideChildNodeTypes=[], noneDisplay="None", baseName="")
        self._scene = None
        self._nodes: list[Any] = []
        self._current = self._requested = None
        self._tags: list[int] = []
        self._box = QtWidgets.QComboBox(self)
        self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self._box.setMinimumContentsLength(8)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.activated.connect(self._picked)
        self.setEnabled(False)  # as in Slicer: greyed out until a scene is set

    def setMRMLScene(self, scene: Any) -> None:
        self.release()
        self._scene = scene
        self.setEnabled(scene is not None)
        if scene is not None:
            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndBatchProcessEvent)
            self._tags = [scene.AddObserver(event, self._scene_changed) for event in events]
        self._refresh()

    def release(self) -> None:
        """Stop observing the scene, as the C++ widget does when it is destroyed."""
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []

    def currentNode(self) -> Any:
        return self._current

    def setCurrentNode(self, node: Any) -> None:
        # As in Slicer, a node that the list does not show yet (the scene is being read) is chosen when it comes.
        self._requested = node if node is not None and node not in self._nodes else None
        node = None if self._requested is not None else node
        changed = node is not self._current
        self._current = node
        self._show_current()
        if changed:
            self.currentNodeChanged.emit(node)

    def nodeCount(self) -> int:
        return len(self._nodes)

    def nodeFromIndex(self, index: int) -> Any:
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _scene_changed(self, caller: Any, event: str, node: Any = None) -> None:
        if not self._scene.IsBatchProcessing():
            self._refresh()

    def _refresh(self) -> None:
        names = self._values["nodeTypes"]
        nodes = [] if self._scene is None else [n for n in slicer.util.getNodesByClass("vtkMRMLNode", self._scene)]
        self._nodes = [node for node in nodes if self._accepts(node, names)]
        self._box.clear()
        if self._values["noneEnabled"]:
            self._box.addItem(self._values["noneDisplay"])
        self._box.addItems([node.GetName() for node in self._nodes])
        if self._values["addEnabled"]:
            self._box.addItem(f"Create new {names[0].removeprefix('vtkMRML').removesuffix('Node') if names else ''}")
        if self._requested in self._nodes:
            self.setCurrentNode(self._requested)
        elif self._current is not None and self._current not in self._nodes:
            self.setCurrentNode(None)
        self._show_current()

    def _accepts(self, node: Any, names: list[str]) -> bool:
        if node.GetHideFromEditors() and not self._values["showHidden"]:
            return False
        if self._values["showChildNodeTypes"]:
            hidden = any(node.IsA(name) for name in self._values["hideChildNodeTypes"])
            return not hidden and any(node.IsA(name) for name in names)
        return node.GetClassName() in names

    def _show_current(self) -> None:
        first = int(self._values["noneEnabled"])
        if self._current is None:
            self._box.setCurrentIndex(first - 1)
        else:
            self._box.setCurrentIndex(first + self._nodes.index(self._current))

    def _picked(self, index: int) -> None:
        index -= int(self._values["noneEnabled"])
        if index == len(self._nodes):
            self.setCurrentNode(self._scene.AddNewNodeByClass(self._values["nodeTypes"][0], self._values["baseName"]))
        else:
            self.setCurrentNode(self.nodeFromIndex(index))

    def _set(self, name: str, value: Any) -> None:
        self._values[name] = list(value) if isinstance(value, (list, tuple)) else value
        self._refresh()

    def _set_id(self, node_id: str) -> None:
        self.setCurrentNode(self._scene.GetNodeByID(node_id) if self._scene is not None and node_id else None)

    currentNodeID = Property(str, lambda self: self._current.GetID() if self._current else "", _set_id)
    nodeTypes = Property("QStringList", lambda self: self._values["nodeTypes"], lambda s, v: s._set("nodeTypes", v))
    hideChildNodeTypes = Property(
        "QStringList", lambda self: self._values["hideChildNodeTypes"], lambda s, v: s._set("hideChildNodeTypes", v)
    )
    noneDisplay = Property(str, lambda self: self._values["noneDisplay"], lambda s, v: s._set("noneDisplay", v))
    baseName = Property(str, lambda self: self._values["baseName"], lambda s, v: s._set("baseName", v))
    noneEnabled = Property(bool, lambda self: self._values["noneEnabled"], lambda s, v: s._set("noneEnabled", v))
    addEnabled = Property(bool, lambda self: self._values["addEnabled"], lambda s, v: s._set("addEnabled", v))
    removeEnabled = Property(bool, lambda self: self._values["removeEnabled"], lambda s, v: s._set("removeEnabled", v))
    renameEnabled = Property(bool, lambda self: self._values["renameEnabled"], lambda s, v: s._set("renameEnabled", v))
    showChildNodeTypes = Property(
        bool, lambda self: self._values["showChildNodeTypes"], lambda s, v: s._set("showChildNodeTypes", v)
    )


class qMRMLTableView(QtWidgets.QTableView):
    """A table node's cells, read only."""

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node = None
        self._tag = None
        self._model = _TableModel(self)
        self.setModel(self._model)

    def setMRMLTableNode(self, node: Any) -> None:
        self.release()
        self._node = node
        if node is not None:
            self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._model.show(node))
        self._model.show(node)

    def mrmlTableNode(self) -> Any:
        return self._node

    def release(self) -> None:
        """Stop observing the node, as the C++ widget does when it is destroyed."""
        if self._tag is not None:
            self._node.RemoveObserver(self._tag)
        self._tag = None


class _TableModel(QtCore.QAbstractTableModel):
    def __init__(self, parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self._table = None
        self._headers: list[str] = []

    def show(self, node: Any) -> None:
        self.beginResetModel()
        self._table = node.GetTable() if node is not None else None
        self._headers = [_header(node, index) for index in range(self.columnCount())]
        self.endResetModel()

    def rowCount(self, parent: QtCore.QModelIndex | None = None) -> int:
        return self._table.GetNumberOfRows() if self._table else 0

    def columnCount(self, parent: QtCore.QModelIndex | None = None) -> int:
        return self._table.GetNumberOfColumns() if self._table else 0

    def data(self, index: QtCore.QModelIndex, role: int = QtCore.Qt.DisplayRole) -> Any:
        if role != QtCore.Qt.DisplayRole:
            return None
        value = self._table.GetValue(index.row(), index.column())
        return f"{value.ToDouble():.6g}" if value.IsNumeric() else value.ToString()

    def headerData(self, section: int, orientation: Any, role: int = QtCore.Qt.DisplayRole) -> Any:
        if role != QtCore.Qt.DisplayRole:
            return None
        return self._headers[section] if orientation == QtCore.Qt.Horizontal else section + 1


def _header(node: Any, index: int) -> str:
    name = node.GetColumnName(index)
    if not node.GetUseColumnTitleAsColumnHeader():
        return name
    title, unit = node.GetColumnTitle(name) or name, node.GetColumnUnitLabel(name)
    return f"{title} [{unit}]" if unit else title


WIDGETS = {"qMRMLWidget": qMRMLWidget, "qMRMLNodeComboBox": qMRMLNodeComboBox, "qMRMLTableView": qMRMLTableView}
