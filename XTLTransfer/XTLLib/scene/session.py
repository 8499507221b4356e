"""The MRML scene to work in: Slicer's own, or one booted on slicer-core, or a fresh one for a single run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..errors import MissingPackageError

# Classes that are a base of others, or that the application logic itself already brings.
_NOT_MODULES = {
    "vtkSlicerApplicationLogic",
    "vtkSlicerBaseLogic",
    "vtkSlicerCLIModuleLogic",
    "vtkSlicerColorLogic",
    "vtkSlicerModuleLogic",
    "vtkSlicerScriptedLoadableModuleLogic",
    "vtkSlicerSegmentationGeometryLogic",
}
# Where Slicer names the module otherwise than the class of its logic.
_MODULE_NAMES = {"Annotation": "Annotations", "Transform": "Transforms"}

_booted: Session | None = None


@dataclass
class Session:
    """A scene with the logic of every module attached, as Slicer sets it up when it starts.

    Attributes
    ----------
    scene : vtkMRMLScene.
    application_logic : vtkSlicerApplicationLogic of the scene.
    module_logics : module name ("Segmentations") -> its logic.
    """

    scene: Any
    application_logic: Any
    module_logics: dict[str, Any] = field(default_factory=dict)

    def close(self) -> None:
        """Empty the scene and part it from the logics, so that memory is given back."""
        with _silent_vtk():  # logics complain when they lose their scene
            self.scene.Clear(1)
            for logic in self.module_logics.values():
                logic.SetMRMLScene(None)
            self.module_logics.clear()
            self.application_logic.SetMRMLScene(None)


def import_slicer() -> Any:
    """The package ``slicer``, or MissingPackageError with the remedy."""
    try:
        import slicer
    except ImportError as error:
        raise MissingPackageError(
            "the MRML scene needs the package slicer-core, which is not installed",
            'Install it with: pip install "xtl-transfer[scene]"',
        ) from error
    return slicer


def ensure_scene() -> Any:
    """The current scene: ``slicer.mrmlScene`` where there is one, otherwise one booted on slicer-core.

    The booted scene becomes ``slicer.mrmlScene``, so that ``slicer.util`` finds the same nodes, and is
    returned by every later call.

    Raises
    ------
    MissingPackageError : neither inside Slicer nor with slicer-core installed.
    """
    global _booted
    slicer = import_slicer()
    scene = getattr(slicer, "mrmlScene", None)
    if scene is None:
        if _booted is None:
            _booted = open_session()
        scene = slicer.mrmlScene = _booted.scene
    return scene


@contextmanager
def new_scene() -> Iterator[Any]:
    """A fresh scene, independent of the current one, emptied and given back at the end of the block.

    For a run that builds nodes only to write files. Raises MissingPackageError as ensure_scene does.
    """
    session = open_session()
    try:
        yield session.scene
    finally:
        session.close()


def open_session() -> Session:
    """Boot a scene with the logic of every module that the package ``slicer`` offers (about 20 ms)."""
    slicer = import_slicer()
    import vtk

    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    colors = application.GetColorLogic()
    colors.SetMRMLScene(scene)
    colors.AddDefaultColorNodes()
    application.SetModuleLogic("Colors", colors)
    # Displayable logics walk through these collections, which only a main window fills otherwise.
    application.SetSliceLogics(vtk.vtkCollection())
    application.SetViewLogics(vtk.vtkCollection())
    session = Session(scene, application)
    with _silent_vtk():  # slicer-core ships no terminology files, and their absence is reported at length
        for class_name in _module_logic_classes(slicer):
            logic = getattr(slicer, class_name)()
            if hasattr(logic, "SetModuleShareDirectory"):
                logic.SetModuleShareDirectory("")
            logic.SetMRMLApplicationLogic(application)
            logic.SetMRMLScene(scene)
            name = _module_name(class_name)
            application.SetModuleLogic(name, logic)
            session.module_logics[name] = logic
    return session


def _module_logic_classes(slicer: Any) -> list[str]:
    return [
        name
        for name in sorted(dir(slicer))
        if re.fullmatch(r"vtkSlicer\w+Logic", name)
        and name not in _NOT_MODULES
        and isinstance(getattr(slicer, name), type)
        and issubclass(getattr(slicer, name), slicer.vtkMRMLAbstractLogic)
        and hasattr(getattr(slicer, name), "SetMRMLApplicationLogic")
    ]


def _module_name(class_name: str) -> str:
    name = re.sub(r"(Module)?Logic$", "", class_name.removeprefix("vtkSlicer"))
    return _MODULE_NAMES.get(name, name)


@contextmanager
def _silent_vtk() -> Iterator[None]:
    import vtk

    shown = vtk.vtkObject.GetGlobalWarningDisplay()
    vtk.vtkObject.SetGlobalWarningDisplay(0)
    try:
        yield
    finally:
        vtk.vtkObject.SetGlobalWarningDisplay(shown)
