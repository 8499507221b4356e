"""Start the headless Slicer in this process, once, and open module panels in it."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import tempfile
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
MODULES = ("XTLTransfer", "XTLSegment", "XTLClassify")
folders: dict[str, Path] = {name: PROJECT / name for name in MODULES}
"""Where each module is found: its source, unless a test says otherwise before :func:`start`."""

_SPARE_REFERENCES = 2_000_000  # 16 MB; a second of waiting costs some hundred
_owners: list[Any] = []  # Python objects that have to live as long as the application
qt_warnings: list[str] = []
"""What Qt complained about: a .ui file with an unknown property, a connection that cannot be made."""


def start() -> None:
    """Boot slicer-core's scene and make ``qt``, ``ctk`` and the missing parts of ``slicer`` importable."""
    if _owners:
        return
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    _save_none()
    for folder in map(str, folders.values()):  # as an extension's modules are found when they run from source
        if folder not in sys.path:
            sys.path.append(folder)

    import slicer
    from PySide6 import QtCore, QtWidgets
    from XTLLib.scene.session import open_session

    session = open_session()
    slicer.mrmlScene = session.scene
    settings = tempfile.TemporaryDirectory(prefix="xtl-test-settings-")
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
    QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, settings.name)
    QtCore.qInstallMessageHandler(_keep_warning)
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
    application.setStyle("Fusion")
    main_window = QtWidgets.QMainWindow()
    main_window.setObjectName("qSlicerMainWindow")

    from . import ctk_widgets, mrml_widgets, packaging_stand_in, parameter_node, scripted_module, ui_loader
    from .application import Application, Modules
    from .dialogs import QDesktopServices, QFileDialog
    from .pythonqt import QtModule, as_class

    dialogs = {"QFileDialog": QFileDialog, "QDesktopServices": QDesktopServices}
    sys.modules["qt"] = QtModule("qt", {"QUiLoader": ui_loader.QUiLoader, **dialogs})
    sys.modules["ctk"] = QtModule(
        "ctk", {**ctk_widgets.WIDGETS, "ctkMessageBox": ctk_widgets.ctkMessageBox}, with_pyside=False
    )
    for name, widget_class in mrml_widgets.WIDGETS.items():
        setattr(slicer, name, as_class(widget_class))
    slicer.app = Application(session.application_logic)
    slicer.modules = Modules()
    for name, logic in session.module_logics.items():
        slicer.modules.add_logic(name, logic)
    _submodule("ScriptedLoadableModule", scripted_module, "^ScriptedLoadableModule")
    _submodule("parameterNodeWrapper", parameter_node, "^[A-Za-z]")
    _submodule("packaging", packaging_stand_in, "^[a-z]")
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = lambda text: text
    i18n.translate = lambda context, text: text
    sys.modules["slicer.i18n"] = slicer.i18n = i18n
    _owners.extend((session, settings, application, main_window))


def _save_none() -> None:
    """Give None references to spare: PySide6 lets go of one too many at each call of a method that returns nothing.

    From Python 3.12 on None needs none; before, a process that waited for minutes ended with "deallocating None".
    """
    spare = [None] * _SPARE_REFERENCES
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(spare))  # the list is never freed, nor are they


def _keep_warning(kind: Any, context: Any, message: str) -> None:
    if "propagateSizeHints" not in message:  # the off-screen platform says so of every window
        qt_warnings.append(message)


def _submodule(name: str, source: types.ModuleType, pattern: str) -> None:
    """Publish the names of ``source`` that fit ``pattern`` as the module ``slicer.<name>``."""
    import re

    import slicer

    module = types.ModuleType(f"slicer.{name}")
    public = [key for key in vars(source) if re.match(pattern, key)]
    module.__dict__.update({key: getattr(source, key) for key in public})
    module.__all__ = public
    sys.modules[module.__name__] = module
    setattr(slicer, name, module)


@dataclass
class Panel:
    """An opened module: its description, its panel's Python class and the Qt widget that holds it."""

    module: Any
    widget: Any
    parent: Any

    def enter(self) -> None:
        self.parent.isEntered = True
        self.widget.enter()

    def exit(self) -> None:
        self.parent.isEntered = False
        self.widget.exit()

    def grab(self, path: Path, width: int = 460, scale: float = 1.0) -> None:
        """Draw the panel at its natural height to a PNG; ``scale`` device pixels a pixel."""
        from PySide6 import QtGui, QtWidgets

        qwidget = self.parent._qobject
        self.lay_out(width)
        pixmap = QtGui.QPixmap(qwidget.size() * scale)
        pixmap.setDevicePixelRatio(scale)
        pixmap.fill(qwidget.palette().window().color())
        qwidget.render(pixmap)
        QtWidgets.QApplication.processEvents()
        path.parent.mkdir(parents=True, exist_ok=True)
        assert pixmap.save(str(path)), f"{path} cannot be written"

    def lay_out(self, width: int = 460) -> None:
        """Show the panel ``width`` pixels wide and as high as its content asks for."""
        from PySide6 import QtWidgets

        qwidget = self.parent._qobject
        qwidget.show()
        qwidget.resize(width, qwidget.minimumSizeHint().height())
        QtWidgets.QApplication.processEvents()
        height = qwidget.layout().totalHeightForWidth(width) if qwidget.layout().hasHeightForWidth() else 0
        qwidget.resize(width, max(height, qwidget.minimumSizeHint().height()))
        QtWidgets.QApplication.processEvents()

    def close(self) -> None:
        """Destroy the panel as Slicer does when it ends."""
        from PySide6 import QtWidgets

        self.widget.cleanup()
        qwidget = self.parent._qobject
        for child in qwidget.findChildren(QtWidgets.QWidget):
            if hasattr(child, "release"):
                child.release()
        qwidget.deleteLater()
        QtWidgets.QApplication.processEvents()


def load_module(name: str) -> Any:
    """Instantiate a module's description class, as Slicer does at start-up."""
    import slicer

    start()
    path = str(folders[name] / f"{name}.py")
    parent = slicer.modules.add_scripted(name, path)
    return getattr(importlib.import_module(name), name)(parent)


def open_panel(name: str) -> Panel:
    """Open a module: description, panel, setup, enter."""
    import slicer
    from PySide6 import QtWidgets

    from .mrml_widgets import qMRMLWidget
    from .pythonqt import QtObject

    module = load_module(name)
    qwidget = qMRMLWidget()
    qwidget.setLayout(QtWidgets.QVBoxLayout())
    qwidget.setMRMLScene(slicer.mrmlScene)
    parent = QtObject(qwidget)
    widget = getattr(importlib.import_module(name), f"{name}Widget")(parent)
    widget.setup()
    qwidget.show()
    panel = Panel(module, widget, parent)
    panel.enter()
    return panel
