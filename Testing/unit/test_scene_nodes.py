"""Volume nodes <-> volumes, and cases from nodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_cases import GRIDS, LESION, ball, centroid_of_node, half_voxel_mm, node_ids, rotation
from XTLLib.data.geometry import Grid
from XTLLib.data.images import read_volume, write_volume
from XTLLib.data.volume import Volume, resample
from XTLLib.errors import InputError
from XTLLib.scene.arrays import vtk_matrix
from XTLLib.scene.findings import findings_from_node, findings_to_node, label_with_probability
from XTLLib.scene.inputs import add_case
from XTLLib.scene.nodes import case_from_nodes, label_to_node, volume_from_node, volume_to_node

slicer = pytest.importorskip("slicer")


ANGLES = st.floats(-180, 180)
SPACINGS = st.floats(0.2, 6)
TYPES = st.sampled_from(["u1", "i1", "u2", "i2", "i4", "f4", "f8", ">i2", ">f4", "f2", "?", "i8", "u8", "u4"])


@settings(max_examples=60, deadline=None)
@given(
    angles=st.tuples(ANGLES, ANGLES, ANGLES),
    spacing=st.tuples(SPACINGS, SPACINGS, SPACINGS),
    left_handed=st.booleans(),
    kind=TYPES,
    shape=st.tuples(*[st.integers(1, 5)] * 3),
)
def test_a_volume_comes_back_from_its_node(session, angles, spacing, left_handed, kind, shape):
    directions = rotation(*angles) @ np.diag([-1 if left_handed else 1, 1, 1])
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = (-31.5, 210.25, 7.0)
    array = np.random.default_rng(0).integers(0, 2 if kind == "?" else 120, shape).astype(kind)
    node = volume_to_node(Volume(array, Grid(shape, affine), "v"), "v", session.scene)
    back = volume_from_node(node)
    np.testing.assert_array_equal(back.array, array)
    assert back.array.dtype.isnative
    np.testing.assert_allclose(back.grid.ijk_to_ras, affine, atol=1e-9)
    assert back.name == "v"
    session.scene.RemoveNode(node)


def test_integers_beyond_32_bits_keep_their_values(scene):
    array = np.array([[[0, 2**40]]], dtype=np.int64)
    back = volume_from_node(volume_to_node(Volume(array, Grid((1, 1, 2), np.eye(4))), "big", scene))
    np.testing.assert_array_equal(back.array, array)


@pytest.mark.parametrize("name", GRIDS)
def test_a_position_in_a_node_is_the_position_in_the_volume(scene, name):
    node = volume_to_node(Volume(ball(GRIDS[name]) > 0.5, GRIDS[name]), "ball", scene)
    assert np.linalg.norm(centroid_of_node(node) - LESION) < half_voxel_mm(GRIDS[name])


def loaded_by_mrml(path, scene):
    """The file as Slicer's own reader loads it."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", path.name)
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return volume_from_node(node)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("ending", ["nii.gz", "nrrd", "mha"])
def test_slicer_and_we_read_a_file_alike(scene, tmp_path, name, ending):
    volume = Volume(ball(GRIDS[name]), GRIDS[name], name)
    path = tmp_path / f"v.{ending}"
    write_volume(volume, path)
    ours, slicers = read_volume(path), loaded_by_mrml(path, scene)
    np.testing.assert_array_equal(resample(slicers, ours.grid, "nearest").array, ours.array)
    assert ours.grid.along_lps().matches(slicers.grid.along_lps(), 0.01)


@pytest.mark.real
@pytest.mark.parametrize(
    "pattern", ["ms/isbi_layout_cropped/training01/**/*flair*.nii.gz", "prostate/picai/**/*1001396*t2w.mha"]
)
def test_slicer_and_we_read_a_real_file_alike(scene, real_data, pattern):
    path = next(iter(sorted(real_data.glob(pattern))))
    ours, slicers = read_volume(path), loaded_by_mrml(path, scene)
    assert ours.grid.along_lps().matches(slicers.grid.along_lps(), 0.01)
    moved = resample(Volume(slicers.array, slicers.grid), ours.grid, "nearest").array
    np.testing.assert_allclose(moved, ours.array, rtol=1e-5)


def test_the_volume_does_not_change_with_the_node(scene):
    node = volume_to_node(Volume(np.zeros((2, 2, 2), np.float32), Grid((2, 2, 2), np.eye(4))), "v", scene)
    volume = volume_from_node(node)
    slicer.util.arrayFromVolume(node)[:] = 7
    assert not volume.array.any()


def test_a_linear_transform_is_part_of_the_geometry(scene):
    grid = GRIDS["oblique"]
    node = volume_to_node(Volume(ball(grid), grid), "FLAIR", scene)
    to_world = np.eye(4)
    to_world[:3, :3] = rotation(5, 40, -20)
    to_world[:3, 3] = (30, -4, 11)
    outer, inner = (scene.AddNewNodeByClass("vtkMRMLLinearTransformNode") for _ in range(2))
    outer.SetMatrixTransformToParent(vtk_matrix(to_world))
    inner.SetAndObserveTransformNodeID(outer.GetID())
    node.SetAndObserveTransformNodeID(inner.GetID())
    np.testing.assert_allclose(volume_from_node(node).grid.ijk_to_ras, to_world @ grid.ijk_to_ras, atol=1e-9)

    # and a result put back stands in world coordinates, whatever its node stood under before
    volume_to_node(volume_from_node(node), "again", scene, node)
    assert node.GetParentTransformNode() is None
    np.testing.assert_allclose(volume_from_node(node).grid.ijk_to_ras, to_world @ grid.ijk_to_ras, atol=1e-6)


def test_a_nonlinear_transform_is_refused_with_the_remedy(scene):
    node = volume_to_node(Volume(np.zeros((2, 2, 2)), Grid((2, 2, 2), np.eye(4))), "FLAIR", scene)
    warp = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "warp")
    node.SetAndObserveTransformNodeID(warp.GetID())
    with pytest.raises(InputError, match=r"FLAIR.*warp.*Harden"):
        volume_from_node(node)


def test_what_is_no_scalar_volume_is_refused_by_name(scene):
    import vtk

    with pytest.raises(InputError, match="no volume is chosen for channel T1"):
        case_from_nodes({"T1": None}, "T1")
    with pytest.raises(InputError, match="empty one holds no image"):
        volume_from_node(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty one"))
    colour = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "photo")
    image = vtk.vtkImageData()
    image.SetDimensions(3, 3, 3)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    colour.SetAndObserveImageData(image)
    with pytest.raises(InputError, match="photo has 3 values a voxel"):
        volume_from_node(colour)
    with pytest.raises(InputError, match=r"my table chosen for the mask is not a scalar volume"):
        volume_from_node(scene.AddNewNodeByClass("vtkMRMLTableNode", "my table"), "the mask")
    with pytest.raises(InputError, match="complex"):
        volume_to_node(Volume(np.zeros((1, 1, 1), complex), Grid((1, 1, 1), np.eye(4))), "v", scene)
    with pytest.raises(InputError, match="not labels"):
        label_to_node(Volume(np.zeros((1, 1, 1)), Grid((1, 1, 1), np.eye(4))), "v", scene)


def test_an_output_of_the_wrong_class_is_refused_and_nothing_is_added(scene):
    table = scene.AddNewNodeByClass("vtkMRMLTableNode", "my table")
    before = node_ids(scene)
    with pytest.raises(InputError, match=r"my table.*vtkMRMLTableNode"):
        volume_to_node(Volume(np.zeros((1, 1, 1)), Grid((1, 1, 1), np.eye(4))), "v", scene, table)
    assert node_ids(scene) == before


def test_a_case_made_of_nodes_keeps_every_channels_own_grid(scene):
    flair = volume_to_node(Volume(ball(GRIDS["LAS"]), GRIDS["LAS"]), "a FLAIR", scene)
    t1 = volume_to_node(Volume(ball(GRIDS["oblique"]), GRIDS["oblique"]), "a T1", scene)
    mask = label_to_node(Volume((ball(GRIDS["LPS"]) > 0.5).astype(np.int16) * 3, GRIDS["LPS"]), "a mask", scene)
    case = case_from_nodes({"FLAIR": flair, "T1": t1}, "FLAIR", mask)
    assert case.patient == "patient" and case.reference == "FLAIR" and case.findings == ()
    assert case.channels["T1"].name == "a T1"
    assert case.channels["T1"].grid.matches(GRIDS["oblique"]) and case.grid.matches(GRIDS["LAS"])
    assert case.mask.array.dtype == bool and case.mask.grid.matches(GRIDS["LPS"])
    case.require_channels(("FLAIR", "T1"))


def test_the_patient_is_taken_from_the_subject_hierarchy(scene):
    grid = GRIDS["RAS"]
    case = case_from_nodes({"FLAIR": volume_to_node(Volume(ball(grid), grid), "x", scene)}, "FLAIR", patient="P 07")
    nodes = add_case(case, scene)
    assert case_from_nodes(nodes.channels, "FLAIR").patient == "P 07"


def test_findings_are_the_placed_points(scene):
    markups = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "suspects")
    with pytest.raises(InputError, match="suspects has no placed point"):
        findings_from_node(markups)
    markups.AddControlPointWorld(1.5, 2.5, -3.5, "F-1")
    markups.SetNthControlPointDescription(0, "pz, left")
    markups.AddControlPointWorld(4.0, 5.0, 6.0)
    markups.SetNthControlPointLabel(1, "")
    markups.AddControlPointWorld(7.0, 8.0, 9.0, "not placed")
    markups.UnsetNthControlPointPosition(2)
    shift = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = (10, 0, 0)
    shift.SetMatrixTransformToParent(vtk_matrix(matrix))
    markups.SetAndObserveTransformNodeID(shift.GetID())
    first, second = findings_from_node(markups)
    assert (first.identifier, first.position_ras, first.zone) == ("F-1", (11.5, 2.5, -3.5), "PZ")
    assert (second.identifier, second.position_ras, second.zone) == ("2", (14.0, 5.0, 6.0), "")


def test_findings_keep_their_names_when_they_are_labelled_twice(scene):
    markups = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode")
    markups.AddControlPointWorld(1, 2, 3, "left: base")
    for probability, label in ((0.731, "left: base: 0.73"), (1.0, "left: base: 1.00")):
        label_with_probability(markups, {"left: base": probability})
        assert markups.GetNthControlPointLabel(0) == label
        assert findings_from_node(markups)[0].identifier == "left: base"


def test_two_findings_of_one_name_are_refused(scene):
    markups = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "suspects")
    markups.AddControlPointWorld(1, 2, 3, "1")
    markups.AddControlPointWorld(4, 5, 6, "1")
    with pytest.raises(InputError, match="suspects has two findings named 1"):
        findings_from_node(markups)
    with pytest.raises(InputError, match="no point list"):
        findings_from_node(scene.AddNewNodeByClass("vtkMRMLTableNode"))


def test_findings_go_to_a_point_list_and_back(scene):
    from XTLLib.data.case import Finding

    findings = (Finding("1", (1.25, -2.5, 3.0), "TZ"), Finding("b", (0.0, 7.0, -9.5)))
    node = findings_to_node(findings, "findings", scene)
    assert findings_from_node(node) == findings
    assert findings_to_node(findings[:1], "", scene, node) is node
    assert findings_from_node(node) == findings[:1]
