"""XTLTransfer over slicer-core: a small chain trained for real, in a child process, from the panel."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import slicer
from host.reload import save_and_reload


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Path:
    from XTLLib.scene.self_test import write_small_chain

    return write_small_chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture
def panel(open_panel):
    return open_panel("XTLTransfer")


def test_apply_waits_for_what_is_missing(panel, chain, tmp_path):
    ui = panel.widget.ui

    def told() -> str:
        assert not ui.applyButton.enabled
        assert ui.applyButton.toolTip == ui.statusLabel.text
        return ui.statusLabel.text

    assert "chain file" in told()
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: wrong\nbackbon: resnet18\nstages: []\n")
    ui.chainPathLineEdit.currentPath = str(wrong)
    assert "wrong.yaml" in told()
    assert "backbon" in told()
    ui.chainPathLineEdit.currentPath = str(chain)
    assert "output folder" in told()
    assert ui.chainLabel.text == "small: squeezenet1_0, initialisation → target"
    ui.outputPathLineEdit.currentPath = str(tmp_path)
    assert "not empty" in told()
    ui.resumeCheckBox.checked = True
    assert ui.applyButton.enabled
    ui.resumeCheckBox.checked = False
    ui.outputPathLineEdit.currentPath = str(tmp_path / "run")
    assert ui.applyButton.enabled


def test_a_chain_trained_from_the_panel(panel, chain, tmp_path, scene, messages, artifacts):
    from XTLLib.bundle.load import load_bundle

    ui = panel.widget.ui
    panel.grab(artifacts / "XTLTransfer-empty.png")
    ui.chainPathLineEdit.currentPath = str(chain)
    ui.outputPathLineEdit.currentPath = str(tmp_path / "run")
    ui.applyButton.click()
    assert ui.applyButton.text == "Cancel"
    assert not ui.inputsCollapsibleButton.enabled
    _wait(lambda: ui.progressBar.value > 0 or not panel.widget._run.is_running)
    panel.grab(artifacts / "XTLTransfer-running.png")
    _wait(lambda: not panel.widget._run.is_running)

    assert not messages, messages[0].text
    assert ui.resultLineEdit.text == str(tmp_path / "run" / "bundle")
    assert load_bundle(ui.resultLineEdit.text).channels == ("FLAIR",)
    assert ui.statusLabel.text.startswith("Trained.")
    assert not ui.applyButton.enabled
    assert "not empty" in ui.applyButton.toolTip, "a second Apply needs another folder"
    parameters = panel.widget.logic.getParameterNode()
    assert slicer.util.arrayFromTableColumn(parameters.trainingLog, "step")[-1] == 4
    names = [
        parameters.trainingCurve.GetNthPlotSeriesNode(n).GetYColumnName()
        for n in range(parameters.trainingCurve.GetNumberOfPlotSeriesNodes())
    ]
    assert "loss" in names
    assert "learning_rate" not in names
    ui.outputsCollapsibleButton.collapsed = False
    panel.grab(artifacts / "XTLTransfer.png")
    panel.grab(artifacts / "XTLTransfer@2x.png", scale=2)

    ui.showCurveButton.click()
    save_and_reload(scene, tmp_path)
    assert Path(ui.chainPathLineEdit.currentPath) == chain
    assert ui.chartSelector.currentNode().GetNumberOfPlotSeriesNodes() == len(names)
    assert ui.showCurveButton.enabled


def test_cancel_and_resume(panel, chain, tmp_path, messages):
    ui = panel.widget.ui
    ui.chainPathLineEdit.currentPath = str(chain)
    ui.outputPathLineEdit.currentPath = str(tmp_path / "run")
    ui.applyButton.click()
    ui.applyButton.click()
    assert not ui.applyButton.enabled
    _wait(lambda: not panel.widget._run.is_running)
    assert not messages
    assert not (tmp_path / "run" / "bundle").exists()
    assert ui.statusLabel.text.startswith("Cancelled")
    ui.resumeCheckBox.checked = True
    assert ui.statusLabel.text == ""
    assert ui.applyButton.enabled


def test_an_error_of_the_training_is_one_message(panel, chain, tmp_path, messages, slot_errors):
    broken = chain.with_name("broken.yaml")
    broken.write_text(chain.read_text().replace("brains/datalist.json", "nowhere.json"))
    ui = panel.widget.ui
    ui.chainPathLineEdit.currentPath = str(broken)
    ui.outputPathLineEdit.currentPath = str(tmp_path / "run")
    ui.applyButton.click()
    _wait(lambda: not panel.widget._run.is_running)
    (message,) = messages
    assert "nowhere.json" in message.text
    assert "Not trained" in ui.statusLabel.text
    assert [type(error).__name__ for error in slot_errors] == ["XTLError"]
    slot_errors.clear()


def test_a_training_outlives_the_scene_and_ends_with_the_panel(panel, chain, tmp_path, scene):
    ui = panel.widget.ui
    ui.chainPathLineEdit.currentPath = str(chain)
    ui.outputPathLineEdit.currentPath = str(tmp_path / "run")
    ui.applyButton.click()
    scene.Clear(0)
    assert panel.widget.logic.isRunning
    panel.widget.cleanup()
    assert not panel.widget.logic.isRunning


def _wait(done: Callable[[], bool], limit_s: float = 90.0) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        slicer.app.processEvents()
        time.sleep(0.02)
        assert time.monotonic() < deadline, "it took too long"
