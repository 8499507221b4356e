"""The modules as Slicer meets them at start-up, and their own self tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import host.boot as boot
import pytest

HEAVY = (
    "torch",
    "monai",
    "SimpleITK",
    "sklearn",
    "matplotlib",
    "scipy",
    "pydicom",
    "yaml",
    "pydantic",
    "PIL",
    "ignite",
)


@pytest.mark.parametrize("name", boot.MODULES)
def test_description(name):
    module = boot.load_module(name)
    parent = module.parent
    assert parent.title.startswith("XTL ")
    assert parent.categories
    assert parent.contributors
    assert "not a medical device" in parent.helpText
    assert Path(parent.icon).name == f"{name}.png"
    assert Path(module.resourcePath(f"UI/{name}.ui")).is_file()


@pytest.mark.parametrize("name", boot.MODULES)
def test_self_test_passes(name, scene):
    boot.load_module(name).runTest(msec=0)


def test_the_self_test_of_segmentation_can_fail(scene, monkeypatch):
    """A module that puts its results half a voxel aside does not get past its own test."""
    import XTLLib.scene.worker_run as worker_run

    def shifted(result, *arguments, **named):
        import dataclasses

        import numpy as np

        array = np.roll(result.label.array, 1, axis=2)
        label = dataclasses.replace(result.label, array=array)
        return add(dataclasses.replace(result, label=label), *arguments, **named)

    add = worker_run.add_segmentation
    monkeypatch.setattr(worker_run, "add_segmentation", shifted)
    with pytest.raises(AssertionError):
        boot.load_module("XTLSegment").runTest(msec=0)


def test_opening_the_modules_imports_nothing_heavy():
    """Slicer starts no slower: modules are loaded and their panels opened without any large package."""
    code = f"""
import sys
sys.path.insert(0, {str(boot.PROJECT / "Testing")!r})
import host.boot as boot
for name in boot.MODULES:
    boot.open_panel(name)
print(*(name for name in {HEAVY!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_terms_of_segments_are_loaded_at_start_up(scene):
    import slicer
    import vtk
    from XTLLib.scene.terminology import CONTEXT

    boot.load_module("XTLSegment")
    slicer.app.emit("startupCompleted()")
    names = vtk.vtkStringArray()
    slicer.modules.terminologies.logic().GetLoadedTerminologyNames(names)
    assert CONTEXT in [names.GetValue(n) for n in range(names.GetNumberOfValues())]
