"""XTLSegment over slicer-core: the panel applied for real, with an untrained network on a small phantom."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
from host.reload import save_and_reload
from lent_worker import Lent, wait


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


@pytest.fixture(scope="module")
def lent_worker():
    from XTLLib.inference.client import InferenceWorker

    worker = InferenceWorker()
    yield worker
    worker.close()


@pytest.fixture
def panel(open_panel, scene, case, lent_worker, monkeypatch):
    """The panel on a case, with a worker that is warm from earlier tests."""
    from XTLLib.scene.inputs import add_case

    monkeypatch.setattr("XTLLib.inference.client.InferenceWorker", lambda: Lent(lent_worker))
    add_case(case, scene)
    return open_panel("XTLSegment")


@pytest.fixture
def own_panel(open_panel, scene, case):
    """The panel on a case, with a worker process that no other test has."""
    from XTLLib.scene.inputs import add_case

    add_case(case, scene)
    return open_panel("XTLSegment")


def is_running(panel) -> bool:
    return panel.widget._panel.run.is_running


def finish(panel) -> None:
    wait(lambda: not is_running(panel))


def apply(panel) -> None:
    panel.widget.ui.applyButton.click()
    finish(panel)


def worker_of(panel):
    return panel.widget._panel._background._worker


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


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
    assert ui.bundleSettingsCheckBox.checked
    ui.thresholdSlider.value = 0.7
    assert not ui.bundleSettingsCheckBox.checked, "moving a slider leaves the bundle's settings"
    assert panel.widget.logic.getParameterNode().threshold == pytest.approx(0.7)
    ui.bundleSettingsCheckBox.checked = True
    assert panel.widget.logic.getParameterNode().threshold == of_bundle


def test_apply_puts_the_numbers_of_the_library_into_the_scene(panel, bundle, expected, messages, artifacts):
    ui = panel.widget.ui
    panel.grab(artifacts / "XTLSegment-empty.png")
    ui.bundlePathLineEdit.currentPath = str(bundle)
    ui.outputsCollapsibleButton.collapsed = False
    seen = [0]
    ui.applyButton.click()
    assert ui.applyButton.text == "Cancel"
    assert is_running(panel), "the click returns at once"
    nodes = slicer.mrmlScene.GetNumberOfNodes()

    def look() -> bool:
        if is_running(panel):
            assert slicer.mrmlScene.GetNumberOfNodes() == nodes, "the scene changes at the end only"
            if ui.progressBar.value != seen[-1]:
                seen.append(ui.progressBar.value)
        return not is_running(panel)

    wait(look)

    assert not messages
    assert seen == sorted(seen)
    assert seen[-1] > 0
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
    apply(panel)
    nodes = scene.GetNumberOfNodes()
    probability = slicer.util.arrayFromVolume(panel.widget.logic.getParameterNode().probability)
    threshold = round(float(np.quantile(probability, 0.999)), 2)
    ui.bundleSettingsCheckBox.checked = False
    ui.thresholdSlider.value = threshold
    ui.minimumVolumeSpinBox.value = 0
    apply(panel)
    assert scene.GetNumberOfNodes() == nodes
    label = slicer.util.arrayFromVolume(ui.labelMapSelector.currentNode())
    assert (label > 0).sum() == (probability >= threshold).sum() > 0


def test_cancel_leaves_the_scene_as_it_was(panel, bundle, scene, messages, artifacts):
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    nodes = scene.GetNumberOfNodes()
    ui.applyButton.click()
    assert ui.applyButton.text == "Cancel"
    assert ui.progressBar.visible
    assert not ui.inputsCollapsibleButton.enabled
    panel.grab(artifacts / "XTLSegment-running.png")
    ui.applyButton.click()
    finish(panel)
    assert scene.GetNumberOfNodes() == nodes
    assert not messages
    assert "as it was" in ui.statusLabel.text
    assert ui.applyButton.enabled
    apply(panel)
    assert scene.GetNumberOfNodes() > nodes, "after a cancel, Apply runs again"


def test_closing_the_scene_while_it_runs_is_a_cancel(panel, bundle, scene, messages):
    panel.widget.ui.bundlePathLineEdit.currentPath = str(bundle)
    panel.widget.ui.applyButton.click()
    scene.Clear(0)
    finish(panel)
    assert not messages
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert not panel.widget.ui.applyButton.enabled


def test_a_result_that_came_just_before_the_scene_was_closed_is_dropped(panel, bundle, scene, messages):
    panel.widget.ui.bundlePathLineEdit.currentPath = str(bundle)
    panel.widget._runTimer.stop()
    panel.widget.ui.applyButton.click()
    panel.widget._runTimer.stop()
    background = panel.widget._panel._background
    wait(lambda: background.poll() is None or not background.is_running)
    scene.Clear(0)
    panel.widget._panel.tick()
    assert not is_running(panel)
    assert not messages
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_an_input_and_an_output_deleted_while_it_runs(panel, bundle, scene, messages, expected):
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    apply(panel)
    ui.applyButton.click()
    for name in ("FLAIR", "FLAIR MS lesion label map"):
        scene.RemoveNode(slicer.util.getNode(name))
    finish(panel)
    assert not messages
    assert "Removed from the scene meanwhile: FLAIR." in ui.statusLabel.text
    assert "made anew" in ui.statusLabel.text
    parameters = panel.widget.logic.getParameterNode()
    assert parameters.labelMap.GetScene() is scene
    assert np.array_equal(slicer.util.arrayFromVolume(parameters.labelMap), expected.label.array)
    assert parameters.table.GetNumberOfRows() == len(expected.lesions)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_worker_that_is_killed_is_one_message_and_the_next_apply_runs(own_panel, bundle, scene, messages):
    panel = own_panel
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    nodes = scene.GetNumberOfNodes()
    ui.applyButton.click()
    wait(lambda: worker_of(panel).pid is not None)
    os.kill(worker_of(panel).pid, signal.SIGKILL)
    finish(panel)
    (message,) = messages
    assert "ended unexpectedly" in message.text
    assert "Traceback" not in message.text
    assert scene.GetNumberOfNodes() == nodes
    assert "as it was" in ui.statusLabel.text
    apply(panel)
    assert scene.GetNumberOfNodes() > nodes
    assert len(messages) == 1


def test_a_full_disk_is_one_message(panel, bundle, scene, messages, monkeypatch):
    from XTLLib.errors import XTLError
    from XTLLib.inference.exchange import ExchangeFolder

    def full(self, array):
        raise XTLError("12 MiB cannot be handed over in /dev/shm (No space left on device)", "Free some memory")

    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    nodes = scene.GetNumberOfNodes()
    with monkeypatch.context() as patched:
        patched.setattr(ExchangeFolder, "put", full)
        apply(panel)
    (message,) = messages
    assert "No space left" in message.text
    assert scene.GetNumberOfNodes() == nodes
    assert ui.applyButton.text == "Apply"
    assert ui.applyButton.enabled
    apply(panel)
    assert scene.GetNumberOfNodes() > nodes


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_closing_the_panel_while_it_runs_leaves_nothing_behind(
    own_panel, bundle, scene, messages, monkeypatch, tmp_path
):
    panel = own_panel
    exchanged = tmp_path / "exchanged"
    exchanged.mkdir()
    monkeypatch.setattr("XTLLib.inference.exchange._base_folder", lambda: exchanged)
    panel.widget.ui.bundlePathLineEdit.currentPath = str(bundle)
    panel.widget.ui.applyButton.click()
    wait(lambda: worker_of(panel).pid is not None)
    pid = worker_of(panel).pid
    nodes = scene.GetNumberOfNodes()
    panel.widget.cleanup()
    wait(lambda: not is_alive(pid))
    assert not list(exchanged.iterdir())
    assert scene.GetNumberOfNodes() == nodes
    assert not messages


def test_registration_leaves_transforms_and_hardens_nothing(panel, bundle, scene, messages):
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    ui.registerCheckBox.checked = True
    before = slicer.util.arrayFromVolume(slicer.util.getNode("T1")).copy()
    apply(panel)
    assert not messages
    transform = slicer.util.getNode("T1").GetParentTransformNode()
    assert transform.GetName() == "T1 to FLAIR"
    assert slicer.util.getNode("FLAIR").GetParentTransformNode() is None
    assert np.array_equal(slicer.util.arrayFromVolume(slicer.util.getNode("T1")), before)


def test_a_channel_that_the_bundle_can_do_without_may_be_missing(panel, bundle, scene, messages, tmp_path):
    import json
    import shutil

    path = tmp_path / "bundle"
    shutil.copytree(bundle, path)
    config = path / "configs" / "xtl.json"
    document = json.loads(config.read_text())
    document["preparation"]["optional"] = ["T2"]
    config.write_text(json.dumps(document))
    ui = panel.widget.ui
    ui.t2Selector.setCurrentNode(None)
    ui.bundlePathLineEdit.currentPath = str(bundle)
    assert "T2" in ui.statusLabel.text
    ui.bundlePathLineEdit.currentPath = str(path)
    assert ui.applyButton.enabled
    apply(panel)
    assert not messages
    assert "T2" in ui.statusLabel.text, "it is said"
    assert panel.widget.logic.getParameterNode().table.GetNumberOfRows() > 0


def test_fifty_clicks_in_a_row(panel, bundle, scene, messages, expected):
    """Each click but the first is a cancel or falls on a button that waits for one."""
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    for number in range(50):
        ui.applyButton.click()
        if number % 5 == 0:
            slicer.app.processEvents()
    finish(panel)
    if panel.widget.logic.getParameterNode().labelMap is None:  # the last click was a cancel
        apply(panel)
    assert not messages
    label = slicer.util.arrayFromVolume(panel.widget.logic.getParameterNode().labelMap)
    assert np.array_equal(label, expected.label.array)
    assert scene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode") == 1


def test_choosing_a_bundle_warms_the_worker(own_panel, bundle):
    panel = own_panel
    assert worker_of(panel).pid is None
    panel.widget.ui.bundlePathLineEdit.currentPath = str(bundle)
    wait(lambda: worker_of(panel).pid is not None)
    wait(lambda: not panel.widget._panel._background.is_active)
    pid = worker_of(panel).pid
    apply(panel)
    assert worker_of(panel).pid == pid


def test_bad_input_is_one_message_that_names_it(panel, bundle, scene, messages):
    volume = slicer.util.getNode("T1")
    slicer.util.arrayFromVolume(volume)[:] = 0
    moved = slicer.vtkMRMLLinearTransformNode()
    scene.AddNode(moved)
    matrix = slicer.util.vtkMatrixFromArray(np.array([[1.0, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    moved.SetMatrixTransformToParent(matrix)
    volume.SetAndObserveTransformNodeID(moved.GetID())
    panel.widget.ui.bundlePathLineEdit.currentPath = str(bundle)
    nodes = scene.GetNumberOfNodes()
    apply(panel)
    (message,) = messages
    assert message.text.startswith("The lesions were not segmented.\n\nT1 (T1) covers only 0%")
    assert scene.GetNumberOfNodes() == nodes
    assert panel.widget.ui.applyButton.enabled


def test_choices_survive_saving_and_loading_the_scene(panel, bundle, scene, tmp_path):
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    ui.bundleSettingsCheckBox.checked = False
    ui.thresholdSlider.value = 0.62
    ui.minimumVolumeSpinBox.value = 12.5
    apply(panel)
    save_and_reload(scene, tmp_path)
    assert Path(ui.bundlePathLineEdit.currentPath) == bundle
    assert ui.flairSelector.currentNode().GetName() == "FLAIR"
    assert ui.segmentationSelector.currentNode().GetName() == "FLAIR MS lesions"
    assert not ui.bundleSettingsCheckBox.checked
    assert ui.thresholdSlider.value == pytest.approx(0.62)
    assert ui.minimumVolumeSpinBox.value == pytest.approx(12.5)
    assert ui.applyButton.enabled


def test_sliders_answer_at_once_and_rows_lead_to_lesions(panel, bundle, scene, messages, artifacts, tmp_path):
    from XTLLib.inference.lesions import find_lesions
    from XTLLib.scene.nodes import volume_from_node
    from XTLLib.scene.views import add_slice_views

    ui = panel.widget.ui
    add_slice_views(scene, slicer.util.getNode("FLAIR"))
    ui.bundlePathLineEdit.currentPath = str(bundle)
    apply(panel)
    parameters = panel.widget.logic.getParameterNode()
    before = parameters.table.GetNumberOfRows()
    ui.thresholdSlider.value = parameters.threshold + 0.01
    _, lesions = find_lesions(volume_from_node(parameters.probability), parameters.threshold, parameters.minimumVolume)
    assert parameters.table.GetNumberOfRows() == len(lesions) != before
    assert ui.summaryLabel.text.startswith(f"{len(lesions)} lesions")
    assert worker_of(panel).is_busy is False

    view = ui.tableView._qobject
    view.selectRow(1)
    to_ras = scene.GetNodeByID("vtkMRMLSliceNodeRed").GetSliceToRAS()
    assert [to_ras.GetElement(row, 3) for row in range(3)] == pytest.approx(lesions[1].position_ras, abs=1e-3)
    assert panel.widget.logic.getParameterNode().lesion == 2
    save_and_reload(scene, tmp_path)
    assert panel.widget.logic.getParameterNode().lesion == 2
    outline = slicer.util.getNode("XTL chosen lesion")
    assert outline.GetSegmentation().GetNumberOfSegments() == 1
    ui.outputsCollapsibleButton.collapsed = True
    panel.grab(artifacts / "XTLSegment-interactive.png")
    assert not messages


def place(scene, ras) -> None:
    """Click in a view at a point, as the markups module hears it."""
    node = scene.GetNodeByID(scene.GetNodeByID("vtkMRMLSelectionNodeSingleton").GetActivePlaceNodeID())
    node.AddControlPointWorld(*ras)


def test_clicks_in_the_views_edit_and_can_be_undone(panel, bundle, scene, messages):
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    assert not ui.removeLesionButton.enabled
    apply(panel)
    parameters = panel.widget.logic.getParameterNode()
    nodes = scene.GetNumberOfNodes()
    first = [slicer.util.arrayFromTableColumn(parameters.table, axis)[0] for axis in "RAS"]
    rows = parameters.table.GetNumberOfRows()
    voxel = np.unravel_index(
        np.argmax(slicer.util.arrayFromVolume(parameters.probability)),
        slicer.util.arrayFromVolume(parameters.probability).shape,
    )
    peak = panel.widget._panel.section.lesions._finder().probability.grid.index_to_ras(voxel[::-1])
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    ui.removeLesionButton.click()
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    place(scene, peak)
    assert parameters.table.GetNumberOfRows() == rows - 1
    assert ui.undoButton.enabled
    place(scene, (500.0, 0.0, 0.0))
    assert "outside of the probability map" in ui.statusLabel.text
    ui.addLesionButton.click()
    assert not ui.removeLesionButton.checked
    place(scene, peak)
    assert parameters.table.GetNumberOfRows() >= rows
    ui.addLesionButton.click()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
    assert scene.GetNumberOfNodes() == nodes, "no point is left behind"
    ui.undoButton.click()
    ui.undoButton.click()
    assert parameters.table.GetNumberOfRows() == rows
    assert not ui.undoButton.enabled
    assert ui.redoButton.enabled
    assert [slicer.util.arrayFromTableColumn(parameters.table, axis)[0] for axis in "RAS"] == first
    assert not messages


def test_escape_ends_the_clicking(panel, bundle, scene):
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    apply(panel)
    ui.addLesionButton.click()
    scene.GetNodeByID("vtkMRMLInteractionNodeSingleton").SwitchToViewTransformMode()
    assert not ui.addLesionButton.checked
    ui.addLesionButton.click()
    panel.exit()
    assert not ui.addLesionButton.checked
    ui.addLesionButton.click()
    scene.Clear(0)
    assert not ui.addLesionButton.checked


def test_the_table_follows_the_segment_editor_also_while_another_module_is_shown(panel, bundle, scene, tmp_path):
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    apply(panel)
    parameters = panel.widget.logic.getParameterNode()
    volume = slicer.util.arrayFromTableColumn(parameters.table, "volume").sum()
    panel.exit()
    label = slicer.util.arrayFromVolume(parameters.labelMap)
    drawn = (label > 0).astype(np.uint8)
    drawn[0, :4, :4] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        drawn, parameters.segmentation, "ms-lesion", parameters.probability
    )
    wait(lambda: slicer.util.arrayFromTableColumn(parameters.table, "volume").sum() > volume, 5)
    assert slicer.util.arrayFromTableColumn(parameters.table, "volume").sum() == pytest.approx(volume + 16 * 64.0)
    panel.enter()
    assert ui.undoButton.enabled
    save_and_reload(scene, tmp_path)
    assert ui.undoButton.enabled
    ui.undoButton.click()
    parameters = panel.widget.logic.getParameterNode()
    assert slicer.util.arrayFromTableColumn(parameters.table, "volume").sum() == pytest.approx(volume)


class Adaptation:
    """An adaptation that is told what comes of it."""

    def __init__(self, bundle, volumes, mask, out) -> None:
        from XTLLib.data.images import read_mask, read_volume

        self.bundle, self.out, self.is_running, self.outcome = bundle, out, False, None
        self.volumes = {name: read_volume(path) for name, path in volumes.items()}
        self.mask, self.folder = read_mask(mask), Path(mask).parent
        self.is_cancelled = self.is_closed = False

    def start(self) -> None:
        self.is_running = True

    def poll(self) -> list:
        from XTLLib.progress import ProgressEvent

        return [ProgressEvent("Adapting", 0.4, 3.0, 7.0)]

    def cancel(self) -> None:
        self.is_cancelled, self.is_running = True, False

    def result(self):
        from XTLLib.errors import Cancelled

        if self.is_cancelled:
            raise Cancelled("adaptation")
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def close(self, patience_s: float = 0.0) -> None:
        self.is_closed = True


@pytest.fixture
def adaptations(panel, bundle, monkeypatch, tmp_path):
    """A corrected case, and the adaptations that the panel starts on it."""
    from XTLLib.bundle import library

    made = []
    monkeypatch.setattr(library, "models_folder", lambda: tmp_path / "models")

    def make(*arguments):
        made.append(Adaptation(*arguments))
        return made[-1]

    panel.widget._panel._adapt._make_process = make
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = str(bundle)
    apply(panel)
    assert not ui.adaptButton.enabled
    assert "Correct the lesions first" in ui.adaptButton.toolTip
    lesion = panel.widget._panel.section.lesions.lesions[0]
    voxel = panel.widget._panel.section.lesions._shown().of(lesion.identifier)[0]
    grid = panel.widget._panel.section.lesions._finder().probability.grid
    panel.widget._panel.section.lesions.remove_at(
        grid.index_to_ras(np.array(np.unravel_index(voxel, grid.shape))[::-1])
    )
    assert ui.adaptButton.enabled
    return made


def test_the_model_is_adapted_to_the_corrected_case_and_offered(panel, bundle, adaptations, case, messages, artifacts):
    from types import SimpleNamespace

    from XTLLib.scene.self_test import write_segmentation_bundle

    ui = panel.widget.ui
    ui.adaptButton.click()
    assert ui.adaptButton.text == "Cancel"
    wait(lambda: adaptations)  # when the images are written
    (adaptation,) = adaptations
    assert adaptation.bundle == bundle
    assert set(adaptation.volumes) == {"FLAIR", "T1", "T2"}
    flair = adaptation.volumes["FLAIR"]
    assert flair.grid.along_lps().matches(case.grid.along_lps(), 1e-2)
    label = slicer.util.arrayFromVolume(panel.widget.logic.getParameterNode().labelMap)
    assert adaptation.mask.array.sum() == (label > 0).sum() > 0
    wait(lambda: ui.adaptProgressBar.value == 40)
    assert ui.adaptButton.text == "Cancel"
    assert "Adapting (about 7 s left)" in ui.adaptLabel.text
    assert ui.applyButton.enabled, "Apply can be used meanwhile"
    new = write_segmentation_bundle(adaptation.out)
    adaptation.outcome = SimpleNamespace(bundle=new, refused=False)
    adaptation.is_running = False
    wait(lambda: ui.adaptButton.text == "Adapt to this scanner")
    assert adaptation.is_closed
    assert not adaptation.folder.exists()
    assert ui.useAdaptedButton.visible
    panel.grab(artifacts / "XTLSegment-adapted.png")
    ui.useAdaptedButton.click()
    assert Path(ui.bundlePathLineEdit.currentPath) == new
    assert not ui.useAdaptedButton.visible
    assert not messages


def test_an_adaptation_that_is_refused_fails_or_is_cancelled(panel, adaptations, messages):
    from types import SimpleNamespace

    from XTLLib.errors import XTLError

    ui = panel.widget.ui

    def run(outcome) -> None:
        before = len(adaptations)
        ui.adaptButton.click()
        wait(lambda: len(adaptations) > before)
        adaptations[-1].outcome = outcome
        adaptations[-1].is_running = False
        wait(lambda: ui.adaptButton.text == "Adapt to this scanner")
        assert not adaptations[-1].folder.exists()
        assert not ui.useAdaptedButton.visible

    run(SimpleNamespace(bundle=None, refused=True))
    assert "no better and was not kept" in ui.adaptLabel.text
    assert not messages
    run(XTLError("the memory does not suffice", "Close other programs"))
    (message,) = messages
    assert message.text.startswith("The model was not adapted.\n\nThe memory")
    messages.clear()
    for is_started in (False, True):  # also while the images are written
        before = len(adaptations)
        ui.adaptButton.click()
        if is_started:
            wait(lambda before=before: len(adaptations) > before)
        ui.adaptButton.click()
        wait(lambda: ui.adaptButton.text == "Adapt to this scanner")
        assert len(adaptations) == before + is_started
        assert "Cancelled" in ui.adaptLabel.text
        assert ui.adaptButton.enabled
        assert not messages
    assert adaptations[-1].is_cancelled
    assert panel.widget._panel._adapt._files is None


def test_no_room_for_the_images_of_an_adaptation_is_one_message(panel, adaptations, messages, monkeypatch):
    from XTLLib.errors import InputError

    def full(volume, path):
        raise InputError(f"{path.name} cannot be written", "Make room")

    monkeypatch.setattr("XTLLib.scene.adapt_section.write_volume", full)
    ui = panel.widget.ui
    ui.adaptButton.click()
    wait(lambda: ui.adaptButton.text == "Adapt to this scanner")
    (message,) = messages
    assert "FLAIR.nii cannot be written" in message.text
    assert not adaptations
    assert panel.widget._panel._adapt._files is None


def test_an_adaptation_goes_on_without_the_scene_and_ends_with_the_panel(panel, adaptations, scene):
    panel.widget.ui.adaptButton.click()
    scene.Clear(0)
    wait(lambda: adaptations)
    assert adaptations[-1].is_running
    panel.widget.cleanup()
    assert adaptations[-1].is_closed
    assert not adaptations[-1].folder.exists()


def test_limits_of_the_sliders_are_those_of_the_library():
    from XTLLib.scene import bundle_settings

    import XTLSegment

    assert bundle_settings.LOWEST_THRESHOLD == XTLSegment.LOWEST_THRESHOLD
    assert bundle_settings.LARGEST_MINIMUM_MM3 == XTLSegment.LARGEST_MINIMUM


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
