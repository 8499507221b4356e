"""The MRML scene to work in: Slicer's own, or one booted on slicer-core, or a fresh one for a single run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..errors import MissingPackageError

# Slicer's own modules with a logic, as Slicer names them. A fixed list: inside Slicer, the package
# also holds the logics of other extensions, which are none of our business.
_MODULE_LOGICS = {
    "Annotations": "vtkSlicerAnnotationModuleLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Reformat": "vtkSlicerReformatLogic",
    "SceneViews": "vtkSlicerSceneViewsModuleLogic",
    "SegmentEditor": "vtkSlicerSegmentEditorLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
    "ViewControllers": "vtkSlicerViewControllersLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}
# Slicer warns about scenes of another application or of a newer version than its own; what is written
# here is in the format of the oldest version that XTL supports.
_SCENE_VERSION = "Slicer 5.12.0 0"

_REMEDY = 'Install it with: pip install ".[scene]", in the folder of XTL\'s source'

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
        with silent_vtk():  # logics complain when they lose their scene
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
            f"the MRML scene needs the package slicer-core, which cannot be imported ({error})",
            _REMEDY,
        ) from error
    if not hasattr(slicer, "vtkMRMLScene"):
        raise MissingPackageError("the installed package slicer is not that of 3D Slicer", _REMEDY)
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
    """Boot a scene with the logic of every module of Slicer (about 20 ms).

    Keep the session as long as its scene is in use: the logics take their nodes along when they go.
    """
    slicer = import_slicer()
    import vtk

    scene = slicer.vtkMRMLScene()
    scene.SetVersion(_SCENE_VERSION)
    if hasattr(slicer, "vtkMRMLColorLegendDisplayNode"):  # Slicer's displayable managers do it elsewhere
        scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
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
    with silent_vtk():  # slicer-core ships no terminology files, and their absence is reported at length
        for name, class_name in _MODULE_LOGICS.items():
            if not hasattr(slicer, class_name):
                continue
            logic = getattr(slicer, class_name)()
            if hasattr(logic, "SetModuleShareDirectory"):
                logic.SetModuleShareDirectory("")
            logic.SetMRMLApplicationLogic(application)
            logic.SetMRMLScene(scene)
            application.SetModuleLogic(name, logic)
            session.module_logics[name] = logic
    return session


@contextmanager
def silent_vtk() -> Iterator[None]:
    """Keep VTK's warnings to itself for what is known to warn without need."""
    import vtk

    shown = vtk.vtkObject.GetGlobalWarningDisplay()
    vtk.vtkObject.SetGlobalWarningDisplay(0)
    try:
        yield
    finally:
        vtk.vtkObject.SetGlobalWarningDisplay(shown)
