"""XTLClassify over slicer-core: the panel applied for real, with an untrained network on a small case."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
from classify_steps import apply, finish, is_running
from host.reload import save_and_reload
from lent_worker import wait

pytest_plugins = ["classify_scene"]


def test_findings_are_asked_for_and_noticed_when_they_are_placed(panel, bundle, scene):
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    assert [getattr(ui, f"{n}Selector").currentNode().GetName() for n in ("t2w", "adc", "hbv")] == ["T2W", "ADC", "HBV"]
    assert "point list" in ui.statusLabel.text
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "suspects")
    ui.findingsSelector.setCurrentNode(points)
    assert ui.statusLabel.text == ui.applyButton.toolTip == "Place a point at each finding in suspects."
    assert not ui.applyButton.enabled
    points.AddControlPointWorld(1, 2, 3)
    assert ui.applyButton.enabled
    points.RemoveNthControlPoint(0)
    assert not ui.applyButton.enabled
    other = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "others")
    ui.findingsSelector.setCurrentNode(other)
    points.AddControlPointWorld(1, 2, 3)
    assert not ui.applyButton.enabled, "the first list is no longer the chosen one"


def test_apply_rates_the_findings(ready, expected, case, messages, scene, artifacts):
    ui = ready.widget.ui
    ui.outputsCollapsibleButton.collapsed = False
    nodes = scene.GetNumberOfNodes()
    ui.applyButton.click()
    assert ui.applyButton.text == "Cancel"
    assert is_running(ready), "the click returns at once"
    assert scene.GetNumberOfNodes() == nodes
    finish(ready)
    assert not messages
    parameters = ready.widget.logic.getParameterNode()
    shown = slicer.util.arrayFromTableColumn(parameters.table, "probability")
    assert list(shown) == pytest.approx([rated.probability for rated in expected.findings], abs=1e-6)
    for axis, name in enumerate("RAS"):
        position = slicer.util.arrayFromTableColumn(parameters.table, name)
        assert list(position) == pytest.approx([finding.position_ras[axis] for finding in case.findings])
    assert np.array_equal(slicer.util.arrayFromVolume(parameters.labelMap), expected.label.array)
    assert f"{max(shown):.2f}" in ui.statusLabel.text
    assert f"{max(shown):.2f}" in ui.summaryLabel.text
    assert parameters.findings.GetNthControlPointLabel(0) == f"1: {shown[0]:.2f}"
    patients = parameters.table.GetTable().GetColumnByName("patient")
    assert [patients.GetValue(row) for row in range(2)] == ["phantom-005"] * 2
    assert not ui.progressBar.visible
    assert ui.applyButton.text == "Apply"


def test_a_second_apply_fills_the_same_nodes(ready, scene):
    apply(ready)
    nodes = scene.GetNumberOfNodes()
    ready.widget.logic.getParameterNode().findings.AddControlPointWorld(2.0, 3.0, 0.0, "late")
    apply(ready)
    assert scene.GetNumberOfNodes() == nodes
    assert ready.widget.logic.getParameterNode().table.GetNumberOfRows() == 3


def test_cancel_leaves_the_scene_as_it_was(ready, scene, messages):
    ui, nodes = ready.widget.ui, scene.GetNumberOfNodes()
    ui.applyButton.click()
    assert not ui.inputsCollapsibleButton.enabled
    ui.applyButton.click()
    finish(ready)
    assert scene.GetNumberOfNodes() == nodes
    assert not messages
    assert "as it was" in ui.statusLabel.text
    apply(ready)
    assert scene.GetNumberOfNodes() > nodes, "after a cancel, Apply runs again"


def test_a_finding_outside_the_image_is_one_message_that_names_it(ready, scene, messages):
    ready.widget.logic.getParameterNode().findings.AddControlPointWorld(400.0, 0.0, 0.0, "far")
    nodes = scene.GetNumberOfNodes()
    apply(ready)
    (message,) = messages
    assert message.text.startswith("The findings were not rated.")
    assert "The finding far" in message.text
    assert "400.0" in message.text
    assert scene.GetNumberOfNodes() == nodes


def test_choices_survive_saving_and_loading_the_scene(ready, bundle, scene, tmp_path):
    ui = ready.widget.ui
    ui.viewsSpinBox.value = 3
    ui.evidenceComboBox.currentIndex = 1
    ui.deviceComboBox.currentIndex = 1
    ui.viewsSpinBox.value = 1
    ui.evidenceComboBox.currentIndex = 0
    apply(ready)
    ui.viewsSpinBox.value = 3
    ui.evidenceComboBox.currentIndex = 2
    save_and_reload(scene, tmp_path)
    assert Path(ui.bundlePathLineEdit.currentPath) == bundle
    assert ui.t2wSelector.currentNode().GetName() == "T2W"
    assert ui.findingsSelector.currentNode().GetNumberOfControlPoints() == 2
    assert ui.tableView.mrmlTableNode().GetNumberOfRows() == 2
    assert (ui.viewsSpinBox.value, ui.evidenceComboBox.currentIndex, ui.deviceComboBox.currentIndex) == (3, 2, 1)
    assert ui.applyButton.enabled


def test_closing_the_scene_empties_the_panel(ready, scene):
    ui = ready.widget.ui
    apply(ready)
    scene.Clear(0)
    assert ui.findingsSelector.currentNode() is None
    assert not ui.resultsCollapsibleButton.visible
    assert not ui.applyButton.enabled


def test_closing_the_scene_while_it_runs_is_a_cancel(ready, scene, messages):
    ready.widget.ui.applyButton.click()
    scene.Clear(0)
    finish(ready)
    assert not messages
    assert scene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode") == 0
    assert not ready.widget.ui.applyButton.enabled


def test_what_is_deleted_while_it_runs_is_said_and_nothing_is_lost(ready, scene, messages, expected):
    ui = ready.widget.ui
    apply(ready)
    parameters = ready.widget.logic.getParameterNode()
    ui.applyButton.click()
    for node in (slicer.util.getNode("T2W"), parameters.findings, parameters.labelMap):
        scene.RemoveNode(node)
    finish(ready)
    assert not messages
    assert "Removed from the scene meanwhile: T2W, findings." in ui.statusLabel.text
    assert "made anew" in ui.statusLabel.text
    parameters = ready.widget.logic.getParameterNode()
    assert np.array_equal(slicer.util.arrayFromVolume(parameters.labelMap), expected.label.array)
    assert parameters.findings.GetNumberOfControlPoints() == parameters.table.GetNumberOfRows() == 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_worker_that_is_killed_is_one_message_and_the_next_apply_runs(open_panel, scene, case, bundle, messages):
    from XTLLib.scene.findings import findings_to_node
    from XTLLib.scene.inputs import add_case

    add_case(case, scene)
    panel = open_panel("XTLClassify")
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    ui.findingsSelector.setCurrentNode(findings_to_node(case.findings, "findings", scene))
    ui.applyButton.click()
    worker = panel.widget._panel._background._worker
    wait(lambda: worker.pid is not None)
    os.kill(worker.pid, signal.SIGKILL)
    finish(panel)
    (message,) = messages
    assert "ended unexpectedly" in message.text
    assert "as it was" in ui.statusLabel.text
    apply(panel)
    assert panel.widget.logic.getParameterNode().table.GetNumberOfRows() == 2
    assert len(messages) == 1


def test_fifty_clicks_in_a_row(ready, scene, messages, expected):
    """Each click but the first is a cancel or falls on a button that waits for one."""
    ui = ready.widget.ui
    for number in range(50):
        ui.applyButton.click()
        if number % 5 == 0:
            slicer.app.processEvents()
    finish(ready)
    if ready.widget.logic.getParameterNode().labelMap is None:  # the last click was a cancel
        apply(ready)
    assert not messages
    label = slicer.util.arrayFromVolume(ready.widget.logic.getParameterNode().labelMap)
    assert np.array_equal(label, expected.label.array)
    assert scene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode") == 1


def test_logic_gives_the_numbers_of_apply_and_shows_the_truth(scene, case, bundle, expected):
    from XTLLib.scene.findings import findings_to_node
    from XTLLib.scene.inputs import add_case

    from XTLClassify import XTLClassifyLogic

    findings = findings_to_node(case.findings, "findings", scene)
    logic = XTLClassifyLogic()
    nodes = logic.process(add_case(case, scene).channels, findings, bundle)
    shown = slicer.util.arrayFromTableColumn(nodes.table, "probability")
    assert list(shown) == [rated.probability for rated in expected.findings]
    higher = int(np.argmax(shown)) + 1
    truth = logic.showTruth(nodes.table, {"1": higher == 1, "2": higher == 2})
    assert (truth.auc, truth.findings, truth.positives) == (1.0, 2, 1)


def test_an_empty_path_is_shown_as_empty(panel, bundle):
    panel.widget.ui.bundlePathLineEdit.currentPath = str(bundle)
    assert panel.widget.ui.truthPathLineEdit.currentPath == ""


def test_limits_are_those_of_the_library():
    from XTLLib.inference.evidence import EVIDENCE as KINDS
    from XTLLib.inference.patch_views import MOST_VIEWS
    from XTLLib.scene.classify_options import EVIDENCE

    import XTLClassify

    assert XTLClassify.MOST_VIEWS == MOST_VIEWS
    assert EVIDENCE["both"] == KINDS
