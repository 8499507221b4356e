"""The choices of XTL Transfer: panel and parameter node agree in both directions, and what is sent is what is shown."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from host.reload import save_and_reload
from machine_speed import slowness
from transfer_steps import look

PATHS = {
    "chainPathLineEdit": "chain",
    "sourcePathLineEdit": "sourceData",
    "targetPathLineEdit": "targetData",
    "outputPathLineEdit": "outputFolder",
    "studyPathLineEdit": "study",
    "studyFolderLineEdit": "studyFolder",
}
NUMBERS = {
    "sourceBudgetSpinBox": ("sourceBudget", 7),
    "targetBudgetSpinBox": ("targetBudget", 8),
    "learningRateSpinBox": ("learningRate", 0.25),
    "seedSpinBox": ("seed", 9),
}
LISTS = {
    "chainPreset": "xtl-ms",
    "weights": "random",
    "backbone": "resnet50",
    "conversion": "acs",
    "device": "cpu",
}
NODES = {
    "tableSelector": ("trainingLog", "vtkMRMLTableNode"),
    "chartSelector": ("trainingCurve", "vtkMRMLPlotChartNode"),
    "studyTableSelector": ("studyTable", "vtkMRMLTableNode"),
    "studyChartSelector": ("studyChart", "vtkMRMLPlotChartNode"),
}


@pytest.fixture
def panel(open_panel):
    return open_panel("XTLTransfer")


@pytest.fixture(scope="module")
def mammogram_chain(tmp_path_factory) -> Path:
    """A chain with a mammogram stage before the small target."""
    from XTLLib.scene.self_test import write_small_chain

    chain = write_small_chain(tmp_path_factory.mktemp("chain"))
    stage = "  - kind: intermediate\n    task: mammogram-classification\n    datalist: films.json\n"
    chain.write_text(chain.read_text().replace("  - kind: target", f"{stage}  - kind: target"))
    return chain


@pytest.mark.parametrize("widget", PATHS)
def test_paths_go_both_ways(panel, widget, tmp_path):
    ui, parameters = panel.widget.ui, panel.widget.logic.getParameterNode()
    getattr(ui, widget).currentPath = str(tmp_path / "a")
    assert getattr(parameters, PATHS[widget]) == tmp_path / "a"
    setattr(parameters, PATHS[widget], tmp_path / "b")
    assert getattr(ui, widget).currentPath == str(tmp_path / "b")


@pytest.mark.parametrize("widget", NUMBERS)
def test_numbers_go_both_ways(panel, widget):
    ui, parameters = panel.widget.ui, panel.widget.logic.getParameterNode()
    name, value = NUMBERS[widget]
    getattr(ui, widget).value = value
    assert getattr(parameters, name) == value
    setattr(parameters, name, 0)
    assert getattr(ui, widget).value == 0


@pytest.mark.parametrize("name", LISTS)
def test_lists_go_both_ways(panel, name):
    parameters, box = panel.widget.logic.getParameterNode(), getattr(panel.widget.ui, f"{name}ComboBox")
    before = getattr(parameters, name)
    setattr(parameters, name, LISTS[name])
    shown = box.currentIndex
    assert shown > 0
    box.currentIndex = 0
    assert getattr(parameters, name) != LISTS[name]
    box.currentIndex = shown
    assert getattr(parameters, name) == LISTS[name]
    setattr(parameters, name, before)
    assert box.currentIndex != shown


def test_a_list_shows_a_value_of_a_scene_from_elsewhere(panel):
    panel.widget.logic.getParameterNode().chainPreset = "a chain of a later version"
    assert panel.widget.ui.chainPresetComboBox.currentText == "a chain of a later version"
    assert "does not exist" in look(panel)


@pytest.mark.parametrize("widget", NODES)
def test_nodes_go_both_ways(panel, widget, scene):
    ui, parameters = panel.widget.ui, panel.widget.logic.getParameterNode()
    name, kind = NODES[widget]
    node = scene.AddNewNodeByClass(kind)
    getattr(ui, widget).setCurrentNode(node)
    assert getattr(parameters, name) is node
    setattr(parameters, name, None)
    assert getattr(ui, widget).currentNode() is None


def test_settings_are_the_chains_until_one_is_changed(panel, mammogram_chain):
    ui, parameters = panel.widget.ui, panel.widget.logic.getParameterNode()
    ui.chainPathLineEdit.currentPath = str(mammogram_chain)
    assert "films.json" in look(panel)
    shown = (parameters.backbone, parameters.sourceBudget, parameters.targetBudget, parameters.learningRate)
    assert shown == ("squeezenet1_0", 30, 4, 0.003)
    assert ui.sourceBudgetSpinBox.suffix == " epochs"
    assert ui.targetBudgetSpinBox.suffix == " steps"
    assert ui.useChainSettingsCheckBox.checked
    ui.sourceBudgetSpinBox.value = 2
    ui.learningRateSpinBox.value = 0
    ui.conversionComboBox.currentIndex = 1
    look(panel)
    assert not ui.useChainSettingsCheckBox.checked
    changes = panel.widget._panel._previewer.choice.changes
    assert set(changes) == {
        "conversion=centre-slice",
        "stages.intermediate.training.epochs=2",
        "stages.target.training.learning_rate=find",
    }
    assert "2 epochs" in ui.chainLabel.text
    ui.useChainSettingsCheckBox.checked = True
    look(panel)
    assert parameters.sourceBudget == 30
    assert panel.widget._panel._previewer.choice.changes == ()


def test_a_chain_without_intermediate_stage_has_no_intermediate_data(panel):
    from XTLLib.scene.chain_presets import chain_presets

    ui, names = panel.widget.ui, ["", *chain_presets()]
    ui.weightsComboBox.currentIndex = 2
    ui.chainPresetComboBox.currentIndex = names.index("tl-ms")
    assert "open_ms.json" in look(panel)
    assert not ui.chainPathLineEdit.enabled
    assert not ui.sourcePathLineEdit.enabled
    ui.chainPresetComboBox.currentIndex = names.index("xtl-ms")
    assert "mias.json" in look(panel)
    assert ui.sourcePathLineEdit.enabled
    assert ui.chainLabel.text.count("&rarr;") == 2


def test_choices_are_saved_with_the_scene(panel, scene, mammogram_chain, tmp_path):
    ui = panel.widget.ui
    ui.chainPathLineEdit.currentPath = str(mammogram_chain)
    look(panel)
    ui.seedSpinBox.value = 12
    ui.deviceComboBox.currentIndex = 1
    save_and_reload(scene, tmp_path)
    look(panel)
    parameters = panel.widget.logic.getParameterNode()
    assert (parameters.seed, parameters.device, parameters.useChainSettings) == (12, "cpu", False)
    assert (ui.seedSpinBox.value, ui.deviceComboBox.currentIndex) == (12, 1)
    assert "seed=12" in panel.widget._panel._previewer.choice.changes


def test_leaving_the_module_ends_the_process_that_looks_at_chains(panel, mammogram_chain):
    panel.widget.ui.chainPathLineEdit.currentPath = str(mammogram_chain)
    look(panel)
    assert panel.widget._panel._previewer._child is not None
    panel.exit()
    assert panel.widget._panel._previewer._child is None
    panel.enter()
    assert "films.json" in look(panel)


def test_the_module_can_be_reloaded(panel, open_panel, mammogram_chain):
    panel.widget.ui.chainPathLineEdit.currentPath = str(mammogram_chain)
    panel.widget.cleanup()
    again = open_panel("XTLTransfer")
    assert again.widget.ui.chainPathLineEdit.currentPath == str(mammogram_chain)
    assert "films.json" in look(again)


def test_no_choice_holds_the_window_up(panel, mammogram_chain, tmp_path):
    """Opening imports apart, nothing that is chosen takes longer than a tenth of a second."""
    ui = panel.widget.ui
    look(panel)
    slowest = 0.0
    actions = [
        lambda: setattr(ui.chainPathLineEdit, "currentPath", str(mammogram_chain)),
        lambda: setattr(ui.outputPathLineEdit, "currentPath", str(tmp_path / "run")),
        lambda: setattr(ui.seedSpinBox, "value", 5),
        lambda: setattr(ui.chainPresetComboBox, "currentIndex", 1),
    ]
    for action in actions:
        began = time.process_time()  # other work on the machine does not count
        action()
        slowest = max(slowest, time.process_time() - began)
    look(panel)
    assert slowest < 0.1 * slowness()
