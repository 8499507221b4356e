"""The Advanced section of XTLSegment: the panel gives what the console and the library give, also after sliders."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from host.reload import save_and_reload
from lent_worker import Lent, wait
from XTLLib.data.volume import Volume
from XTLLib.inference.location import locate
from XTLLib.scene.nodes import label_to_node, volume_from_node


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    from XTLLib.scene.self_test import write_segmentation_bundle

    return write_segmentation_bundle(tmp_path_factory.mktemp("ms") / "bundle")


@pytest.fixture(scope="module")
def lent_worker():
    from XTLLib.inference.client import InferenceWorker

    worker = InferenceWorker()
    yield worker
    worker.close()


@pytest.fixture
def panel(open_panel, scene, bundle, lent_worker, monkeypatch):
    """The panel on a phantom, with a tissue segmentation whose ventricles, white matter and cortex are slabs."""
    from XTLLib.scene.inputs import add_case
    from XTLLib.scene.self_test import small_brain

    monkeypatch.setattr("XTLLib.inference.client.InferenceWorker", lambda: Lent(lent_worker))
    case = small_brain()
    add_case(case, scene)
    tissue = np.full(case.grid.shape, 2, np.int16)
    third = case.grid.shape[2] // 3
    tissue[..., :third], tissue[..., -third:] = 4, 3
    label_to_node(Volume(tissue, case.grid, "aseg"), "aseg", scene)
    opened = open_panel("XTLSegment")
    opened.widget.ui.bundlePathLineEdit.currentPath = str(bundle)
    return opened


def apply(panel) -> None:
    panel.widget.ui.applyButton.click()
    wait(lambda: not panel.widget._panel.run.is_running)


def parameters_of(panel):
    return panel.widget.logic.getParameterNode()


def column(panel, name: str) -> list:
    table = parameters_of(panel).table.GetTable()
    values = table.GetColumnByName(name)
    return [] if values is None else [values.GetValue(n) for n in range(values.GetNumberOfValues())]


def show_above(panel, share: float) -> float:
    """Move the threshold to this quantile of the map; an untrained network has no better one."""
    parameters = parameters_of(panel)
    probability = slicer.util.arrayFromVolume(parameters.probability)
    parameters.threshold = float(np.quantile(probability[probability > 0], share))
    parameters.minimumVolume = 0.0
    assert len(column(panel, "id")) > 1
    return parameters.threshold


def expected_places(panel) -> list[str]:
    parameters = parameters_of(panel)
    label = volume_from_node(parameters.labelMap)
    found = locate(label, volume_from_node(slicer.util.getNode("aseg")))
    return [found[identifier] for identifier in column(panel, "id")]


def mean_deviation(panel) -> list[float]:
    parameters = parameters_of(panel)
    label = slicer.util.arrayFromVolume(parameters.labelMap)
    deviation = slicer.util.arrayFromVolume(parameters.uncertainty)
    return [float(deviation[label == identifier].mean()) for identifier in column(panel, "id")]


def test_the_console_gives_the_same_numbers(panel, bundle, scene, messages):
    from XTLLib.scene.nodes import volume_to_node

    from XTLSegment import XTLSegmentLogic

    ui, parameters = panel.widget.ui, parameters_of(panel)
    flair = slicer.util.getNode("FLAIR")
    mask = volume_from_node(flair)
    volume_to_node(Volume((np.indices(mask.array.shape)[2] > 9).astype(np.uint8), mask.grid), "half", scene)
    ui.mirrorCheckBox.checked = ui.biasCorrectionCheckBox.checked = True
    ui.brainMaskSelector.setCurrentNode(slicer.util.getNode("half"))
    ui.tissueSelector.setCurrentNode(slicer.util.getNode("aseg"))
    assert not ui.brainMethodComboBox.enabled, "a mask is chosen"
    apply(panel)
    assert not messages
    assert "bias field was corrected" in ui.statusLabel.text
    threshold = show_above(panel, 0.95)
    wait(lambda: "..." not in column(panel, "location"), 5)
    channels = {name: slicer.util.getNode(name) for name in ("FLAIR", "T1", "T2")}
    nodes = XTLSegmentLogic().process(
        channels,
        bundle,
        threshold,
        0.0,
        mirror=True,
        biasCorrection=True,
        brainMask=slicer.util.getNode("half"),
        tissue=slicer.util.getNode("aseg"),
    )
    for one, other in ((nodes.probability, parameters.probability), (nodes.uncertainty, parameters.uncertainty)):
        assert np.array_equal(slicer.util.arrayFromVolume(one), slicer.util.arrayFromVolume(other))
    assert slicer.util.arrayFromVolume(nodes.probability)[..., :9].max() == 0, "outside of the mask"
    for name in ("volume", "uncertainty", "location"):
        values = nodes.table.GetTable().GetColumnByName(name)
        assert [values.GetValue(n) for n in range(values.GetNumberOfValues())] == column(panel, name)
    assert column(panel, "location") == expected_places(panel)
    assert column(panel, "uncertainty") == pytest.approx(mean_deviation(panel), rel=1e-5)
    assert "periventricular: within" in nodes.table.GetAttribute("XTL.LocationRule")


def test_uncertainty_and_location_survive_the_sliders(panel, scene, messages, tmp_path):
    ui = panel.widget.ui
    ui.mirrorCheckBox.checked = True
    ui.tissueSelector.setCurrentNode(slicer.util.getNode("aseg"))
    apply(panel)
    show_above(panel, 0.95)
    assert column(panel, "uncertainty") == pytest.approx(mean_deviation(panel), rel=1e-5)
    assert set(column(panel, "location")) <= {"...", "periventricular", "juxtacortical", "deep white matter", "outside"}
    wait(lambda: "..." not in column(panel, "location"), 5)
    assert column(panel, "location") == expected_places(panel)
    assert len(set(column(panel, "location"))) > 1

    save_and_reload(scene, tmp_path)
    assert ui.mirrorCheckBox.checked
    assert ui.tissueSelector.currentNode().GetName() == "aseg"
    assert ui.uncertaintySelector.currentNode().GetName() == "FLAIR MS lesion uncertainty"
    show_above(panel, 0.9)
    assert column(panel, "uncertainty") == pytest.approx(mean_deviation(panel), rel=1e-5)
    wait(lambda: column(panel, "location") == expected_places(panel), 5)
    ui.tissueSelector.setCurrentNode(None)
    assert column(panel, "location") == []
    ui.mirrorCheckBox.checked = False
    apply(panel)
    assert column(panel, "uncertainty") == [], "the map of the result before is none of this one"
    assert parameters_of(panel).uncertainty is None
    assert not messages


def test_a_tissue_segmentation_chosen_later_gives_locations(panel, messages):
    ui = panel.widget.ui
    apply(panel)
    assert column(panel, "location") == []
    ui.tissueSelector.setCurrentNode(slicer.util.getNode("aseg"))
    wait(lambda: "..." not in column(panel, "location"), 5)
    assert column(panel, "location") == expected_places(panel)
    aseg = volume_from_node(slicer.util.getNode("aseg"))
    ui.tissueSelector.setCurrentNode(
        label_to_node(Volume(np.full_like(aseg.array, 2), aseg.grid, "white"), "white", slicer.mrmlScene)
    )
    wait(lambda: "has no voxel of" in ui.statusLabel.text, 5)
    assert column(panel, "location") == []
    assert not messages


def test_a_tissue_segmentation_that_cannot_be_used_does_not_cost_the_result(panel, messages):
    ui = panel.widget.ui
    slicer.util.arrayFromVolume(slicer.util.getNode("aseg"))[:] = 2
    ui.tissueSelector.setCurrentNode(slicer.util.getNode("aseg"))
    apply(panel)
    assert not messages
    assert "has no voxel of lateral ventricles" in ui.statusLabel.text
    assert len(column(panel, "id")) > 0
    ui.tissueSelector.setCurrentNode(slicer.util.getNode("aseg"))
    panel.widget.ui.applyButton.click()
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("aseg"))
    wait(lambda: not panel.widget._panel.run.is_running)
    assert "Removed from the scene meanwhile: aseg." in ui.statusLabel.text
    assert not messages


def test_a_brain_mask_is_made_and_shown(panel, bundle, scene, messages, tmp_path):
    from XTLLib.data.brain_mask import brain_of
    from XTLLib.scene.self_test import small_brain

    ui = panel.widget.ui
    names = [ui.brainMethodComboBox.itemText(n) for n in range(ui.brainMethodComboBox.count)]
    assert len(names) == 2, "no other extension is installed"
    ui.brainMethodComboBox.currentIndex = 1
    assert parameters_of(panel).brainMethod == "built-in"
    apply(panel)
    assert not messages
    assert "brain mask of the built-in method" in ui.statusLabel.text
    made = slicer.util.getNode("FLAIR brain mask")
    assert np.array_equal(slicer.util.arrayFromVolume(made) > 0, brain_of(small_brain()).array)
    probability = slicer.util.arrayFromVolume(parameters_of(panel).probability)
    assert probability[slicer.util.arrayFromVolume(made) == 0].max() == 0
    nodes = scene.GetNumberOfNodes()
    apply(panel)
    assert scene.GetNumberOfNodes() == nodes
    save_and_reload(scene, tmp_path)
    assert ui.brainMethodComboBox.currentIndex == 1


def test_a_module_s_brain_mask_is_listed_where_it_is_installed(open_panel, scene, bundle, monkeypatch, messages):
    import XTLLib.scene.brain_extraction as brain_extraction
    from XTLLib.scene.inputs import add_case
    from XTLLib.scene.self_test import small_brain

    from XTLSegment import XTLSegmentLogic

    def left_half(node) -> np.ndarray:
        return np.indices(slicer.util.arrayFromVolume(node).shape)[2] > 9

    monkeypatch.setitem(brain_extraction._EXTRACTORS, "SwissSkullStripper", left_half)
    monkeypatch.setattr(slicer.modules, "swissskullstripper", object(), raising=False)
    channels = add_case(small_brain(), scene).channels
    panel = open_panel("XTLSegment")
    box = panel.widget.ui.brainMethodComboBox
    assert box.itemText(2) == "A mask by SwissSkullStripper"
    box.currentIndex = 2
    assert parameters_of(panel).brainMethod == "SwissSkullStripper"
    nodes = XTLSegmentLogic().process(channels, bundle, brainMethod="SwissSkullStripper")
    t1 = volume_from_node(slicer.util.getNode("T1"))
    assert np.array_equal(slicer.util.arrayFromVolume(nodes.brain) > 0, np.indices(t1.array.shape)[2] > 9)
    monkeypatch.delattr(slicer.modules, "swissskullstripper")
    panel.widget.ui.bundlePathLineEdit.currentPath = str(bundle)
    panel.widget.ui.applyButton.click()
    (message,) = messages
    assert "SwissSkullStripper" in message.text


def test_lesions_are_shown_in_3d_and_again_after_they_changed(panel, scene, messages, tmp_path):
    from XTLLib.scene.surfaces import is_shown_in_3d

    def is_shown() -> bool:  # it is made a piece at a time
        section = panel.widget._panel.section
        return not section.is_working and is_shown_in_3d(parameters_of(panel).segmentation)

    ui = panel.widget.ui
    ui.show3dCheckBox.checked = True
    apply(panel)
    wait(is_shown)

    def points() -> int:
        segment = parameters_of(panel).segmentation.GetSegmentation().GetSegment("ms-lesion")
        return segment.GetRepresentation("Closed surface").GetNumberOfPoints()

    before = points()
    ui.thresholdSlider.value = parameters_of(panel).threshold + 0.02
    assert points() == before, "the surface of before stays until another one is made"
    wait(is_shown)
    assert 0 < points() < before
    ui.thresholdSlider.value = 1.0
    ui.thresholdSlider.value = parameters_of(panel).threshold - 0.5
    wait(is_shown)  # also after a moment without any lesion
    save_and_reload(scene, tmp_path)
    assert ui.show3dCheckBox.checked
    wait(is_shown)
    ui.thresholdSlider.value = parameters_of(panel).threshold + 0.02
    assert panel.widget._panel.section.is_working
    ui.show3dCheckBox.checked = False
    assert not is_shown_in_3d(parameters_of(panel).segmentation)
    apply(panel)
    assert not is_shown_in_3d(parameters_of(panel).segmentation)
    assert not messages
