"""XTLSegment over slicer-core: the panel applied for real, with an untrained network on a small phantom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer
from host.reload import save_and_reload
from progress_hooks import at_progress, watch_progress


@pytest.fixture(scope="module")
def case():
    from XTLLib.scene.self_test import small_brain

    return small_brain()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    from XTLLib.scene.self_test import write_segmentation_bundle

    return write_segmentation_bundle(tmp_path_factory.mktemp("ms") / "bundle")


@pytest.fixture(scope="module")
def expected(case, bundle):
    """The same case and bundle without Slicer."""
    from XTLLib.bundle.load import load_bundle
    from XTLLib.inference.segment import segment_case

    return segment_case(case, load_bundle(bundle))


@pytest.fixture
def panel(open_panel, scene, case):
    from XTLLib.scene.inputs import add_case

    add_case(case, scene)
    return open_panel("XTLSegment")


def test_volumes_are_recognised_by_their_names(panel):
    ui = panel.widget.ui
    assert [getattr(ui, f"{n}Selector").currentNode().GetName() for n in ("flair", "t1", "t2")] == ["FLAIR", "T1", "T2"]
    assert ui.pdSelector.currentNode() is None


def test_apply_waits_for_what_is_missing(panel, bundle, tmp_path):
    ui = panel.widget.ui

    def told() -> str:
        assert not ui.applyButton.enabled
        assert ui.applyButton.toolTip == ui.statusLabel.text
        return ui.statusLabel.text

    assert "bundle" in told()
    ui.bundlePathLineEdit.currentPath = str(tmp_path / "absent")
    assert "absent" in told()
    ui.bundlePathLineEdit.currentPath = str(bundle)
    assert ui.applyButton.enabled
    assert "untrained-ms" in ui.bundleLabel.text
    ui.t1Selector.setCurrentNode(None)
    assert "T1" in told()
    ui.t1Selector.setCurrentNode(slicer.util.getNode("FLAIR"))
    assert "different" in told()
    ui.t1Selector.setCurrentNode(slicer.util.getNode("T1"))
    assert ui.applyButton.enabled
    assert not ui.pdSelector.enabled, "the bundle takes no PD"


def test_a_bundle_of_another_task_is_refused(panel, tmp_path):
    from XTLLib.scene.self_test import write_classification_bundle

    panel.widget.ui.bundlePathLineEdit.currentPath = str(write_classification_bundle(tmp_path / "bundle"))
    assert "classification" in panel.widget.ui.statusLabel.text
    assert not panel.widget.ui.applyButton.enabled


def test_the_bundle_s_settings_are_shown_and_can_be_left(panel, bundle):
    from XTLLib.bundle.load import read_bundle

    ui = panel.widget.ui
    of_bundle = read_bundle(bundle).threshold
    ui.thresholdSlider.value = 0.9
    ui.bundlePathLineEdit.currentPath = str(bundle)
    assert panel.widget.logic.getParameterNode().threshold == of_bundle
    assert ui.thresholdSlider.value == pytest.approx(of_bundle, abs=0.005)
    assert ui.minimumVolumeSpinBox.value == 128.0
    assert not ui.thresholdSlider.enabled
    ui.bundleSettingsCheckBox.checked = False
    assert ui.thresholdSlider.enabled
    ui.thresholdSlider.value = 0.7
    assert panel.widget.logic.getParameterNode().threshold == pytest.approx(0.7)
    ui.bundleSettingsCheckBox.checked = True
    assert panel.widget.logic.getParameterNode().threshold == of_bundle


def test_apply_puts_the_numbers_of_the_library_into_the_scene(panel, bundle, expected, messages, artifacts):
    ui = panel.widget.ui
    panel.grab(artifacts / "XTLSegment-empty.png")
    ui.bundlePathLineEdit.currentPath = str(bundle)
    ui.outputsCollapsibleButton.collapsed = False
    seen = watch_progress(panel)
    ui.applyButton.click()

    assert not messages
    assert seen == sorted(seen)
    assert len(seen) > 3
    parameters = panel.widget.logic.getParameterNode()
    label = slicer.util.arrayFromVolume(parameters.labelMap)
    assert np.array_equal(label, expected.label.array)
    assert np.array_equal(slicer.util.arrayFromVolume(parameters.probability), expected.probability.array)
    assert parameters.table.GetNumberOfRows() == len(expected.lesions) > 0
    assert list(slicer.util.arrayFromTableColumn(parameters.table, "volume")) == pytest.approx(
        [lesion.volume_mm3 for lesion in expected.lesions]
    )
    segment = parameters.segmentation.GetSegmentation().GetNthSegmentID(0)
    flair = slicer.util.getNode("FLAIR")
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(parameters.segmentation, segment, flair)
    assert np.array_equal(mask > 0, label > 0)

    assert str(len(expected.lesions)) in ui.statusLabel.text
    assert ui.tableView.mrmlTableNode() is parameters.table
    assert ui.applyButton.text == "Apply"
    assert ui.applyButton.enabled
    assert ui.inputsCollapsibleButton.enabled
    assert not ui.progressBar.visible
    panel.grab(artifacts / "XTLSegment.png")
    panel.grab(artifacts / "XTLSegment@2x.png", scale=2)


def test_a_second_apply_with_own_settings_fills_the_same_nodes(panel, bundle, scene):
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    ui.applyButton.click()
    nodes = scene.GetNumberOfNodes()
    probability = slicer.util.arrayFromVolume(panel.widget.logic.getParameterNode().probability)
    threshold = round(float(np.quantile(probability, 0.999)), 2)
    ui.bundleSettingsCheckBox.checked = False
    ui.thresholdSlider.value = threshold
    ui.minimumVolumeSpinBox.value = 0
    ui.applyButton.click()
    assert scene.GetNumberOfNodes() == nodes
    label = slicer.util.arrayFromVolume(ui.labelMapSelector.currentNode())
    assert (label > 0).sum() == (probability >= threshold).sum() > 0


def test_cancel_leaves_the_scene_as_it_was(panel, bundle, scene, messages, artifacts):
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    nodes = scene.GetNumberOfNodes()
    texts = []

    def press_cancel() -> None:
        texts.append(ui.applyButton.text)
        assert ui.progressBar.visible
        assert not ui.inputsCollapsibleButton.enabled
        panel.grab(artifacts / "XTLSegment-running.png")
        ui.applyButton.click()

    at_progress(panel, 2, press_cancel)
    ui.applyButton.click()
    assert texts == ["Cancel"]
    assert scene.GetNumberOfNodes() == nodes
    assert not messages
    assert "as it was" in ui.statusLabel.text
    assert ui.applyButton.enabled
    ui.applyButton.click()
    assert scene.GetNumberOfNodes() > nodes, "after a cancel, Apply runs again"


def test_closing_the_scene_while_it_runs_is_a_cancel(panel, bundle, scene, messages):
    panel.widget.ui.bundlePathLineEdit.currentPath = str(bundle)
    at_progress(panel, 2, lambda: scene.Clear(0))
    panel.widget.ui.applyButton.click()
    assert not messages
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert not panel.widget.ui.applyButton.enabled


def test_bad_input_is_one_message_that_names_it(panel, bundle, scene, messages, slot_errors):
    volume = slicer.util.getNode("T1")
    slicer.util.arrayFromVolume(volume)[:] = 0
    moved = slicer.vtkMRMLLinearTransformNode()
    scene.AddNode(moved)
    matrix = slicer.util.vtkMatrixFromArray(np.array([[1.0, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    moved.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(moved.GetID())
    panel.widget.ui.bundlePathLineEdit.currentPath = str(bundle)
    nodes = scene.GetNumberOfNodes()
    panel.widget.ui.applyButton.click()
    (message,) = messages
    assert message.text.startswith("The lesions were not segmented.\n\nT1 (T1) covers only 0%")
    assert scene.GetNumberOfNodes() == nodes
    assert panel.widget.ui.applyButton.enabled
    (error,) = slot_errors  # as in Slicer, the traceback goes to the console as well
    assert type(error).__name__ == "InputError"
    slot_errors.clear()


def test_choices_survive_saving_and_loading_the_scene(panel, bundle, scene, tmp_path):
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    ui.bundleSettingsCheckBox.checked = False
    ui.thresholdSlider.value = 0.62
    ui.minimumVolumeSpinBox.value = 12.5
    ui.applyButton.click()
    save_and_reload(scene, tmp_path)
    assert Path(ui.bundlePathLineEdit.currentPath) == bundle
    assert ui.flairSelector.currentNode().GetName() == "FLAIR"
    assert ui.segmentationSelector.currentNode().GetName() == "FLAIR MS lesions"
    assert not ui.bundleSettingsCheckBox.checked
    assert ui.thresholdSlider.value == pytest.approx(0.62)
    assert ui.minimumVolumeSpinBox.value == pytest.approx(12.5)
    assert ui.applyButton.enabled


def test_closing_the_scene_empties_the_panel(panel, bundle, scene):
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    scene.Clear(0)
    assert ui.flairSelector.currentNode() is None
    assert ui.bundlePathLineEdit.currentPath == ""
    assert not ui.applyButton.enabled
    assert ui.statusLabel.text.startswith("Choose a bundle")


def test_leaving_the_module_stops_listening(panel, bundle):
    ui = panel.widget.ui
    parameters = panel.widget.logic.getParameterNode()
    panel.exit()
    parameters.bundle = bundle
    assert ui.bundlePathLineEdit.currentPath == ""
    panel.enter()
    assert Path(ui.bundlePathLineEdit.currentPath) == bundle


def test_logic_runs_without_a_panel_and_with_the_bundle_s_own_settings(scene, case, bundle, expected):
    from XTLLib.scene.inputs import add_case

    from XTLSegment import XTLSegmentLogic

    nodes = XTLSegmentLogic().process(add_case(case, scene).channels, bundle)
    assert np.array_equal(slicer.util.arrayFromVolume(nodes.label), expected.label.array)
