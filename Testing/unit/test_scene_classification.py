"""A classification result in the scene."""

from __future__ import annotations

import numpy as np
import pytest
from scene_cases import GRIDS, ball, grid, half_voxel_mm, node_ids, rotation, segment_mask
from XTLLib.data.case import Case, Finding
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.inference.classify import rated_case
from XTLLib.scene.classification import add_classification
from XTLLib.scene.colors import probability_color
from XTLLib.scene.hierarchy import hierarchy_of
from XTLLib.scene.inputs import add_case
from XTLLib.scene.nodes import case_from_nodes
from XTLLib.scene.rated_segments import add_rated_segments

slicer = pytest.importorskip("slicer")

FINDINGS = (
    Finding("1", (16.0, -14.0, 25.0), "PZ"),
    Finding("left base", (3.0, 2.0, 12.0), "TZ"),
    Finding("3", (12.0, -8.0, 20.0)),
)
PROBABILITIES = np.array([0.731, 0.04, 0.5])


def result_on(on, findings=FINDINGS, probabilities=PROBABILITIES):
    case = Case("p", {"T2W": Volume(ball(on), on, "t2.nii.gz")}, "T2W", findings=findings)
    return rated_case(case, probabilities, "a bundle")


@pytest.mark.parametrize("name", GRIDS)
def test_findings_come_back_where_they_are(scene, name):
    result = result_on(GRIDS[name])
    nodes = add_classification(result, scene, add_case(result.case, scene).reference)
    position = np.stack([slicer.util.arrayFromTableColumn(nodes.table, axis) for axis in "RAS"], axis=-1)
    np.testing.assert_allclose(position, [finding.position_ras for finding in FINDINGS])
    np.testing.assert_allclose(slicer.util.arrayFromMarkupsControlPoints(nodes.findings, world=True), position)
    label = slicer.util.arrayFromVolume(nodes.label)
    for row, finding in enumerate(FINDINGS, start=1):
        ijk = np.argwhere(label == row)[:, ::-1].mean(axis=0)
        found = GRIDS[name].index_to_ras(ijk)
        assert np.linalg.norm(found - finding.position_ras) < half_voxel_mm(GRIDS[name])


def test_the_table_has_typed_columns(scene):
    import vtk

    table = add_classification(result_on(GRIDS["LPS"]), scene).table
    columns = {table.GetColumnName(n): table.GetTable().GetColumn(n) for n in range(table.GetNumberOfColumns())}
    assert {name: column.GetDataType() for name, column in columns.items()} == {
        "id": vtk.VTK_INT,
        "patient": vtk.VTK_STRING,
        "finding": vtk.VTK_STRING,
        "zone": vtk.VTK_STRING,
        "R": vtk.VTK_DOUBLE,
        "A": vtk.VTK_DOUBLE,
        "S": vtk.VTK_DOUBLE,
        "probability": vtk.VTK_DOUBLE,
        "warnings": vtk.VTK_STRING,
    }
    assert [table.GetColumnUnitLabel(name) for name in "RAS"] == ["mm"] * 3
    assert [columns["finding"].GetValue(n) for n in range(3)] == ["1", "left base", "3"]
    assert [columns["zone"].GetValue(n) for n in range(3)] == ["PZ", "TZ", ""]
    np.testing.assert_array_equal(slicer.util.arrayFromTableColumn(table, "probability"), PROBABILITIES)


def test_labels_are_named_and_coloured_by_probability(scene):
    nodes = add_classification(result_on(GRIDS["LPS"]), scene)
    assert nodes.label.GetDisplayNode().GetColorNode() is nodes.colors
    names = [nodes.colors.GetColorName(n) for n in range(nodes.colors.GetNumberOfColors())]
    assert names == ["background", "finding 1: 0.73", "finding left base: 0.04", "finding 3: 0.50"]
    for value, probability in enumerate(PROBABILITIES, start=1):
        rgba = [0.0] * 4
        nodes.colors.GetColor(value, rgba)
        np.testing.assert_allclose(rgba, (*probability_color(probability), 1), atol=1 / 255)


def test_colours_run_from_blue_through_yellow_to_red():
    blue, yellow, red = (np.array(probability_color(p)) for p in (0.0, 0.5, 1.0))
    assert blue.argmax() == 2 and red.argmax() == 0 and yellow[:2].min() > 0.8 > yellow[2]
    np.testing.assert_allclose(probability_color(0.25), (blue + yellow) / 2)
    assert probability_color(-3) == tuple(blue) and probability_color(7) == tuple(red)


def test_the_users_points_are_labelled_and_a_second_apply_adds_no_node(scene):
    inputs = add_case(result_on(GRIDS["oblique"]).case, scene)
    points = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "suspects")
    for finding in FINDINGS:
        points.AddControlPointWorld(*finding.position_ras, finding.identifier)
    nodes = before = None
    for probabilities in (PROBABILITIES, PROBABILITIES[::-1]):
        case = case_from_nodes(inputs.channels, "T2W", findings_node=points)
        result = rated_case(case, probabilities, "a bundle")
        label, table = (nodes.label, nodes.table) if nodes else (None, None)
        nodes = add_classification(result, scene, inputs.reference, points, label, table)
        before = before or node_ids(scene)
    assert node_ids(scene) == before
    assert nodes.findings is points
    labels = [points.GetNthControlPointLabel(n) for n in range(3)]
    assert labels == ["1: 0.50", "left base: 0.04", "3: 0.73"]


def test_results_stand_under_the_inputs_study_and_are_seen(scene):
    from XTLLib.scene.views import add_slice_views

    result = result_on(GRIDS["LAS"])
    inputs = add_case(result.case, scene)
    add_slice_views(scene, inputs.reference)
    nodes = add_classification(result, scene, inputs.reference)
    hierarchy = hierarchy_of(scene)
    study = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(inputs.reference))
    for node in (nodes.table, nodes.label, nodes.findings):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    layers = scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    assert layers.GetBackgroundVolumeID() == inputs.reference.GetID()
    assert layers.GetLabelVolumeID() == nodes.label.GetID() and layers.GetLabelOpacity() > 0


def test_an_output_of_the_wrong_class_is_refused_before_anything_changes(scene):
    result = result_on(GRIDS["LAS"])
    reference = add_case(result.case, scene).reference
    before = node_ids(scene)
    with pytest.raises(InputError, match="T2W chosen as an output"):
        add_classification(result, scene, reference, label_node=reference)
    assert node_ids(scene) == before


def test_each_finding_is_a_segment_of_its_own(scene):
    on = grid(rotation(7, -12, 20) @ np.diag([-1, -1, 1]), (0.8, 0.8, 3.0), (14, 60, 60))
    result = result_on(on)
    node = add_rated_segments(result, scene)
    segmentation = node.GetSegmentation()
    names = [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]
    assert names == ["finding 1: 0.73", "finding left base: 0.04", "finding 3: 0.50"]
    label_node = scene.GetFirstNodeByClass("vtkMRMLLabelMapVolumeNode")
    for row in (1, 2, 3):
        mask = segment_mask(node, f"finding-{row}", label_node)
        np.testing.assert_array_equal(mask, result.label.array == row)
