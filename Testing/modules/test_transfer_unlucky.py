"""What may befall a user of XTL Transfer: odd and lost paths, places that cannot be written to, nodes that go."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import slicer
from transfer_steps import FakeWindow, look, wait, with_window
from XTLLib.progress import ProgressEvent

ODD = 'Größe 1, it\'s "here" & <there> %20 #1 {a: b}'
NO_PLACE = "/proc/nowhere/run"  # where nobody can make a folder
LONG = "a" * 5000


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Path:
    from XTLLib.scene.self_test import write_small_chain

    folder = tmp_path_factory.mktemp("unlucky") / ODD
    folder.mkdir()
    return write_small_chain(folder)


@pytest.fixture
def panel(open_panel, tmp_path, monkeypatch):
    monkeypatch.setenv("XTL_HOME", str(tmp_path / "home"))
    return open_panel("XTLTransfer")


def choose(panel, chain: Path, out: Path | str) -> None:
    panel.widget.ui.chainPathLineEdit.currentPath = str(chain)
    panel.widget.ui.outputPathLineEdit.currentPath = str(out)
    look(panel)


def end(panel) -> None:
    parts = (panel.widget._panel, panel.widget._panel.study, panel.widget._panel.library)
    wait(lambda: not any(part.is_running for part in parts))
    look(panel)


NO_PATHS = (
    ("chain", "C:\\Users\\Über Wald\\chain.yaml", "does not exist"),
    ("chain", LONG, "too long"),
    ("output", "C:\\Users\\Über Wald\\run", "is no whole path"),
    ("output", "~/run", "is no whole path"),
    ("output", f"/{LONG}", "too long"),
    ("target", "C:\\Users\\Über Wald\\d.json", "d.json does not exist"),
    ("target", "/x: y'\"{\n#", "does not exist"),
)


def test_a_path_that_cannot_be_is_said_before_apply(panel, chain, tmp_path, messages):
    ui = panel.widget.ui
    good = {"chain": str(chain), "output": str(tmp_path / ODD / "run"), "target": ""}
    choose(panel, *list(good.values())[:2])
    for field, path, said in NO_PATHS:
        line = getattr(ui, f"{field}PathLineEdit")
        line.currentPath = path
        look(panel)
        assert not ui.applyButton.enabled
        assert said in ui.statusLabel.text
        assert len(ui.statusLabel.text) < 300
        line.currentPath = good[field]
        assert look(panel) == "", "the next choice is looked at as if nothing had been"
        assert ui.applyButton.enabled
    assert messages == []


@pytest.mark.parametrize("path", ["C:\\Users\\Über Wald\\x", LONG, "\0", "/proc", "~/x"])
def test_a_study_s_path_that_cannot_be_is_said_before_run(panel, chain, path, messages):
    ui = panel.widget.ui
    ui.studyPathLineEdit.currentPath = path
    assert not ui.runStudyButton.enabled
    assert "is not a file" in ui.studyLabel.text
    assert len(ui.studyLabel.text) < 300
    ui.studyPathLineEdit.currentPath = str(chain)
    ui.studyFolderLineEdit.currentPath = path
    assert ui.runStudyButton.enabled == (path == "/proc")
    assert not ui.showStudyButton.enabled
    assert messages == []


def test_what_vanishes_or_cannot_be_written_is_one_message_and_the_panel_goes_on(panel, chain, tmp_path, messages):
    ui, copy = panel.widget.ui, tmp_path / ODD

    def told(*words: str) -> None:
        end(panel)
        (message,) = messages
        for word in words:
            assert word in message.text
        messages.clear()

    choose(panel, chain, NO_PLACE)
    ui.applyButton.click()
    told("The chain was not trained.", NO_PLACE, "Choose a place that can be written to")
    assert ui.applyButton.enabled
    shutil.copytree(chain.parent, copy)
    choose(panel, copy / chain.name, tmp_path / "run")
    shutil.rmtree(copy)
    ui.applyButton.click()
    told("The chain was not trained.", f"{copy / chain.name} does not exist")
    assert "does not exist" in ui.applyButton.toolTip
    ui.resultLineEdit.text = str(tmp_path / "gone" / "bundle")
    panel.widget._panel.add_to_library()
    told("The model library was not changed.", "gone/bundle does not exist")


def test_a_model_is_not_exported_to_where_nothing_can_be_written(panel, tmp_path):
    from XTLLib.scene.self_test import write_segmentation_bundle

    write_segmentation_bundle(tmp_path / "home" / "models" / "mine")
    ui, window = panel.widget.ui, with_window(panel, FakeWindow("/proc/nowhere/mine.zip"))
    ui.refreshLibraryButton.click()
    end(panel)
    ui.exportModelButton.click()
    end(panel)
    ((title, error),) = window.errors
    assert "library" in title
    assert "/proc/nowhere" in str(error)
    assert ui.exportModelButton.enabled


class Study:
    """A study that runs for as long as it shall, and what it reports."""

    def __init__(self) -> None:
        self.is_running, self.is_closed = True, False
        self.latest: dict = {}

    def start(self) -> None:
        """Nothing has to be started."""

    def report(self, finished: int) -> None:
        arm = {"arm": "few", "planned": 2, "finished": finished, "failed": 0, "mean": None}
        self.latest = {"board": {"arms": [arm], "metric": "dice"}}

    def poll(self) -> list[ProgressEvent]:
        return [ProgressEvent("Study", 0.5, 1.0, None)]

    def cancel(self) -> None:
        self.is_running = False

    def result(self):
        return {"failures": []}

    def close(self, patience_s: float = 0.0) -> None:
        self.is_closed = True


@pytest.fixture
def study(panel, chain, tmp_path):
    """A study under way in the panel."""
    run = Study()
    ui, section = panel.widget.ui, panel.widget._panel.study
    ui.studyPathLineEdit.currentPath, ui.studyFolderLineEdit.currentPath = str(chain), str(tmp_path)
    section._make = lambda command: setattr(section, "_process", run) or run
    ui.runStudyButton.click()
    assert section.is_running
    return run


def test_a_table_deleted_while_the_study_runs_comes_back_with_the_next_report(panel, study, scene):
    parameters = panel.widget.logic.getParameterNode()
    for finished in (0, 1):
        study.report(finished)
        wait(lambda: parameters.studyTable is not None)
        assert slicer.util.arrayFromTableColumn(parameters.studyTable, "finished")[0] == finished
        scene.RemoveNode(parameters.studyTable)
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 0


def test_a_study_outlives_the_scene_and_shows_in_the_next(panel, study, scene, messages):
    study.report(0)
    wait(lambda: panel.widget.logic.getParameterNode().studyTable is not None)
    scene.Clear(0)
    assert panel.widget._panel.study.is_running
    study.report(1)
    wait(lambda: panel.widget.logic.getParameterNode().studyTable is not None)
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1
    scene.Clear(0)
    study.is_running = False
    wait(lambda: study.is_closed)
    assert messages[0].text.startswith("The results cannot be shown."), "the folder has none, and the scene no choice"


def test_a_module_that_is_reloaded_ends_its_study_and_hears_nothing_of_it(panel, study, open_panel, messages):
    panel.widget.cleanup()
    assert study.is_closed
    panel.widget._panel.tick()
    panel.widget._panel.study.run()
    again = open_panel("XTLTransfer")
    assert not again.widget._panel.study.is_running
    assert again.widget.ui.runStudyButton.enabled
    assert messages == []


def test_curves_deleted_while_a_training_runs_are_made_anew(panel, scene, tmp_path):
    log = tmp_path / "stages" / "01-target" / "log.tsv"
    log.parent.mkdir(parents=True)
    log.write_text("step\tloss\n1\t0.5\n2\t0.4\n")
    logic, parameters = panel.widget.logic, panel.widget.logic.getParameterNode()
    logic._process = SimpleNamespace(out=tmp_path, is_running=False, close=lambda patience_s: None)
    logic.showTraining(parameters)
    scene.RemoveNode(parameters.trainingLog)
    logic.showTraining(parameters)
    assert slicer.util.arrayFromTableColumn(parameters.trainingLog, "step")[-1] == 2
    series = parameters.trainingCurve.GetNthPlotSeriesNode(0)
    assert series.GetTableNode() is parameters.trainingLog
    assert scene.GetNumberOfNodesByClass("vtkMRMLPlotSeriesNode") == 1
