"""XTLClassify over slicer-core: the panel applied for real, with an untrained network on a small case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer
from host.reload import save_and_reload
from progress_hooks import at_progress


@pytest.fixture(scope="module")
def case():
    from XTLLib.scene.self_test import small_prostate

    return small_prostate()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    from XTLLib.scene.self_test import write_classification_bundle

    return write_classification_bundle(tmp_path_factory.mktemp("prostate") / "bundle")


@pytest.fixture(scope="module")
def expected(case, bundle):
    """The same case and bundle without Slicer."""
    from XTLLib.bundle.load import load_bundle
    from XTLLib.inference.classify import classify_case

    return classify_case(case, load_bundle(bundle))


@pytest.fixture
def panel(open_panel, scene, case):
    from XTLLib.scene.inputs import add_case

    add_case(case, scene)
    return open_panel("XTLClassify")


@pytest.fixture
def ready(panel, bundle, case, scene):
    """The panel with everything chosen."""
    from XTLLib.scene.findings import findings_to_node

    findings = findings_to_node(case.findings, "findings", scene)
    panel.widget.ui.bundlePathLineEdit.currentPath = str(bundle)
    panel.widget.ui.findingsSelector.setCurrentNode(findings)
    return panel


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


def test_apply_rates_the_findings(ready, expected, case, messages, artifacts):
    ui = ready.widget.ui
    ui.outputsCollapsibleButton.collapsed = False
    ui.applyButton.click()
    assert not messages
    parameters = ready.widget.logic.getParameterNode()
    shown = slicer.util.arrayFromTableColumn(parameters.table, "probability")
    assert list(shown) == pytest.approx([rated.probability for rated in expected.findings], abs=1e-6)
    for axis, name in enumerate("RAS"):
        position = slicer.util.arrayFromTableColumn(parameters.table, name)
        assert list(position) == pytest.approx([finding.position_ras[axis] for finding in case.findings])
    assert np.array_equal(slicer.util.arrayFromVolume(parameters.labelMap), expected.label.array)
    assert f"{max(shown):.2f}" in ui.statusLabel.text
    assert parameters.findings.GetNthControlPointLabel(0) == f"1: {shown[0]:.2f}"
    ready.grab(artifacts / "XTLClassify.png")
    ready.grab(artifacts / "XTLClassify@2x.png", scale=2)


def test_a_second_apply_fills_the_same_nodes(ready, scene):
    ready.widget.ui.applyButton.click()
    nodes = scene.GetNumberOfNodes()
    ready.widget.logic.getParameterNode().findings.AddControlPointWorld(2.0, 3.0, 0.0, "late")
    ready.widget.ui.applyButton.click()
    assert scene.GetNumberOfNodes() == nodes
    assert ready.widget.logic.getParameterNode().table.GetNumberOfRows() == 3


def test_cancel_leaves_the_scene_as_it_was(ready, scene, messages):
    nodes = scene.GetNumberOfNodes()
    at_progress(ready, 2, ready.widget.ui.applyButton.click)
    ready.widget.ui.applyButton.click()
    assert scene.GetNumberOfNodes() == nodes
    assert not messages
    assert "as it was" in ready.widget.ui.statusLabel.text


def test_a_finding_outside_the_image_is_one_message_that_names_it(ready, scene, messages, slot_errors):
    ready.widget.logic.getParameterNode().findings.AddControlPointWorld(400.0, 0.0, 0.0, "far")
    nodes = scene.GetNumberOfNodes()
    ready.widget.ui.applyButton.click()
    (message,) = messages
    assert "the finding far" in message.text
    assert "400.0" in message.text
    assert scene.GetNumberOfNodes() == nodes
    assert [type(error).__name__ for error in slot_errors] == ["InputError"]
    slot_errors.clear()


def test_choices_survive_saving_and_loading_the_scene(ready, bundle, scene, tmp_path):
    ui = ready.widget.ui
    ui.applyButton.click()
    save_and_reload(scene, tmp_path)
    assert Path(ui.bundlePathLineEdit.currentPath) == bundle
    assert ui.t2wSelector.currentNode().GetName() == "T2W"
    assert ui.findingsSelector.currentNode().GetNumberOfControlPoints() == 2
    assert ui.tableView.mrmlTableNode().GetNumberOfRows() == 2
    assert ui.applyButton.enabled


def test_closing_the_scene_empties_the_panel(ready, scene):
    ui = ready.widget.ui
    ui.applyButton.click()
    scene.Clear(0)
    assert ui.findingsSelector.currentNode() is None
    assert not ui.resultsCollapsibleButton.visible
    assert not ui.applyButton.enabled
