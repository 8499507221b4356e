"""XTL Classify after Apply: findings that are moved, added, removed and zoned; evidence, truth, and a saved scene."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import slicer
from classify_steps import apply, settle
from host.reload import save_and_reload
from lent_worker import wait

pytest_plugins = ["classify_scene"]


@pytest.fixture
def rated(ready, scene):
    """The panel with both findings rated, and slice views to look at them."""
    from XTLLib.scene.views import add_slice_views

    add_slice_views(scene, slicer.util.getNode("T2W"))
    apply(ready)
    settle(ready)
    return ready


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory, bundle) -> Path:
    """The bundle with a calibration: two operating points whose figures are known from what they were made of."""
    from XTLLib.bundle.calibration import fit_calibration

    path = tmp_path_factory.mktemp("calibrated") / "bundle"
    shutil.copytree(bundle, path)
    rng = np.random.default_rng(2)
    truth = np.arange(60) % 2
    scores = np.clip(rng.normal(0.45 + 0.1 * truth, 0.1), 0.01, 0.99)
    calibration = fit_calibration("none", scores, truth, list(range(60)), "sixty made up scores")
    config = path / "configs" / "xtl.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "calibration": calibration.to_dict()}))
    return path


def parameters_of(panel):
    return panel.widget.logic.getParameterNode()


def column(panel, name: str) -> list:
    values = parameters_of(panel).table.GetTable().GetColumnByName(name)
    return [values.GetValue(row) for row in range(values.GetNumberOfTuples())]


def probabilities_of(case, bundle, *places, zones=()) -> list[float]:
    """What the library says of these places (RAS mm)."""
    from XTLLib.bundle.load import load_bundle
    from XTLLib.data.case import Finding
    from XTLLib.inference.classify import classify_case

    findings = tuple(Finding(str(n), tuple(place)) for n, place in enumerate(places, start=1))
    return [r.probability for r in classify_case(replace(case, findings=findings), load_bundle(bundle)).findings]


def test_a_moved_finding_is_rated_again_and_the_others_keep_their_values(rated, case, bundle, messages):
    parameters = parameters_of(rated)
    before = column(rated, "probability")
    worker = rated.widget._panel._background._worker
    held = worker._held
    parameters.findings.SetNthControlPointPositionWorld(0, -3.0, 5.0, 2.0)
    settle(rated)
    (new,) = probabilities_of(case, bundle, (-3.0, 5.0, 2.0))
    after = column(rated, "probability")
    assert after[0] == pytest.approx(new, abs=1e-6)
    assert after[0] != before[0]
    assert after[1] == before[1]
    assert (column(rated, "R")[0], column(rated, "A")[0], column(rated, "S")[0]) == (-3.0, 5.0, 2.0)
    assert parameters.findings.GetNthControlPointLabel(0) == f"1: {new:.2f}"
    ijk = [round(index) for index in case.grid.ras_to_index((-3.0, 5.0, 2.0))]
    assert parameters.labelMap.GetImageData().GetScalarComponentAsDouble(*ijk, 0) == 1
    assert f"{new:.2f}" in rated.widget.ui.statusLabel.text
    assert held is not None
    assert worker._held == held, "the images were not sent again"
    assert not messages


def test_a_finding_that_moves_has_no_rating_until_it_has_a_new_one(rated, expected):
    parameters = parameters_of(rated)
    parameters.findings.SetNthControlPointPositionWorld(1, 0.0, 0.0, 0.0)
    rated.widget._movedTimer.stop()
    rated.widget._panel.section.follow(None)
    assert np.isnan(column(rated, "probability")[1])
    assert column(rated, "warnings")[1] == "not rated yet"
    assert parameters.findings.GetNthControlPointLabel(1) == "2"
    assert column(rated, "probability")[0] == expected.findings[0].probability
    colors = parameters.labelMap.GetDisplayNode().GetColorNode()
    assert colors.GetColorName(2) == "finding 2: not rated"
    rated.widget._movedTimer.start()
    settle(rated)
    assert not np.isnan(column(rated, "probability")[1])


def test_findings_that_are_added_and_removed(rated, case, bundle, expected):
    parameters = parameters_of(rated)
    parameters.findings.AddControlPointWorld(2.0, 3.0, 0.0, "late")
    settle(rated)
    assert column(rated, "finding") == ["1", "2", "late"]
    assert column(rated, "probability")[2] == pytest.approx(
        probabilities_of(case, bundle, (2.0, 3.0, 0.0))[0], abs=1e-6
    )
    parameters.findings.RemoveNthControlPoint(0)
    settle(rated)
    assert column(rated, "finding") == ["2", "late"]
    assert column(rated, "id") == [1, 2]
    assert column(rated, "probability")[0] == expected.findings[1].probability
    label = slicer.util.arrayFromVolume(parameters.labelMap)
    assert set(np.unique(label)) == {0, 1, 2}
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(parameters.labelMap)
    assert legend.GetNumberOfLabels() == 2
    parameters.findings.RemoveAllControlPoints()
    settle(rated)
    assert parameters.table.GetNumberOfRows() == 0
    assert not slicer.util.arrayFromVolume(parameters.labelMap).any()
    assert not rated.widget.ui.applyButton.enabled


def test_a_finding_moved_out_of_the_image_says_so_and_comes_back(rated, messages, expected):
    findings = parameters_of(rated).findings
    findings.SetNthControlPointPositionWorld(0, 400.0, 0.0, 0.0)
    settle(rated)
    assert np.isnan(column(rated, "probability")[0])
    assert column(rated, "warnings")[0].startswith("not rated: the finding 1")
    assert not (slicer.util.arrayFromVolume(parameters_of(rated).labelMap) == 1).any()
    assert "400" in rated.widget.ui.statusLabel.text
    findings.SetNthControlPointPositionWorld(0, *expected.findings[0].finding.position_ras)
    settle(rated)
    assert column(rated, "probability")[0] == pytest.approx(expected.findings[0].probability, abs=1e-6)
    assert not messages


def test_a_renamed_finding_keeps_its_rating(rated, expected):
    parameters_of(rated).findings.SetNthControlPointLabel(0, "left apex")
    settle(rated)
    assert column(rated, "finding") == ["left apex", "2"]
    assert column(rated, "probability")[0] == expected.findings[0].probability
    parameters_of(rated).findings.SetNthControlPointLabel(1, "left apex")
    settle(rated)
    assert "two findings named left apex" in rated.widget.ui.statusLabel.text


def test_a_row_leads_to_its_finding(rated, scene, case):
    ui = rated.widget.ui
    ui.tableView._qobject.selectRow(1)
    to_ras = scene.GetNodeByID("vtkMRMLSliceNodeRed").GetSliceToRAS()
    assert [to_ras.GetElement(row, 3) for row in range(3)] == pytest.approx(case.findings[1].position_ras, abs=1e-3)
    assert slicer.util.getNode("XTL chosen lesion").GetSegmentation().GetNumberOfSegments() == 1
    assert ui.zoneComboBox.enabled
    assert ui.zoneComboBox.currentText == "TZ"
    ui.removeButton.click()
    settle(rated)
    assert column(rated, "finding") == ["1"]
    assert not slicer.util.getNodes("XTL chosen lesion")
    assert not ui.zoneComboBox.enabled


def test_the_zone_can_be_changed_and_is_kept_with_the_point(rated, scene, expected, tmp_path):
    ui = rated.widget.ui
    ui.tableView._qobject.selectRow(0)
    ui.zoneComboBox.currentIndex = 3
    settle(rated)
    assert parameters_of(rated).findings.GetNthControlPointDescription(0) == "AS"
    assert column(rated, "zone") == ["AS", "TZ"]
    assert column(rated, "probability")[0] == expected.findings[0].probability, "the model does not look at zones"
    ui.zoneComboBox.currentIndex = 0
    settle(rated)
    assert column(rated, "zone") == ["", "TZ"]
    save_and_reload(scene, tmp_path)
    settle(rated)
    assert ui.zoneComboBox.enabled
    assert ui.zoneComboBox.currentIndex == 0


def test_a_model_with_zones_rates_a_finding_anew_when_its_zone_changes(rated, scene, tmp_path):
    rated.widget._panel.section.live._uses_zones = True
    before = column(rated, "probability")
    parameters_of(rated).findings.SetNthControlPointDescription(1, "SV")
    assert rated.widget._panel.section.live.follow()
    assert [due.finding.zone for due in rated.widget._panel.section.live.due()] == ["SV"]
    settle(rated)
    assert column(rated, "zone") == ["PZ", "SV"]
    assert column(rated, "probability") == pytest.approx(before, abs=1e-6), "this network is the same for all zones"


def test_all_of_it_survives_saving_and_loading(rated, scene, tmp_path, case, bundle, messages):
    ui = rated.widget.ui
    ui.evidenceComboBox.currentIndex = 1
    apply(rated)
    settle(rated)
    ui.tableView._qobject.selectRow(1)
    before = {name: column(rated, name) for name in ("finding", "zone", "probability", "R", "warnings")}
    save_and_reload(scene, tmp_path)
    settle(rated)
    shown = before.pop("probability")
    assert {name: column(rated, name) for name in before} == before
    assert column(rated, "probability") == pytest.approx(shown, abs=1e-5), "a table's file has six digits"
    assert [one.rated.probability for one in rated.widget._panel.section.live.points] == shown
    assert parameters_of(rated).evidence == "grad-cam"
    assert ui.evidenceComboBox.currentText == "Grad-CAM"
    assert slicer.util.getNode("XTL chosen lesion").GetSegmentation().GetNumberOfSegments() == 1
    assert slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(parameters_of(rated).labelMap) is not None
    parameters_of(rated).findings.SetNthControlPointPositionWorld(0, -3.0, 5.0, 2.0)
    settle(rated)
    assert column(rated, "probability")[0] == pytest.approx(
        probabilities_of(case, bundle, (-3.0, 5.0, 2.0))[0], abs=1e-6
    )
    assert column(rated, "probability")[1] == shown[1]
    assert len(evidence(rated, 0)) == 1, "asked for as the other rows were"
    assert not messages


def test_a_point_that_was_moved_while_nobody_looked(rated, scene, case, bundle):
    rated.exit()
    rated.widget._movedTimer.stop()
    parameters_of(rated).findings.SetNthControlPointPositionWorld(0, -3.0, 5.0, 2.0)
    rated.widget._movedTimer.stop()
    rated.enter()
    settle(rated)
    assert column(rated, "probability")[0] == pytest.approx(
        probabilities_of(case, bundle, (-3.0, 5.0, 2.0))[0], abs=1e-6
    )


def evidence(panel, row: int) -> list:
    from XTLLib.scene.evidence import evidence_of

    parameters = parameters_of(panel)
    return evidence_of(parameters.table, parameters.findings.GetNthControlPointID(row))


def test_evidence_maps_lie_over_the_image_and_go_with_their_finding(rated, scene, case, messages):
    ui, layers = rated.widget.ui, scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    ui.evidenceComboBox.currentIndex = 3
    apply(rated)
    settle(rated)
    assert not messages
    for row, finding in enumerate(case.findings):
        maps = evidence(rated, row)
        assert [node.GetAttribute("XTL.EvidenceKind") for node in maps] == ["grad-cam", "occlusion"]
        for node in maps:
            bounds = [0.0] * 6
            node.GetRASBounds(bounds)
            middle = np.array(bounds).reshape(3, 2).mean(axis=1)
            assert np.linalg.norm(middle[:2] - finding.position_ras[:2]) < 12.0, "within the patch of 24 mm"
            assert node.GetImageData().GetNumberOfPoints() < 64 * 64 * 12, "cut to what it says"
    ui.tableView._qobject.selectRow(1)
    assert layers.GetForegroundVolumeID() == evidence(rated, 1)[0].GetID()
    assert scene.GetNodeByID("vtkMRMLSliceNodeRed").GetUseLabelOutline(), "the ball does not hide it"
    assert layers.GetBackgroundVolumeID() == slicer.util.getNode("T2W").GetID()
    gone, kept = evidence(rated, 0), evidence(rated, 1)
    parameters_of(rated).findings.RemoveNthControlPoint(0)
    settle(rated)
    assert not any(scene.IsNodePresent(node) for node in gone)
    assert all(scene.IsNodePresent(node) for node in kept)
    nodes = scene.GetNumberOfNodes()
    parameters_of(rated).findings.SetNthControlPointPositionWorld(0, 0.0, 0.0, 0.0)
    settle(rated)
    assert len(evidence(rated, 0)) == 2
    assert scene.GetNumberOfNodes() == nodes
    ui.evidenceComboBox.currentIndex = 0
    apply(rated)
    settle(rated)
    assert evidence(rated, 0) == []
    assert layers.GetForegroundVolumeID() is None
    assert not scene.GetNodeByID("vtkMRMLSliceNodeRed").GetUseLabelOutline()


def test_the_operating_point_is_shown_and_decides_the_class(rated, calibrated, messages, artifacts):
    from XTLLib.bundle.load import read_bundle

    ui = rated.widget.ui
    assert "no calibration" in ui.operatingPointLabel.text
    assert not ui.operatingPointComboBox.enabled
    ui.bundlePathLineEdit.currentPath = str(calibrated)
    points = read_bundle(calibrated).calibration.operating_points
    ui.advancedCollapsibleButton.collapsed = False
    for index, point in enumerate(points):
        ui.operatingPointComboBox.currentIndex = index
        assert f"probability of {point.threshold:.2f}" in ui.operatingPointLabel.text
        assert f"sensitivity {point.sensitivity:.2f}" in ui.operatingPointLabel.text
        apply(rated)
        settle(rated)
        assert column(rated, "threshold") == [point.threshold] * 2
        reached = [probability >= point.threshold for probability in column(rated, "probability")]
        assert column(rated, "class") == ["significant" if yes else "not significant" for yes in reached]
        assert column(rated, "ppv") == [point.ppv] * 2
    assert not messages


def test_findings_come_from_clicks_and_from_a_segmentation(panel, bundle, scene, case):
    from XTLLib.data.volume import Volume
    from XTLLib.scene.nodes import label_to_node

    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    ui.placeButton.click()
    node = scene.GetNodeByID(scene.GetNodeByID("vtkMRMLSelectionNodeSingleton").GetActivePlaceNodeID())
    node.AddControlPointWorld(8.0, -6.0, 3.0)
    node.AddControlPointWorld(-7.0, 9.0, -4.0)
    ui.placeButton.click()
    findings = parameters_of(panel).findings
    assert [findings.GetNthControlPointLabel(n) for n in range(2)] == ["1", "2"]
    assert ui.applyButton.enabled
    assert not ui.fromLesionsButton.enabled
    mask = np.zeros(case.grid.shape, np.uint8)
    mask[5, 20:23, 30:33] = 1
    ui.lesionsSelector.setCurrentNode(label_to_node(Volume(mask, case.grid, "lesions"), "lesions", scene))
    ui.fromLesionsButton.click()
    position = [0.0] * 3
    findings.GetNthControlPointPositionWorld(2, position)
    assert position == pytest.approx(list(case.grid.index_to_ras((31, 21, 5))), abs=1e-6)
    assert findings.GetNthControlPointLabel(2) == "3"
    apply(panel)
    assert column(panel, "finding") == ["1", "2", "3"]


@pytest.mark.parametrize("kind", ["label map", "segmentation"])
def test_zones_are_guessed_from_a_mask(panel, scene, case, kind):
    from XTLLib.data.case import Finding
    from XTLLib.data.volume import Volume
    from XTLLib.scene.findings import findings_to_node
    from XTLLib.scene.nodes import label_to_node

    inner, outer = (0.0, 0.0, 0.0), (0.0, -20.0, 0.0)
    points = findings_to_node(
        [Finding("1", inner), Finding("2", outer), Finding("3", (*inner[:2], 3.0), "AS")], "f", scene
    )
    coordinates = case.grid.index_to_ras(np.stack(np.indices(case.grid.shape)[::-1], axis=-1))
    zones = np.where(coordinates[..., 1] < -10, 1, 2).astype(np.uint8)  # PZ behind TZ
    node = label_to_node(Volume(zones, case.grid, "zones"), "zones", scene)
    if kind == "segmentation":
        labels, node = node, scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "zones of the prostate")
        slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
        names = ("peripheral zone", "TZ")
        for index, name in enumerate(names):
            node.GetSegmentation().GetNthSegment(index).SetName(name)
    ui = panel.widget.ui
    ui.findingsSelector.setCurrentNode(points)
    ui.zonesSelector.setCurrentNode(node)
    ui.guessZonesButton.click()
    assert [points.GetNthControlPointDescription(n) for n in range(3)] == ["TZ", "PZ", "AS"]
    assert "Finding 1: TZ" in ui.statusLabel.text


def test_plots_of_the_truth(rated, scene, tmp_path, expected):
    ui = rated.widget.ui
    first_is_higher = expected.findings[0].probability > expected.findings[1].probability
    table = tmp_path / "truth.csv"
    rows = [f"{n},0,0,{n},{'TRUE' if (n == 1) != first_is_higher else 'FALSE'}" for n in (1, 2)]
    table.write_text("finding,r,a,s,significant\n" + "\n".join(rows) + "\n")
    assert not ui.truthButton.enabled
    ui.truthPathLineEdit.currentPath = str(table)
    ui.truthButton.click()
    assert "AUC 0.00 on 2 findings" in ui.statusLabel.text, "the higher one is the wrong one"
    table.write_text("finding,r,a,s,significant\n1,0,0,1,TRUE\n2,0,0,2,TRUE\n")
    nodes = scene.GetNumberOfNodes()
    ui.truthButton.click()
    assert "both classes" in ui.statusLabel.text
    assert scene.GetNumberOfNodes() == nodes


def test_apply_while_a_finding_is_rated_again(rated, messages, case, bundle):
    findings = parameters_of(rated).findings
    findings.SetNthControlPointPositionWorld(0, -3.0, 5.0, 2.0)
    wait(lambda: rated.widget._panel._due is not None)
    apply(rated)
    settle(rated)
    assert column(rated, "probability")[0] == pytest.approx(
        probabilities_of(case, bundle, (-3.0, 5.0, 2.0))[0], abs=1e-6
    )
    assert not messages


def test_a_point_that_moves_while_apply_runs(ready, case, bundle, messages):
    ready.widget.ui.applyButton.click()
    parameters_of(ready).findings.SetNthControlPointPositionWorld(0, -3.0, 5.0, 2.0)
    settle(ready)
    assert column(ready, "probability")[0] == pytest.approx(
        probabilities_of(case, bundle, (-3.0, 5.0, 2.0))[0], abs=1e-6
    )
    assert not messages


def test_the_scene_closed_and_nodes_deleted_while_a_finding_is_rated_again(rated, scene, messages):
    findings = parameters_of(rated).findings
    findings.SetNthControlPointPositionWorld(0, -3.0, 5.0, 2.0)
    wait(lambda: rated.widget._panel._due is not None)
    scene.RemoveNode(findings)
    settle(rated)
    assert "Choose" in rated.widget.ui.statusLabel.text or "Place" in rated.widget.ui.applyButton.toolTip
    scene.Clear(0)
    settle(rated)
    assert scene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode") == 0
    assert not messages


def test_another_model_does_not_rate_a_single_finding(rated, tmp_path, bundle):
    other = tmp_path / "bundle"
    shutil.copytree(bundle, other)
    config = other / "configs" / "xtl.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "name": "another"}))
    rated.widget.ui.bundlePathLineEdit.currentPath = str(other)
    parameters_of(rated).findings.SetNthControlPointPositionWorld(0, -3.0, 5.0, 2.0)
    settle(rated)
    assert np.isnan(column(rated, "probability")[0])
    assert "Press Apply" in rated.widget.ui.statusLabel.text


def test_pictures_of_the_panel(ready, calibrated, artifacts, scene):
    """To be looked at: everything open, with results, at both scales."""
    ui = ready.widget.ui
    for name in ("advanced", "outputs"):
        getattr(ui, f"{name}CollapsibleButton").collapsed = False
    ui.bundlePathLineEdit.currentPath = str(calibrated)
    ui.evidenceComboBox.currentIndex = 1
    ui.viewsSpinBox.value = 2
    apply(ready)
    settle(ready)
    ui.tableView._qobject.selectRow(0)
    for scale, name in ((1, "XTLClassify.png"), (2, "XTLClassify@2x.png")):
        ready.grab(artifacts / name, scale=scale)
        assert (artifacts / name).stat().st_size > 10_000
