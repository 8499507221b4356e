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


class Asked(FakeWindow):
    """A window whose user gives one answer after the other."""

    def answer(self, *answers: bool) -> None:
        self.asked.clear()
        self.answers = list(answers)

    def confirm(self, question: str) -> bool:
        self.asked.append(question)
        return self.answers.pop(0)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_name_that_is_taken_and_code_are_asked_about_one_after_the_other(panel, bundle, tmp_path):
    ui, library, source = panel.widget.ui, tmp_path / "home" / "models", tmp_path / 'it\'s "ours" <b>ü'
    copytree(bundle, library / "untrained-ms")
    copytree(bundle, source)
    (source / "scripts").mkdir()
    (source / "scripts" / "own.py").write_text("print(1)")
    (source / "docs" / "README.md").write_text("another one")
    window = with_window(panel, Asked(str(source)))
    before = _contents(library)

    def attempt(*answers: bool) -> str:
        window.answer(*answers)
        ui.importFolderButton.click()
        wait(lambda: not window.answers and not panel.widget._panel.library.is_running)
        assert window.errors == []
        return ui.libraryLabel.text

    assert "Nothing was imported" in attempt(False)
    assert "scripts/own.py (Python code)" in window.asked[0]
    assert "Do you trust where it comes from" in window.asked[0]
    assert "Nothing was imported" in attempt(True, False)
    assert "already has a model named untrained-ms. Replace it" in window.asked[1]
    assert _contents(library) == before
    assert "Imported as untrained-ms." in attempt(True, True)
    assert "never runs" in ui.libraryLabel.text
    assert (library / "untrained-ms" / "docs" / "README.md").read_text() == "another one"


def test_a_replacement_that_fails_leaves_the_model_as_it_was(panel, bundle, tmp_path):
    library, source = tmp_path / "home" / "models", tmp_path / "source"
    copytree(bundle, library / "untrained-ms")
    copytree(bundle, source)
    weights = source / "models" / "model.pt"
    weights.write_bytes(weights.read_bytes()[:1000])
    before = _contents(library)
    window = with_window(panel, Asked(str(source)))
    window.answer(True)
    panel.widget.ui.importFolderButton.click()
    wait(lambda: window.errors)
    assert "holds weights of 1000 bytes" in str(window.errors[0][1])
    assert _contents(library) == before
    assert [path.name for path in library.iterdir()] == ["untrained-ms"]
    assert panel.widget.ui.importFolderButton.enabled


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
