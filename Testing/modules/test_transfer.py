"""XTLTransfer over slicer-core: a small chain trained for real, in a child process, from the panel."""

from __future__ import annotations

from pathlib import Path

import pytest
import slicer
from host.reload import save_and_reload
from transfer_steps import look, train, wait


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Path:
    from XTLLib.scene.self_test import write_small_chain

    folder = tmp_path_factory.mktemp("chain") / 'Größe 1, it\'s "here" & <there> %20'  # any folder will do
    folder.mkdir()
    return write_small_chain(folder)


@pytest.fixture
def panel(open_panel):
    return open_panel("XTLTransfer")


def _choose(panel, chain: Path, out: Path) -> None:
    panel.widget.ui.chainPathLineEdit.currentPath = str(chain)
    panel.widget.ui.outputPathLineEdit.currentPath = str(out)
    look(panel)


def test_apply_waits_for_what_is_missing(panel, chain, tmp_path):
    ui = panel.widget.ui

    def told() -> str:
        look(panel)
        assert not ui.applyButton.enabled
        assert ui.applyButton.toolTip == ui.statusLabel.text
        return ui.statusLabel.text

    assert "Choose a chain" in told()
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: wrong\nbackbon: resnet18\nstages: []\n")
    ui.chainPathLineEdit.currentPath = str(wrong)
    assert "Looking at the chain" in ui.statusLabel.text
    assert "wrong.yaml" in told()
    assert "backbon" in told()
    ui.chainPathLineEdit.currentPath = str(chain)
    assert "output folder" in told()
    assert "2 cases of 2 patients (2 training)" in ui.dataLabel.text
    assert "lesions.nii" in ui.dataLabel.text
    assert ui.chainLabel.text.count("waiting") == 2
    assert ui.chainLabel.text.index("Initialisation") < ui.chainLabel.text.index("Target")
    ui.outputPathLineEdit.currentPath = str(tmp_path)
    assert "not empty" in told()
    ui.outputPathLineEdit.currentPath = str(tmp_path / "run")
    assert look(panel) == ""
    assert ui.applyButton.enabled
    assert ui.applyButton.text == "Apply"


def test_a_chain_trained_from_the_panel_and_again_elsewhere(panel, chain, tmp_path, scene, messages, artifacts):
    from XTLLib.bundle.load import load_bundle

    ui = panel.widget.ui
    panel.grab(artifacts / "XTLTransfer-empty.png")
    _choose(panel, chain, tmp_path / "run")
    ui.applyButton.click()
    assert ui.applyButton.text == "Cancel"
    assert not ui.inputsCollapsibleButton.enabled
    assert not ui.planButton.enabled
    wait(lambda: ui.progressBar.value > 0 or not panel.widget._panel.is_running)
    panel.grab(artifacts / "XTLTransfer-running.png")
    wait(lambda: not panel.widget._panel.is_running)

    assert not messages, messages[0].text
    assert ui.resultLineEdit.text == str(tmp_path / "run" / "bundle")
    assert load_bundle(ui.resultLineEdit.text).channels == ("FLAIR",)
    assert ui.statusLabel.text.startswith("Trained.")
    look(panel)
    assert not ui.applyButton.enabled
    assert "trained in this folder already" in ui.applyButton.toolTip, "a second Apply needs another folder"
    assert ui.chainLabel.text.count("done") == 2
    parameters = panel.widget.logic.getParameterNode()
    assert slicer.util.arrayFromTableColumn(parameters.trainingLog, "step")[-1] == 4
    names = [
        parameters.trainingCurve.GetNthPlotSeriesNode(n).GetYColumnName()
        for n in range(parameters.trainingCurve.GetNumberOfPlotSeriesNodes())
    ]
    assert names == ["loss 01-target"]
    for section in ("outputs", "advanced"):
        getattr(ui, f"{section}CollapsibleButton").collapsed = False
    panel.grab(artifacts / "XTLTransfer.png")
    panel.grab(artifacts / "XTLTransfer@2x.png", scale=2)

    ui.showCurveButton.click()
    save_and_reload(scene, tmp_path)
    look(panel)
    parameters = panel.widget.logic.getParameterNode()
    assert Path(ui.chainPathLineEdit.currentPath) == chain
    assert ui.chartSelector.currentNode().GetNumberOfPlotSeriesNodes() == len(names)
    assert ui.showCurveButton.enabled
    assert ui.resultLineEdit.text == str(tmp_path / "run" / "bundle")

    log, curve = parameters.trainingLog, parameters.trainingCurve
    _choose(panel, chain, tmp_path / "two")
    train(panel)
    assert ui.resultLineEdit.text == str(tmp_path / "two" / "bundle")
    parameters = panel.widget.logic.getParameterNode()
    assert (parameters.trainingLog, parameters.trainingCurve) == (log, curve), "another training fills the same nodes"
    assert scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1
    assert scene.GetNumberOfNodesByClass("vtkMRMLTableNode") == 1


def test_cancel_and_resume(panel, chain, tmp_path, messages):
    ui = panel.widget.ui
    long = chain.with_name("long.yaml")
    long.write_text(chain.read_text().replace("steps: 4", "steps: 200"))
    _choose(panel, long, tmp_path / "run")
    ui.applyButton.click()
    wait(lambda: panel.widget.logic.getParameterNode().trainingLog is not None or ui.progressBar.value > 3)
    ui.applyButton.click()
    assert not ui.applyButton.enabled
    wait(lambda: not panel.widget._panel.is_running)
    assert not messages
    assert not (tmp_path / "run" / "bundle").exists()
    assert ui.statusLabel.text.startswith("Cancelled")
    look(panel)
    assert ui.applyButton.text == "Resume"
    assert ui.applyButton.enabled
    assert "stopped" in ui.chainLabel.text
    ui.targetBudgetSpinBox.value = 5
    assert "another chain" in look(panel), "a folder is gone on with by the chain that began it only"
    assert "stages[1].training.steps" in ui.statusLabel.text
    assert not ui.applyButton.enabled


def test_a_plan_is_made_beside_the_window(panel, chain, tmp_path):
    ui = panel.widget.ui
    assert not ui.planButton.enabled
    ui.chainPathLineEdit.currentPath = str(chain)
    look(panel)
    ui.seedSpinBox.value = 2
    look(panel)
    ui.planButton.click()
    assert ui.planButton.text == "Cancel"
    assert not ui.applyButton.enabled
    wait(lambda: ui.planButton.text == "Plan")
    assert "1.9&nbsp;M" in ui.planLabel.text
    assert "MiB at the peak" in ui.planLabel.text
    assert not list(tmp_path.iterdir())
    ui.seedSpinBox.value = 3
    look(panel)
    assert not ui.planLabel.visible, "it was of another choice"
    ui.seedSpinBox.value = 2
    look(panel)
    assert ui.planLabel.visible
    panel.exit()
    panel.enter()
    look(panel)
    assert ui.planLabel.visible, "the chain is looked at anew, as after a training, and is the same"


def test_an_error_of_the_training_is_one_message(panel, chain, tmp_path, messages):
    ui = panel.widget.ui
    _choose(panel, chain, tmp_path / "run")
    (chain.parent / "brains" / "datalist.json").rename(chain.parent / "brains" / "moved.json")
    try:
        ui.applyButton.click()
        wait(lambda: not panel.widget._panel.is_running)
    finally:
        (chain.parent / "brains" / "moved.json").rename(chain.parent / "brains" / "datalist.json")
    (message,) = messages
    assert "The chain was not trained." in message.text
    assert "datalist.json" in message.text
    assert "Not trained" in ui.statusLabel.text


def test_data_that_are_gone_are_named_before_the_training(panel, chain, tmp_path):
    broken = chain.with_name("broken.yaml")
    broken.write_text(chain.read_text().replace("brains/datalist.json", "nowhere.json"))
    _choose(panel, broken, tmp_path / "run")
    assert "nowhere.json does not exist" in panel.widget.ui.statusLabel.text
    panel.widget.ui.targetPathLineEdit.currentPath = str(chain.parent / "brains" / "datalist.json")
    assert look(panel) == "", "the chosen data take the place of the chain's"


def test_a_training_outlives_the_scene_and_ends_with_the_panel(panel, chain, tmp_path, scene):
    _choose(panel, chain, tmp_path / "run")
    panel.widget.ui.applyButton.click()
    scene.Clear(0)
    assert panel.widget.logic.isRunning
    panel.widget.cleanup()
    assert not panel.widget.logic.isRunning
