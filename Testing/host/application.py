"""``slicer.app`` and ``slicer.modules``: what the panels and ``slicer.util`` ask of the application."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from PySide6 import QtWidgets

from .pythonqt import wrap


class Application:
    """The application's Python face."""

    applicationName = "Slicer"
    applicationVersion = "5.12"

    def __init__(self, application_logic: Any) -> None:
        self._application_logic = application_logic
        self._connections: list[tuple[str, Callable]] = []

    def processEvents(self) -> None:
        QtWidgets.QApplication.processEvents()

    def setOverrideCursor(self, cursor: Any) -> None:
        QtWidgets.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        QtWidgets.QApplication.restoreOverrideCursor()

    def topLevelWidgets(self) -> list:
        return wrap(QtWidgets.QApplication.topLevelWidgets())

    def testingEnabled(self) -> bool:
        """False, so that messages are shown (and kept by the host) rather than skipped."""
        return False

    def applicationLogic(self) -> Any:
        return self._application_logic

    def translate(self, context: str, text: str) -> str:
        return text

    def connect(self, signature: str, slot: Callable) -> bool:
        self._connections.append((signature, slot))
        return True

    def emit(self, signature: str) -> None:
        """Call what is connected to a signal of the application, for example ``startupCompleted()``."""
        for connected, slot in self._connections:
            if connected == signature:
                slot()


class Modules(SimpleNamespace):
    """``slicer.modules``: ``slicer.modules.<name in lower case>`` has ``path`` and, for core modules, ``logic()``."""

    def add_logic(self, name: str, logic: Any) -> None:
        setattr(self, name.lower(), SimpleNamespace(name=name, logic=lambda: logic))

    def add_scripted(self, name: str, path: str) -> SimpleNamespace:
        module = SimpleNamespace(name=name, path=path)
        setattr(self, name.lower(), module)
        return module
