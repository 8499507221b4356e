"""``qt.QUiLoader``: .ui files with CTK and qMRML widgets, built from the stand-ins."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import ctk_widgets, mrml_widgets
from .pythonqt import QtObject, unwrap

STAND_INS = {**ctk_widgets.WIDGETS, **mrml_widgets.WIDGETS}


_BY_METHODS = {"QComboBox": QtWidgets.QComboBox, "QListWidget": QtWidgets.QListWidget}


class _Loader(QtUiTools.QUiLoader):
    def createWidget(self, class_name: str, parent: QtWidgets.QWidget | None = None, name: str = "") -> Any:
        if class_name in STAND_INS:
            widget = STAND_INS[class_name](parent)
            widget.setObjectName(name)
            return widget
        if class_name in _BY_METHODS:  # what Qt's own loader makes is known as a bare QWidget in Python
            widget = _BY_METHODS[class_name](parent)
            widget.setObjectName(name)
            return widget
        if class_name not in self.availableWidgets():
            raise RuntimeError(f"the host has no stand-in for the widget class {class_name} ({name})")
        return super().createWidget(class_name, parent, name)


class QUiLoader:
    """Loads a .ui file as Slicer does.

    Two things are taken out of the file and done here, because Qt cannot know them: the connections that
    hand out the MRML scene, and the ``filters`` of path lines, a flag type of CTK.
    """

    def load(self, file: QtObject) -> QtObject:
        root = ElementTree.fromstring(bytes(unwrap(file).readAll().data()))
        filters = _take_path_filters(root)
        receivers = _take_scene_connections(root)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.ReadOnly)
        loader = _Loader()
        widget = loader.load(buffer)
        if widget is None:
            raise RuntimeError(f"the .ui file cannot be loaded: {loader.errorString()}")
        for name, value in filters.items():
            widget.findChild(QtWidgets.QWidget, name).setFilters(value)
        for name in receivers:
            widget.mrmlSceneChanged.connect(widget.findChild(QtWidgets.QWidget, name).setMRMLScene)
        return QtObject(widget)


def _take_path_filters(root: ElementTree.Element) -> dict[str, str]:
    filters = {}
    for widget in root.iterfind(".//widget[@class='ctkPathLineEdit']"):
        for element in widget.findall("property[@name='filters']"):
            filters[widget.get("name")] = element.findtext("set")
            widget.remove(element)
    return filters


def _take_scene_connections(root: ElementTree.Element) -> list[str]:
    """Names of the widgets whose setMRMLScene is connected to the top widget's mrmlSceneChanged."""
    receivers = []
    for connections in root.iterfind("connections"):
        for connection in connections.findall("connection"):
            if connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)":
                receivers.append(connection.findtext("receiver"))
                connections.remove(connection)
    return receivers
