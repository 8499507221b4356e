"""The model library and the study section of XTL Transfer."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest
from transfer_steps import FakeWindow, wait, with_window


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    from XTLLib.scene.self_test import write_segmentation_bundle

    return write_segmentation_bundle(tmp_path_factory.mktemp("bundle") / "untrained-ms")


@pytest.fixture
def panel(open_panel, tmp_path, monkeypatch):
    monkeypatch.setenv("XTL_HOME", str(tmp_path / "home"))
    return open_panel("XTLTransfer")


def _done(panel) -> str:
    wait(lambda: not panel.widget._panel.library.is_running)
    return panel.widget.ui.libraryLabel.text


def test_a_model_comes_in_is_verified_and_goes(panel, bundle, tmp_path):
    ui, window = panel.widget.ui, with_window(panel, FakeWindow(str(bundle)))
    ui.libraryCollapsibleButton.collapsed = False
    assert not ui.libraryButtons.enabled
    assert "empty" in _done(panel)
    for name in ("use", "verify", "export", "remove"):
        assert not getattr(ui, f"{name}ModelButton").enabled

    ui.importFolderButton.click()
    assert ui.libraryCancelButton.visible
    assert "Imported as untrained-ms." in _done(panel)
    assert not ui.libraryCancelButton.visible
    assert ui.modelsList.count == 1
    assert "not in this session" in ui.libraryDetailsLabel.text
    assert "not recorded" in ui.libraryDetailsLabel.text
    assert ui.useModelButton.text == "Use in XTL Segment"

    ui.verifyModelButton.click()
    _done(panel)
    assert "agrees with its records" in ui.libraryDetailsLabel.text
    weights = tmp_path / "home" / "models" / "untrained-ms" / "models" / "model.pt"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    ui.verifyModelButton.click()
    _done(panel)
    assert "DOES NOT AGREE" in ui.libraryDetailsLabel.text

    window.agrees = False
    ui.removeModelButton.click()
    assert "untrained-ms" in window.asked[0]
    assert weights.is_file()
    window.agrees = True
    ui.removeModelButton.click()
    assert "Removed" in _done(panel)
    assert not weights.exists()
    assert ui.modelsList.count == 0
    assert window.errors == []


def test_a_model_that_is_no_model_is_refused_with_the_reason(panel, tmp_path):
    window = with_window(panel, FakeWindow(str(tmp_path / "nothing")))
    (tmp_path / "nothing").mkdir()
    panel.widget.ui.importFolderButton.click()
    _done(panel)
    ((title, error),) = window.errors
    assert "library" in title
    assert "nothing" in str(error)
    assert not (tmp_path / "home" / "models" / "nothing").exists()


def test_export_and_use(panel, bundle, tmp_path):
    ui, window = panel.widget.ui, with_window(panel, FakeWindow(str(tmp_path / "out.zip")))
    copytree(bundle, tmp_path / "home" / "models" / "mine")
    ui.refreshLibraryButton.click()
    _done(panel)
    ui.exportModelButton.click()
    assert "out.zip" in _done(panel)
    assert (tmp_path / "out.zip").stat().st_size > 1000
    ui.useModelButton.click()
    assert window.used == [("XTLSegment", tmp_path / "home" / "models" / "mine")]


def test_a_model_is_chosen_in_the_module_that_applies_it(panel, open_panel, bundle, monkeypatch):
    import slicer

    other, shown = open_panel("XTLSegment"), []
    monkeypatch.setattr(slicer.util, "getModuleLogic", lambda name: {"XTLSegment": other.widget.logic}[name])
    monkeypatch.setattr(slicer.util, "selectModule", shown.append)
    panel.widget._panel.library._window.use_bundle("XTLSegment", bundle)
    assert other.widget.ui.bundlePathLineEdit.currentPath == str(bundle)
    assert shown == ["XTLSegment"]
