"""What an unlucky or unkind user may do before Apply: one message that names the thing and the remedy, or a result."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from lent_worker import Lent, wait

ODD = 'Größe 1, it\'s "here" & <there> %20'
MODULES = ("XTLSegment", "XTLClassify")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory) -> dict[str, Path]:
    from XTLLib.scene.self_test import write_classification_bundle, write_segmentation_bundle

    folder = tmp_path_factory.mktemp("unlucky") / ODD
    return {
        "XTLSegment": write_segmentation_bundle(folder / "ms"),
        "XTLClassify": write_classification_bundle(folder / "prostate"),
    }


@pytest.fixture(scope="module")
def cases() -> dict:
    from XTLLib.scene.self_test import small_brain, small_prostate

    return {"XTLSegment": small_brain(), "XTLClassify": small_prostate()}


@pytest.fixture(scope="module")
def lent_worker():
    from XTLLib.inference.client import InferenceWorker

    worker = InferenceWorker()
    yield worker
    worker.close()


@pytest.fixture
def open_ready(open_panel, scene, cases, bundles, lent_worker, monkeypatch):
    """Opens a module with everything chosen; gives the panel and the node of its reference."""
    from XTLLib.scene.findings import findings_to_node
    from XTLLib.scene.inputs import add_case

    monkeypatch.setattr("XTLLib.inference.client.InferenceWorker", lambda: Lent(lent_worker))

    def open_(module: str):
        case = cases[module]
        nodes = add_case(case, scene)
        panel = open_panel(module)
        panel.widget.ui.bundlePathLineEdit.currentPath = str(bundles[module])
        if case.findings:
            panel.widget.ui.findingsSelector.setCurrentNode(findings_to_node(case.findings, "findings", scene))
        assert panel.widget.ui.applyButton.enabled
        return panel, nodes.channels[case.reference]

    return open_


def apply(panel) -> None:
    panel.widget.ui.applyButton.click()
    wait(lambda: not panel.widget._panel.run.is_running)


def _no_image(node, scene) -> None:
    node.SetAndObserveImageData(None)


def _no_voxels(node, scene) -> None:
    node.SetAndObserveImageData(vtk.vtkImageData())


def _colours(node, scene) -> None:
    image = vtk.vtkImageData()
    image.SetDimensions(8, 8, 8)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(image)


def _bent(node, scene) -> None:
    transform = scene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    grid = vtk.vtkThinPlateSplineTransform()
    points = vtk.vtkPoints()
    for corner in ((0, 0, 0), (50, 0, 0), (0, 50, 0), (0, 0, 50)):
        points.InsertNextPoint(corner)
    moved = vtk.vtkPoints()
    moved.DeepCopy(points)
    moved.SetPoint(1, 55, 9, 3)
    grid.SetSourceLandmarks(points)
    grid.SetTargetLandmarks(moved)
    transform.SetAndObserveTransformToParent(grid)
    node.SetAndObserveTransformNodeID(transform.GetID())


def _under(name: str, scales: tuple[float, float, float]) -> Callable[[Any, Any], None]:
    def harm(node, scene) -> None:
        transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", name)
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([*scales, 1.0])))
        node.SetAndObserveTransformNodeID(transform.GetID())

    return harm


def _filled(value: float) -> Callable[[Any, Any], None]:
    def harm(node, scene) -> None:
        shape = slicer.util.arrayFromVolume(node).shape
        slicer.util.updateVolumeFromArray(node, np.full(shape, value, np.float32))

    return harm


def _cut(node, scene, slices: int = 1) -> None:
    array = slicer.util.arrayFromVolume(node)
    middle = len(array) // 2
    slicer.util.updateVolumeFromArray(node, array[middle : middle + slices].copy())


def _node_ids(scene) -> set[str]:
    return {scene.GetNthNode(number).GetID() for number in range(scene.GetNumberOfNodes())}


HARMS = {
    "no image": (_no_image, "holds no image", "image data"),
    "no voxels": (_no_voxels, "holds no image", "image data"),
    "colours": (_colours, "3 values a voxel", "one value a voxel"),
    "bent": (_bent, "stands under the non-linear transform warp", "Harden"),
    "flat": (_under("flat", (1, 1, 0)), "under the transform flat is flat, or nowhere", "Repair"),
    "nowhere": (_under("lost", (np.nan, 1, 1)), "under the transform lost is flat, or nowhere", "Repair"),
    "NaN": (_filled(np.nan), "voxels that are NaN or infinite", "Replace them"),
    "infinite": (_filled(np.inf), "voxels that are NaN or infinite", "Replace them"),
    "zero": (_filled(0.0), {"XTLSegment": "is the same everywhere", "XTLClassify": "is constant around"}, "image"),
    "a slice": (_cut, {"XTLSegment": "is a single slice", "XTLClassify": "lies outside"}, ""),
}


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("harm", HARMS)
def test_an_image_that_cannot_be_used_is_named_with_the_remedy(module, harm, open_ready, scene, messages):
    panel, node = open_ready(module)
    node.SetName(ODD)
    harm, what, remedy = HARMS[harm]
    harm(node, scene)
    before = _node_ids(scene)
    apply(panel)
    (message,) = messages
    told, _, advice = message.text.partition("What to do")
    assert ODD in told
    assert (what if isinstance(what, str) else what[module]) in told
    assert remedy in advice
    assert _node_ids(scene) == before
    assert panel.widget.ui.applyButton.enabled
    assert "the scene is as it was" in panel.widget.ui.statusLabel.text


def test_a_channel_that_tells_nothing_is_said_beside_the_result(open_ready, messages):
    panel, _ = open_ready("XTLSegment")
    _filled(0.0)(slicer.util.getNode("T1"), None)
    apply(panel)
    assert messages == []
    assert "T1 (T1) is the same everywhere" in panel.widget.ui.statusLabel.text


def test_two_slices_are_segmented(open_ready, messages):
    panel, node = open_ready("XTLSegment")
    _cut(node, None, 2)
    apply(panel)
    assert messages == []
    assert slicer.util.arrayFromVolume(panel.widget.logic.getParameterNode().labelMap).shape[0] == 2


@pytest.mark.parametrize(
    ("module", "output", "chosen"),
    [
        ("XTLSegment", "probability", "flair"),
        ("XTLSegment", "uncertainty", "t1"),
        ("XTLSegment", "labelMap", "brainMask"),
        ("XTLClassify", "labelMap", "zones"),
    ],
)
def test_an_output_does_not_overwrite_an_input(module, output, chosen, open_ready, messages, scene):
    panel, _ = open_ready(module)
    parameters = panel.widget.logic.getParameterNode()
    if getattr(parameters, chosen) is None:
        label = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "mask")
        slicer.util.updateVolumeFromArray(label, np.ones((4, 4, 4), np.uint8))
        setattr(parameters, chosen, label)
    node = getattr(parameters, chosen)
    setattr(parameters, output, node)
    before = slicer.util.arrayFromVolume(node).copy()
    apply(panel)
    (message,) = messages
    assert f"{node.GetName()} is chosen as an input and as the output {output}" in message.text
    assert "Choose another node for the output" in message.text
    assert (slicer.util.arrayFromVolume(node) == before).all()
    messages.clear()
    setattr(parameters, output, None)
    apply(panel)
    assert messages == []


def test_two_outputs_are_not_one_node(open_ready, messages, scene):
    panel, _ = open_ready("XTLSegment")
    parameters = panel.widget.logic.getParameterNode()
    parameters.probability = parameters.uncertainty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "both")
    apply(panel)
    assert "both is chosen as the output probability and as the output uncertainty" in messages[0].text


def _gone(folder: Path) -> None:
    shutil.rmtree(folder)


def _without_weights(folder: Path) -> None:
    (folder / "models" / "model.pt").unlink()


def _cut_off(folder: Path) -> None:
    weights = folder / "models" / "model.pt"
    weights.write_bytes(weights.read_bytes()[:1000])


@pytest.mark.parametrize("module", MODULES)
def test_a_bundle_that_vanishes_between_choosing_and_apply(module, open_ready, bundles, tmp_path, messages):
    panel, _ = open_ready(module)
    for number, (harm, said) in enumerate(
        ((_gone, "is not a folder"), (_without_weights, "lacks models/model.pt"), (_cut_off, "are not those"))
    ):
        copy = tmp_path / f"{ODD} {number}"
        shutil.copytree(bundles[module], copy)
        panel.widget.ui.bundlePathLineEdit.currentPath = str(copy)
        wait(lambda: not panel.widget._panel._background.is_active)
        harm(copy)
        apply(panel)
        (message,) = messages
        assert said in message.text
        assert str(copy) in message.text
        assert panel.widget.ui.applyButton.enabled
        messages.clear()
    panel.widget.ui.bundlePathLineEdit.currentPath = str(bundles[module])
    apply(panel)
    assert messages == []


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    "path", ["C:\\Users\\Über Wald\\model", "//server/share/x", "\0", "a" * 5000, "/proc/1", __file__]
)
def test_a_path_that_is_none_is_said_at_once(module, path, open_ready, messages):
    panel, _ = open_ready(module)
    ui = panel.widget.ui
    ui.bundlePathLineEdit.currentPath = path
    assert not ui.applyButton.enabled
    assert "bundle" in ui.statusLabel.text
    assert len(ui.statusLabel.text) < 300
    assert messages == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_that_is_reloaded_while_it_runs_leaves_nothing_of_that_run(
    module, open_ready, open_panel, scene, messages
):
    panel, _ = open_ready(module)
    before = _node_ids(scene)
    panel.widget.ui.applyButton.click()
    panel.widget.cleanup()
    again = open_panel(module)
    assert _node_ids(scene) == before
    assert not again.widget._panel.run.is_running
    apply(again)
    assert messages == []
    assert len(_node_ids(scene)) > len(before)
