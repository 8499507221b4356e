"""Lesions over time in XTLSegment: the worker's job, the panel's section, and the console."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from host.reload import save_and_reload
from lent_worker import Lent, wait
from XTLLib.data.geometry import Grid
from XTLLib.data.phantoms.brain import BrainPhantom
from XTLLib.data.phantoms.fields import box_grid
from XTLLib.data.registration import moved
from XTLLib.data.volume import Volume
from XTLLib.errors import Cancelled, InputError
from XTLLib.inference.longitudinal import ChangeRules, TimePoint, compare_over_time

GRID = Grid((30, 30, 30), np.diag([-1.0, -1.0, 2.0, 1.0]))
SHIFT_MM = (7.0, -4.0, 3.0)


def mask(*cubes: tuple[int, int, int, int]) -> Volume:
    array = np.zeros(GRID.shape, np.uint8)
    for k, j, i, side in cubes:
        array[k : k + side, j : j + side, i : i + side] = 1
    return Volume(array, GRID, "mask")


@pytest.fixture(scope="module")
def worker():
    from XTLLib.inference.client import InferenceWorker

    worker = InferenceWorker()
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def heads() -> list[TimePoint]:
    """A brain phantom and the same head moved; of its lesions the largest is gone, and a new one has come."""
    from scipy.ndimage import label

    grid = box_grid((0.0, 0.0, 0.0), (160.0, 190.0, 150.0), (4.0, 4.0, 4.0), "RAS")
    phantom = BrainPhantom(3)
    image = Volume(phantom.images(("FLAIR",), grid, np.random.default_rng(0))["FLAIR"], grid, "flair")
    truth = phantom.truth(grid).astype(np.uint8)
    parts, _ = label(truth, np.ones((3, 3, 3)))
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    later = np.where(largest, np.uint8(0), truth)
    later[5:7, 5:7, 5:7] = 1
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT_MM
    return [
        TimePoint("first", Volume(truth, grid, "mask"), image),
        TimePoint("later", moved(Volume(later, grid, "mask"), matrix), moved(image, matrix)),
    ]


def test_the_worker_gives_what_the_library_gives(worker):
    points = [TimePoint("2024", mask((2, 2, 2, 4), (2, 12, 2, 3))), TimePoint("2025", mask((2, 2, 2, 5)))]
    rules = ChangeRules(minimum_volume_mm3=5.0)
    expected = compare_over_time(points, rules, register=False)
    result = worker.compare(points, rules, register=False).wait()
    assert result.histories == expected.histories
    assert [history.status for history in result.histories] == ["enlarging", "resolved"]
    assert (result.names, result.rules, result.registrations) == (("2024", "2025"), rules, (None,))
    assert [label.name for label in result.labels] == [label.name for label in expected.labels]
    assert all(np.array_equal(a.array, b.array) for a, b in zip(result.labels, expected.labels))
    assert np.array_equal(result.status.array, expected.status.array)
    assert result.status.grid.matches(GRID)


def test_the_worker_registers(worker, heads):
    result = worker.compare(heads).wait()
    (registration,) = result.registrations
    assert registration.moving_to_fixed[:3, 3] == pytest.approx([-x for x in SHIFT_MM], abs=1.0)
    assert result.count("new") == result.count("resolved") == 1


def test_the_worker_says_what_is_wrong_and_can_be_cancelled(worker, heads):
    with pytest.raises(InputError, match=r"1 time point\(s\)"):
        worker.compare([TimePoint("only", mask())], register=False).wait()
    job = worker.compare(heads)
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait()
    assert not worker.is_busy


@pytest.fixture
def panel(open_panel, scene, heads, worker, monkeypatch):
    """The panel beside the two heads: the lesions of the first as a label map, of the later as a segmentation."""
    from XTLLib.scene.nodes import label_to_node, volume_to_node
    from XTLLib.scene.segmentation import fill_segment, mask_image
    from XTLLib.scene.views import add_slice_views

    monkeypatch.setattr("XTLLib.inference.client.InferenceWorker", lambda: Lent(worker))
    first, later = heads
    images = [volume_to_node(point.image, f"MR {point.name}", scene) for point in heads]
    label_to_node(first.mask, "lesions first", scene)
    drawn = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "lesions later")
    drawn.SetReferenceImageGeometryParameterFromVolumeNode(images[1])
    fill_segment(drawn, mask_image(np.flatnonzero(later.mask.array), later.mask.grid))
    add_slice_views(scene, images[0])
    return open_panel("XTLSegment")


def choose(panel, lesions: str, image: str) -> None:
    ui = panel.widget.ui
    ui.pointLesionsSelector.setCurrentNode(slicer.util.getNode(lesions))
    ui.pointImageSelector.setCurrentNode(slicer.util.getNode(image))
    ui.addPointButton.click()


def both(panel) -> None:
    choose(panel, "lesions first", "MR first")
    choose(panel, "lesions later", "MR later")


def listed(panel) -> list[str]:
    rows = panel.widget.ui.timePointsList._qobject
    return [rows.item(n).text() for n in range(rows.count())]


def is_running(panel) -> bool:
    return panel.widget._panel.over_time.is_running


def compare(panel) -> None:
    panel.widget.ui.compareButton.click()
    assert is_running(panel), "the click returns at once"
    wait(lambda: not is_running(panel))


def count_of(panel) -> dict[str, int]:
    statuses = panel.widget.ui.historyTableView.mrmlTableNode().GetTable().GetColumnByName("status")
    names = [statuses.GetValue(n) for n in range(statuses.GetNumberOfValues())]
    return {name: names.count(name) for name in set(names)}


def test_time_points_are_listed_ordered_and_taken_out(panel):
    ui = panel.widget.ui
    assert not ui.compareButton.enabled
    assert "two or more time points" in ui.compareButton.toolTip
    assert not ui.addPointButton.enabled
    ui.pointLesionsSelector.setCurrentNode(slicer.util.getNode("lesions later"))
    assert ui.pointImageSelector.currentNode().GetName() == "MR later", "it is known from the segmentation"
    ui.addPointButton.click()
    ui.addPointButton.click()
    assert "in the list already" in ui.compareLabel.text
    choose(panel, "lesions first", "MR first")
    assert listed(panel) == ["1. MR later: lesions later", "2. MR first: lesions first"]
    assert ui.compareButton.enabled
    ui.earlierPointButton.click()
    assert listed(panel) == ["1. MR first: lesions first", "2. MR later: lesions later"]
    ui.timePointsList.currentRow = 1
    ui.removePointButton.click()
    assert listed(panel) == ["1. MR first: lesions first"]
    assert not ui.compareButton.enabled


def test_compare_says_what_became_of_the_lesions(panel, scene, heads, messages, artifacts, tmp_path):
    from XTLLib.inference.longitudinal import STATUSES

    ui = panel.widget.ui
    ui.overTimeCollapsibleButton.collapsed = False
    assert not ui.compareProgressBar.visible, "also not when the section is opened"
    assert not ui.historyTableView.visible
    both(panel)
    compare(panel)
    assert not messages
    expected = compare_over_time(heads)
    assert count_of(panel) == {s: expected.count(s) for s in STATUSES if expected.count(s)}
    assert count_of(panel)["new"] == count_of(panel)["resolved"] == 1
    assert ui.compareLabel.text.startswith("1 new, ")
    assert ui.compareButton.text == "Compare"
    assert slicer.util.getNode("MR later").GetParentTransformNode() is None, "the user's nodes stay"
    view = slicer.util.getNode("MR later on MR first")
    matrix = view.GetParentTransformNode().GetMatrixTransformToParent()
    assert [matrix.GetElement(row, 3) for row in range(3)] == pytest.approx([-x for x in SHIFT_MM], abs=1.0)
    segmentation = slicer.util.getNode("MR first MS lesions over time").GetSegmentation()
    assert {"new", "resolved"} <= set(segmentation.GetSegmentIDs())

    ui.historyTableView._qobject.selectRow(0)
    to_ras = scene.GetNodeByID("vtkMRMLSliceNodeRed").GetSliceToRAS()
    centre = [to_ras.GetElement(row, 3) for row in range(3)]
    assert centre == pytest.approx(expected.histories[0].position_ras, abs=1e-2)
    panel.grab(artifacts / "XTLSegment-over-time.png")

    nodes = scene.GetNumberOfNodes()
    compare(panel)
    assert scene.GetNumberOfNodes() == nodes, "a second comparison fills the same nodes"
    assert not messages
    counts, text = count_of(panel), ui.compareLabel.text
    save_and_reload(scene, tmp_path)
    assert listed(panel) == ["1. MR first: lesions first", "2. MR later: lesions later"]
    assert count_of(panel) == counts
    assert ui.compareLabel.text == text
    assert ui.compareButton.enabled


def test_without_registration_the_headers_are_trusted(panel, scene, messages):
    ui = panel.widget.ui
    ui.registerPointsCheckBox.checked = False
    both(panel)
    compare(panel)
    assert not messages
    assert count_of(panel)["resolved"] > 1, "the heads lie 8 mm apart"
    assert scene.GetNumberOfNodesByClass("vtkMRMLLinearTransformNode") == 0


def test_cancel_leaves_the_scene_as_it_was(panel, scene, messages):
    both(panel)
    ui, nodes = panel.widget.ui, scene.GetNumberOfNodes()
    ui.compareButton.click()
    assert ui.compareButton.text == "Cancel"
    ui.compareButton.click()
    wait(lambda: not is_running(panel), 10)
    assert scene.GetNumberOfNodes() == nodes
    assert "as it was" in ui.compareLabel.text
    assert ui.compareButton.enabled
    compare(panel)
    assert scene.GetNumberOfNodes() > nodes
    assert not messages


def test_nodes_removed_while_it_runs(panel, scene, messages):
    both(panel)
    panel.widget.ui.compareButton.click()
    for name in ("MR later", "lesions first"):
        scene.RemoveNode(slicer.util.getNode(name))
    wait(lambda: not is_running(panel))
    assert not messages
    assert "Removed from the scene meanwhile: MR later." in panel.widget.ui.compareLabel.text
    assert count_of(panel)["new"] == 1
    assert listed(panel) == []
    assert not panel.widget.ui.compareButton.enabled


def test_the_first_image_removed_while_it_runs(panel, scene, messages):
    both(panel)
    panel.widget.ui.compareButton.click()
    scene.RemoveNode(slicer.util.getNode("MR first"))
    wait(lambda: not is_running(panel))
    assert not messages
    assert count_of(panel)["new"] == 1


def test_closing_the_scene_while_it_runs_is_a_cancel(panel, scene, messages):
    both(panel)
    panel.widget.ui.compareButton.click()
    scene.Clear(0)
    wait(lambda: not is_running(panel))
    assert not messages
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert listed(panel) == []


def test_bad_input_is_one_message_that_names_it(panel, scene, messages):
    both(panel)
    far = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "far away")
    matrix = np.eye(4)
    matrix[0, 3] = 900.0
    far.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    for name in ("MR later", "lesions later"):
        slicer.util.getNode(name).SetAndObserveTransformNodeID(far.GetID())
    panel.widget.ui.registerPointsCheckBox.checked = False
    nodes = scene.GetNumberOfNodes()
    compare(panel)
    (message,) = messages
    assert message.text.startswith("The time points were not compared.\n\nThe time point number 2 does not overlap")
    assert scene.GetNumberOfNodes() == nodes
    assert "as it was" in panel.widget.ui.compareLabel.text


def test_the_present_result_is_the_last_time_point(panel):
    section = panel.widget._panel.over_time
    parameters = panel.widget.logic.getParameterNode()
    later, image = slicer.util.getNode("lesions later"), slicer.util.getNode("MR later")
    parameters.segmentation = later
    section.result_came(later, image)
    assert listed(panel) == ["1. MR later: lesions later"]
    choose(panel, "lesions first", "MR first")
    assert listed(panel) == ["1. MR first: lesions first", "2. MR later: lesions later"]
    section.result_came(later, slicer.util.getNode("MR first"))
    assert listed(panel)[1] == "2. MR first: lesions later", "another Apply on another image"


def test_the_console_gives_what_the_panel_gives(panel, scene):
    from XTLSegment import XTLSegmentLogic

    both(panel)
    compare(panel)
    on_panel = panel.widget.ui.historyTableView.mrmlTableNode()
    pairs = [(slicer.util.getNode(f"lesions {n}"), slicer.util.getNode(f"MR {n}")) for n in ("first", "later")]
    nodes = XTLSegmentLogic().compare(pairs)
    for column in ("id", "volume_1", "volume_2", "R"):
        values = [slicer.util.arrayFromTableColumn(table, column).tolist() for table in (nodes.table, on_panel)]
        assert values[0] == values[1]
    with pytest.raises(InputError, match="two or more"):
        XTLSegmentLogic().compare(pairs[:1])
    with pytest.raises(InputError, match="has no image beside it"):
        XTLSegmentLogic().compare([(pairs[1][0], None), pairs[0]], register=False)


def test_three_time_points_have_a_column_each(panel, scene):
    both(panel)
    from XTLLib.scene.nodes import label_to_node

    copy = slicer.util.getNode("lesions first")
    again = label_to_node(
        Volume(slicer.util.arrayFromVolume(copy).copy(), _grid(copy), "again"), "lesions again", scene
    )
    choose(panel, again.GetName(), "MR first")
    compare(panel)
    table = panel.widget.ui.historyTableView.mrmlTableNode()
    first, last = (slicer.util.arrayFromTableColumn(table, f"volume_{n}") for n in (1, 3))
    assert first.tolist() == last.tolist()
    assert "MR first (1)" in panel.widget.ui.compareLabel.text


def _grid(node) -> Grid:
    from XTLLib.scene.nodes import grid_of_node

    return grid_of_node(node)
