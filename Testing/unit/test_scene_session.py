"""The scene to work in."""

from __future__ import annotations

import gc
import sys
import types
import weakref

import pytest
from XTLLib.errors import MissingPackageError
from XTLLib.scene.session import ensure_scene, new_scene, open_session

slicer = pytest.importorskip("slicer")


def test_the_scene_of_the_host_is_the_scene(monkeypatch):
    host = open_session()
    monkeypatch.setattr(slicer, "mrmlScene", host.scene, raising=False)
    assert ensure_scene() is host.scene


def test_a_scene_is_booted_once_where_there_is_none(monkeypatch):
    monkeypatch.setattr(slicer, "mrmlScene", None, raising=False)
    scene = ensure_scene()
    assert scene is ensure_scene() is slicer.mrmlScene
    for class_name in ("vtkMRMLSegmentationNode", "vtkMRMLMarkupsFiducialNode", "vtkMRMLPlotChartNode"):
        node = scene.AddNewNodeByClass(class_name)
        assert node is not None and node.GetScene() is scene
        scene.RemoveNode(node)


def test_a_new_scene_is_independent_and_gives_its_memory_back(monkeypatch, capfd):
    monkeypatch.setattr(slicer, "mrmlScene", None, raising=False)
    current = ensure_scene()
    nodes = current.GetNumberOfNodes()
    with new_scene() as scene:
        assert scene is not current
        scene.AddNewNodeByClass("vtkMRMLTableNode")
        gone = weakref.ref(scene)
    del scene
    gc.collect()
    assert gone() is None
    assert current.GetNumberOfNodes() == nodes
    assert capfd.readouterr().err == ""  # VTK reports errors there


def test_module_logics_go_by_the_names_that_slicer_gives_them():
    logics = open_session().module_logics
    assert {"Segmentations", "Volumes", "Markups", "Tables", "Transforms", "Plots"} <= set(logics)
    assert logics["Volumes"].GetClassName() == "vtkSlicerVolumesLogic"


def test_without_slicer_core_the_error_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "slicer", None)
    with pytest.raises(MissingPackageError, match=r'pip install "\.\[scene\]"'):
        ensure_scene()
    with pytest.raises(MissingPackageError), new_scene():
        pass


def test_another_package_of_the_same_name_is_not_taken_for_slicer(monkeypatch):
    monkeypatch.setitem(sys.modules, "slicer", types.ModuleType("slicer"))
    with pytest.raises(MissingPackageError, match="not that of 3D Slicer"):
        ensure_scene()
