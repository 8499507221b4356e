"""The headless Slicer for the tests of the modules."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import host.boot as boot

ARTIFACTS = Path(__file__).resolve().parents[2] / "build" / "test-artifacts"


@pytest.fixture(scope="session", autouse=True)
def _booted() -> None:
    """Small tensors gain nothing from threads, and several test processes share the cores."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for child processes
    boot.start()
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def scene() -> Iterator:
    """An empty scene; nothing of the test is left in it."""
    import slicer

    slicer.mrmlScene.Clear()
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear()


@pytest.fixture
def messages() -> list:
    """The message boxes that were shown."""
    from host.ctk_widgets import ctkMessageBox

    ctkMessageBox.shown.clear()
    return ctkMessageBox.shown


@pytest.fixture
def slot_errors() -> list:
    """The exceptions that left a slot."""
    from host import pythonqt

    pythonqt.slot_errors.clear()
    return pythonqt.slot_errors


@pytest.fixture
def open_panel(scene, messages, slot_errors) -> Iterator:
    """Opens modules and closes them after the test.

    An error in a slot fails the test unless the test takes it away, and so does a complaint of Qt's.
    """
    panels = []
    boot.qt_warnings.clear()

    def open_(name: str) -> boot.Panel:
        panels.append(boot.open_panel(name))
        return panels[-1]

    yield open_
    for panel in panels:
        panel.close()
    assert not slot_errors, f"errors in slots: {slot_errors}"
    assert boot.qt_warnings == []


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where pictures of the panels are kept."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    return ARTIFACTS
