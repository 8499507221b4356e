"""A segmentation result in the scene."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machine_speed import cpu_seconds, slowness
from scene_cases import (
    GRIDS,
    LESION,
    RADIUS_MM,
    ball,
    centroid_of_node,
    centroid_of_segment,
    grid,
    half_voxel_mm,
    node_ids,
    rotation,
    segment_mask,
    segmentation_result,
)
from XTLLib.data.case import Case
from XTLLib.data.geometry import Grid
from XTLLib.data.prepare import Preparation
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError
from XTLLib.scene import segmentation as segmentation_module
from XTLLib.scene.arrays import vtk_matrix
from XTLLib.scene.hierarchy import hierarchy_of
from XTLLib.scene.inputs import add_case
from XTLLib.scene.nodes import case_from_nodes, volume_from_node
from XTLLib.scene.segmentation import SEGMENT_ID, add_segmentation

slicer = pytest.importorskip("slicer")


def assert_lesion_everywhere(nodes, on: Grid) -> None:
    """The one lesion's position in the table, the label map and the segmentation."""
    tolerance = half_voxel_mm(on)
    row = [slicer.util.arrayFromTableColumn(nodes.table, axis)[0] for axis in "RAS"]
    assert np.linalg.norm(np.array(row) - LESION) < tolerance
    assert np.linalg.norm(centroid_of_node(nodes.label) - LESION) < tolerance
    assert np.linalg.norm(centroid_of_segment(nodes.segmentation, SEGMENT_ID) - LESION) < tolerance


@pytest.mark.parametrize("name", GRIDS)
def test_a_lesion_comes_back_where_it_is(scene, name):
    result = segmentation_result(GRIDS[name])
    nodes = add_segmentation(result, scene, add_case(result.case, scene).reference)
    assert nodes.table.GetNumberOfRows() == 1
    assert_lesion_everywhere(nodes, GRIDS[name])
    volume = slicer.util.arrayFromTableColumn(nodes.table, "volume")[0]
    assert volume == pytest.approx(4 / 3 * np.pi * RADIUS_MM**3, rel=0.06)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(st.floats(0.5, 2.0), st.floats(0.5, 2.0), st.floats(0.8, 4.0)),
    left_handed=st.booleans(),
)
def test_a_lesion_comes_back_where_it_is_on_any_grid(scene, angles, spacing, left_handed):
    directions = rotation(*angles) @ np.diag([-1 if left_handed else 1, 1, 1])
    shape = tuple(int(np.ceil(45 / step)) for step in spacing[::-1])
    on = grid(directions, spacing, shape)
    nodes = add_segmentation(segmentation_result(on), scene)
    assert_lesion_everywhere(nodes, on)
    for node in (nodes.segmentation, nodes.label, nodes.probability, nodes.table, nodes.colors):
        scene.RemoveNode(node)


@pytest.mark.parametrize(("reference", "other"), [("LAS", "oblique"), ("left-handed oblique", "LPS")])
def test_channels_on_different_grids_meet_in_patient_space(scene, reference, other):
    fine = grid(rotation(4, 8, -6) @ np.diag([-1, -1, 1]), (0.9, 0.9, 1.1), (50, 56, 58)) if other == "LPS" else None
    grids = {"FLAIR": GRIDS[reference], "T1": fine or GRIDS[other]}
    given = Case("p", {name: Volume(ball(on), on, name) for name, on in grids.items()}, "FLAIR")
    nodes = add_case(given, scene)
    case = case_from_nodes(nodes.channels, "FLAIR")
    prepared = Preparation(("FLAIR", "T1"), "FLAIR", (1.0, 1.0, 1.0))(case)
    # stands in for a network: a voxel is lesion where both channels are bright
    both = prepared.on_reference_grid((prepared.image.min(axis=0) > 1).astype(np.float32))
    result = segmentation_result(case.grid, both.array, case)
    assert len(result.lesions) == 1
    assert_lesion_everywhere(add_segmentation(result, scene, nodes.reference), case.grid)


def test_an_input_under_a_transform_gives_results_in_world_coordinates(scene):
    local = segmentation_result(GRIDS["LPS"])
    reference = add_case(local.case, scene).reference
    to_world = np.eye(4)
    to_world[:3, :3] = rotation(20, 5, -35)
    to_world[:3, 3] = (13, 2, -40)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(vtk_matrix(to_world))
    reference.SetAndObserveTransformNodeID(transform.GetID())
    case = case_from_nodes({"FLAIR": reference}, "FLAIR")
    result = segmentation_result(case.grid, ball(GRIDS["LPS"]), case)
    nodes = add_segmentation(result, scene, reference)
    expected = (to_world @ (*LESION, 1))[:3]
    assert np.linalg.norm(np.array(result.lesions[0].position_ras) - expected) < half_voxel_mm(case.grid)
    for found in (centroid_of_node(nodes.label), centroid_of_segment(nodes.segmentation, SEGMENT_ID)):
        np.testing.assert_allclose(found, result.lesions[0].position_ras, atol=1e-3)


def test_the_segment_is_the_mask_on_the_reference_geometry(scene):
    probability = np.random.default_rng(3).random(GRIDS["oblique"].shape).astype(np.float32)
    probability[:, :7] = 0
    result = segmentation_result(GRIDS["oblique"], probability)
    reference = add_case(result.case, scene).reference
    nodes = add_segmentation(result, scene, reference)
    mask = segment_mask(nodes.segmentation, SEGMENT_ID, reference)
    np.testing.assert_array_equal(mask, result.label.array > 0)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(nodes.label), result.label.array)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(nodes.probability), probability)
    assert nodes.segmentation.GetNodeReference("referenceImageGeometryRef") is reference


def test_the_segment_has_its_terminology_colour_and_name(scene):
    import vtk

    nodes = add_segmentation(segmentation_result(GRIDS["LAS"]), scene)
    segment = nodes.segmentation.GetSegmentation().GetSegment(SEGMENT_ID)
    assert nodes.segmentation.GetSegmentation().GetNumberOfSegments() == 1
    assert segment.GetName() == "MS lesion"
    entry = slicer.vtkSlicerTerminologyEntry()
    tag = slicer.vtkSegment.GetTerminologyEntryTagName()
    text = vtk.reference("")
    assert segment.GetTag(tag, text)
    assert slicer.vtkSlicerTerminologiesModuleLogic().DeserializeTerminologyEntry(str(text), entry)
    coded = [entry.GetCategoryObject(), entry.GetTypeObject(), entry.GetRegionObject()]
    assert [(code.GetCodingSchemeDesignator(), code.GetCodeValue(), code.GetCodeMeaning()) for code in coded] == [
        ("SCT", "49755003", "Morphologically Altered Structure"),
        ("SCT", "52988006", "Lesion"),
        ("SCT", "12738006", "Brain"),
    ]


def test_the_table_has_typed_columns_with_units(scene):
    two = np.maximum(ball(GRIDS["RAS"]), ball(GRIDS["RAS"], (2.0, 4.0, 10.0), 4.0))
    result = segmentation_result(GRIDS["RAS"], two)
    table = add_segmentation(result, scene).table
    import vtk

    expected = [
        ("id", vtk.VTK_INT, "", [1, 2]),
        ("R", vtk.VTK_DOUBLE, "mm", [lesion.position_ras[0] for lesion in result.lesions]),
        ("A", vtk.VTK_DOUBLE, "mm", [lesion.position_ras[1] for lesion in result.lesions]),
        ("S", vtk.VTK_DOUBLE, "mm", [lesion.position_ras[2] for lesion in result.lesions]),
        ("volume", vtk.VTK_DOUBLE, "mm³", [lesion.volume_mm3 for lesion in result.lesions]),
        ("longest_diameter", vtk.VTK_DOUBLE, "mm", [lesion.longest_diameter_mm for lesion in result.lesions]),
        ("mean_probability", vtk.VTK_DOUBLE, "", [lesion.mean_probability for lesion in result.lesions]),
        ("maximum_probability", vtk.VTK_DOUBLE, "", [lesion.maximum_probability for lesion in result.lesions]),
    ]
    assert [table.GetColumnName(n) for n in range(table.GetNumberOfColumns())] == [row[0] for row in expected]
    for name, kind, unit, values in expected:
        column = table.GetTable().GetColumnByName(name)
        assert (column.GetDataType(), table.GetColumnUnitLabel(name)) == (kind, unit)
        assert table.GetColumnDescription(name)
        np.testing.assert_array_equal(slicer.util.arrayFromTableColumn(table, name), values)
    assert table.GetUseColumnTitleAsColumnHeader()
    assert "not a medical device" in table.GetDescription()


def test_labels_have_names_and_colours(scene):
    two = np.maximum(ball(GRIDS["RAS"]), ball(GRIDS["RAS"], (2.0, 4.0, 10.0), 4.0))
    nodes = add_segmentation(segmentation_result(GRIDS["RAS"], two), scene)
    assert nodes.label.GetDisplayNode().GetColorNode() is nodes.colors
    names = [nodes.colors.GetColorName(n) for n in range(nodes.colors.GetNumberOfColors())]
    assert names == ["background", "lesion 1", "lesion 2"]
    rgba = [[0.0] * 4 for _ in names]
    for value, color in enumerate(rgba):
        nodes.colors.GetColor(value, color)
    assert rgba[0][3] == 0 and rgba[1][3] == rgba[2][3] == 1
    assert rgba[1] != rgba[2]


def test_the_probability_is_shown_from_0_to_1(scene):
    display = add_segmentation(segmentation_result(GRIDS["RAS"]), scene).probability.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1)
    assert not display.GetAutoWindowLevel()
    assert display.GetColorNode() is not None


def test_results_stand_under_the_inputs_study(scene):
    result = segmentation_result(GRIDS["RAS"])
    reference = add_case(result.case, scene, study="2024-05-01").reference
    nodes = add_segmentation(result, scene, reference)
    hierarchy = hierarchy_of(scene)
    for node in (reference, nodes.segmentation, nodes.label, nodes.probability, nodes.table):
        study = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
        assert (hierarchy.GetItemName(study), hierarchy.GetItemLevel(study)) == ("2024-05-01", "Study")
        assert hierarchy.GetItemName(hierarchy.GetItemParent(study)) == "patient 1"


def test_an_output_that_the_user_filed_elsewhere_stays_there(scene):
    result = segmentation_result(GRIDS["RAS"])
    reference = add_case(result.case, scene).reference
    nodes = add_segmentation(result, scene, reference)
    hierarchy = hierarchy_of(scene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "mine")
    item = hierarchy.GetItemByDataNode(nodes.table)
    hierarchy.SetItemParent(item, folder)
    add_segmentation(result, scene, reference, table_node=nodes.table)
    assert hierarchy.GetItemParent(item) == folder


def test_a_second_apply_adds_no_node(scene):
    first = segmentation_result(GRIDS["RAS"])
    reference = add_case(first.case, scene).reference
    nodes = add_segmentation(first, scene, reference)
    before = node_ids(scene)
    items = hierarchy_of(scene).GetNumberOfItems()
    smaller = segmentation_result(GRIDS["RAS"], ball(GRIDS["RAS"], radius_mm=4.0), first.case)
    again = add_segmentation(smaller, scene, reference, nodes.label, nodes.segmentation, nodes.probability, nodes.table)
    assert node_ids(scene) == before
    assert hierarchy_of(scene).GetNumberOfItems() == items
    assert again == nodes
    mask = segment_mask(nodes.segmentation, SEGMENT_ID, reference)
    np.testing.assert_array_equal(mask, smaller.label.array > 0)
    assert slicer.util.arrayFromTableColumn(nodes.table, "volume")[0] == smaller.lesions[0].volume_mm3


def test_other_segments_and_the_users_colour_survive_a_second_apply(scene):
    result = segmentation_result(GRIDS["RAS"])
    nodes = add_segmentation(result, scene, add_case(result.case, scene).reference)
    segmentation = nodes.segmentation.GetSegmentation()
    segmentation.GetSegment(SEGMENT_ID).SetColor(0.1, 0.2, 0.3)
    own = slicer.vtkSegment()
    own.SetName("ventricles")
    own.DeepCopy(segmentation.GetSegment(SEGMENT_ID))
    segmentation.AddSegment(own, "mine")
    segmentation.CollapseBinaryLabelmaps(False)  # as saving the scene does
    before = segment_mask(nodes.segmentation, "mine", nodes.label)
    smaller = segmentation_result(GRIDS["RAS"], ball(GRIDS["RAS"], radius_mm=3.0), result.case)
    add_segmentation(smaller, scene, segmentation_node=nodes.segmentation)
    after = segment_mask(nodes.segmentation, "mine", nodes.label)
    np.testing.assert_array_equal(after, before)
    mask = segment_mask(nodes.segmentation, SEGMENT_ID, nodes.label)
    np.testing.assert_array_equal(mask, smaller.label.array > 0)
    assert segmentation.GetSegment(SEGMENT_ID).GetColor() == (0.1, 0.2, 0.3)


def test_a_result_without_lesions_gives_an_empty_table_and_segment(scene):
    result = segmentation_result(GRIDS["LPS"], np.zeros(GRIDS["LPS"].shape, np.float32))
    nodes = add_segmentation(result, scene)
    assert nodes.table.GetNumberOfRows() == 0 and nodes.table.GetNumberOfColumns() == 8
    assert nodes.segmentation.GetSegmentation().GetSegment(SEGMENT_ID) is not None
    assert not volume_from_node(nodes.label).array.any()
    # and lesions can follow in the same nodes
    found = segmentation_result(GRIDS["LPS"])
    assert_lesion_everywhere(
        add_segmentation(found, scene, None, nodes.label, nodes.segmentation, nodes.probability, nodes.table),
        GRIDS["LPS"],
    )


def test_removing_the_results_leaves_nothing(scene):
    result = segmentation_result(GRIDS["RAS"])
    reference = add_case(result.case, scene).reference
    before = node_ids(scene)
    nodes = add_segmentation(result, scene, reference)
    added = set(node_ids(scene)) - set(before)
    assert len(added) == 8  # four results, three displays of them, one colour table
    for node in (nodes.segmentation, nodes.label, nodes.probability, nodes.table, nodes.colors):
        display = getattr(node, "GetDisplayNode", lambda: None)()
        scene.RemoveNode(node)
        if display is not None:
            scene.RemoveNode(display)
    assert node_ids(scene) == before


def test_a_failure_leaves_no_node_behind(scene, monkeypatch):
    result = segmentation_result(GRIDS["RAS"])
    reference = add_case(result.case, scene).reference
    before, items = node_ids(scene), hierarchy_of(scene).GetNumberOfItems()

    def fail(scene, nodes, input_node):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(segmentation_module, "place_beside", fail)
    with pytest.raises(RuntimeError, match="on fire"):
        add_segmentation(result, scene, reference)
    assert node_ids(scene) == before
    assert hierarchy_of(scene).GetNumberOfItems() == items
    assert not scene.IsBatchProcessing()


def test_an_output_of_the_wrong_class_is_refused_before_anything_changes(scene):
    result = segmentation_result(GRIDS["RAS"])
    reference = add_case(result.case, scene).reference
    before = node_ids(scene)
    with pytest.raises(InputError, match="FLAIR chosen as an output"):
        add_segmentation(result, scene, reference, table_node=reference)
    assert node_ids(scene) == before


def test_the_reference_is_the_background_of_slice_views(scene):
    from XTLLib.scene.views import add_slice_views

    result = segmentation_result(GRIDS["RAS"])
    inputs = add_case(result.case, scene)
    add_slice_views(scene, inputs.reference, LESION)
    scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed").SetBackgroundVolumeID("")
    nodes = add_segmentation(result, scene, inputs.reference)
    for name in ("Red", "Yellow", "Green"):
        layers = scene.GetNodeByID(f"vtkMRMLSliceCompositeNode{name}")
        assert layers.GetBackgroundVolumeID() == inputs.reference.GetID()
        view = scene.GetNodeByID(f"vtkMRMLSliceNode{name}")
        to_ras = view.GetSliceToRAS()
        np.testing.assert_allclose([to_ras.GetElement(row, 3) for row in range(3)], LESION, atol=1e-6)
    display = nodes.segmentation.GetDisplayNode()
    assert display.GetVisibility() and display.GetVisibility2D() and display.GetSegmentVisibility2DOutline(SEGMENT_ID)


def test_a_large_result_is_quick(scene):
    shape = (192, 224, 224)
    probability = np.zeros(shape, np.float32)
    for k, j, i in np.random.default_rng(0).integers(12, 180, (200, 3)):
        probability[k - 2 : k + 3, j - 2 : j + 3, i - 2 : i + 3] = 0.8
    result = segmentation_result(Grid(shape, np.diag([-1.0, -1.0, 1.0, 1.0])), probability)
    add_segmentation(result, scene)
    assert cpu_seconds(lambda: add_segmentation(result, scene)) < 1.0 * slowness()  # 0.1 s on an idle core
