"""Measures as Slicer's module Segment Statistics gives them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from scene_cases import GRIDS, grid, rotation
from XTLLib.data.geometry import Grid
from XTLLib.data.volume import Volume
from XTLLib.inference.segment_statistics import MEASURES, statistics_of, write_statistics

CENTRE = np.array([3.0, -7.0, 11.0])


def ellipsoid(on: Grid, axes_mm, turned=None, centre=CENTRE) -> np.ndarray:
    """Bool (K, J, I): an ellipsoid of these semi-axes along the columns of ``turned``, in patient space."""
    turned = np.eye(3) if turned is None else turned
    k, j, i = np.indices(on.shape)
    offset = (on.index_to_ras(np.stack([i, j, k], axis=-1)) - centre) @ turned
    return ((offset / np.asarray(axes_mm)) ** 2).sum(axis=-1) <= 1


FINE = grid(rotation(17, -11, 23) @ np.diag([-1, -1, 1]), (0.5, 0.6, 0.7), (60, 70, 80), CENTRE)


def test_an_ellipsoid_has_the_figures_of_its_formulas():
    turned, axes = rotation(40, 20, -30), np.array([4.0, 6.0, 12.0])
    (found,) = statistics_of(Volume(ellipsoid(FINE, axes, turned), FINE), {1: "egg"})
    volume = 4 / 3 * np.pi * axes.prod()
    assert found.segment == "egg" and found.label_value == 1
    assert found.volume_mm3 == pytest.approx(volume, rel=0.01)
    assert found.volume_cm3 == pytest.approx(found.volume_mm3 / 1000)
    assert found.voxel_count == pytest.approx(found.volume_mm3 / FINE.voxel_volume_mm3)
    np.testing.assert_allclose(found.centroid_ras, CENTRE, atol=0.02)
    # A solid ellipsoid's variance along a semi-axis a is a²/5.
    np.testing.assert_allclose(found.principal_moments, axes**2 / 5, rtol=0.02)
    assert found.flatness == pytest.approx(6 / 4, rel=0.01) and found.elongation == pytest.approx(12 / 6, rel=0.01)
    for direction, column in zip((found.principal_axis_x, found.principal_axis_y, found.principal_axis_z), turned.T):
        assert abs(np.dot(direction, column)) == pytest.approx(1, abs=1e-3)
    assert found.feret_diameter_mm == pytest.approx(24, abs=0.7)
    # Knud Thomsen's formula, right within 1.1 %; the estimate of the surface by crossings is rougher.
    a, b, c = axes**1.6075
    surface = 4 * np.pi * ((a * b + a * c + b * c) / 3) ** (1 / 1.6075)
    assert found.surface_area_mm2 == pytest.approx(surface, rel=0.06)
    assert found.roundness == pytest.approx(np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface, rel=0.06)
    np.testing.assert_allclose(sorted(found.obb_diameter_mm), 2 * axes, atol=1.5)


def slicer_s_own(label: np.ndarray, on: Grid, value: int) -> dict[str, tuple[float, ...]]:
    """What vtkITKLabelShapeStatistics, of which Slicer's plugin takes its values, says of one label."""
    import slicer
    from vtk import vtkMatrix4x4
    from XTLLib.scene.arrays import vtk_matrix

    affine = np.array(on.ijk_to_ras)
    image = slicer.vtkOrientedImageData()
    from vtk.util.numpy_support import numpy_to_vtk

    image.SetImageToWorldMatrix(vtk_matrix(affine))
    image.SetDimensions(*on.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk((label == value).astype(np.uint8).ravel(), deep=True))
    directions = vtkMatrix4x4()
    image.GetDirectionMatrix(directions)
    measured = slicer.vtkITKLabelShapeStatistics()
    measured.SetInputData(image)
    measured.SetDirections(directions)
    wanted = ("Centroid", "FeretDiameter", "Perimeter", "Roundness", "Flatness", "Elongation")
    for name in (*wanted, "OrientedBoundingBox", "PrincipalMoments", "PrincipalAxes"):
        measured.SetComputeShapeStatistic(name, True)
    measured.Update()
    table = measured.GetOutput()
    return {
        table.GetColumnName(n): table.GetColumn(n).GetTuple(0)
        for n in range(table.GetNumberOfColumns())
        if table.GetColumnName(n) != "LabelValue"
    }


KEYS = {
    "centroid_ras": "Centroid",
    "feret_diameter_mm": "FeretDiameter",
    "surface_area_mm2": "Perimeter",
    "roundness": "Roundness",
    "flatness": "Flatness",
    "elongation": "Elongation",
    "principal_moments": "PrincipalMoments",
    "principal_axis_x": "PrincipalAxisX",
    "principal_axis_y": "PrincipalAxisY",
    "principal_axis_z": "PrincipalAxisZ",
    "obb_origin_ras": "OrientedBoundingBoxOrigin",
    "obb_diameter_mm": "OrientedBoundingBoxSize",
    "obb_direction_ras_x": "OrientedBoundingBoxDirectionX",
    "obb_direction_ras_y": "OrientedBoundingBoxDirectionY",
    "obb_direction_ras_z": "OrientedBoundingBoxDirectionZ",
}


@pytest.mark.parametrize("name", GRIDS)
def test_every_value_is_the_one_that_slicer_s_filter_gives(name):
    pytest.importorskip("slicer")
    on = GRIDS[name]
    label = np.zeros(on.shape, np.int32)
    label[ellipsoid(on, (5, 8, 13), rotation(10, 50, 20), np.array([12.0, -8.0, 20.0]))] = 4
    label[3:5, 4:7, 5:9] = 2
    found = statistics_of(Volume(label, on))
    assert [one.label_value for one in found] == [2, 4]
    for one in found:
        expected = slicer_s_own(label, on, one.label_value)
        assert set(KEYS.values()) == set(expected)
        for key, column in KEYS.items():
            np.testing.assert_allclose(getattr(one, key), np.squeeze(expected[column]), rtol=1e-5, atol=1e-5)


def test_every_key_of_slicer_s_plugin_is_there():
    assert {measure.key for measure in MEASURES} == {"voxel_count", "volume_mm3", "volume_cm3", *KEYS}


def test_the_files_name_slicer_s_keys(tmp_path):
    on = GRIDS["oblique"]
    label = np.zeros(on.shape, np.int32)
    label[3:5, 4:7, 5:9] = 2
    tsv, as_json = write_statistics(Volume(label, on), tmp_path, {2: "lesion 2"})
    with open(tsv, newline="") as stream:
        (row,) = csv.DictReader(stream, delimiter="\t")
    assert row["segment"] == "lesion 2" and int(row["voxel_count"]) == 24
    assert float(row["volume_mm3"]) == pytest.approx(24 * 3.0)
    centre = on.index_to_ras([6.5, 5.0, 3.5])
    np.testing.assert_allclose([float(row[f"centroid_ras_{axis}"]) for axis in "ras"], centre, atol=1e-4)
    assert json.loads(as_json.read_text())["rows"][0]["feret_diameter_mm"] == pytest.approx(
        np.linalg.norm([3 * 1.0, 2 * 1.2, 1 * 2.5]), rel=1e-6
    )


def test_nothing_to_measure_is_an_empty_table(tmp_path):
    empty = Volume(np.zeros(GRIDS["LPS"].shape, bool), GRIDS["LPS"])
    assert statistics_of(empty) == ()
    tsv, _ = write_statistics(empty, tmp_path)
    assert len(tsv.read_text().splitlines()) == 1


def test_a_table_node_as_the_module_writes_it(scene):
    from XTLLib.errors import InputError
    from XTLLib.scene.statistics import add_statistics

    on = GRIDS["left-handed oblique"]
    label = Volume(ellipsoid(on, (6, 6, 6), centre=np.array([12.0, -8.0, 20.0])), on)
    node = add_statistics(label, scene, {1: "MS lesion"})
    assert node.GetCellText(0, 0) == "MS lesion"
    centroid = node.GetTable().GetColumnByName("Centroid")
    np.testing.assert_allclose(centroid.GetTuple(0), (12, -8, 20), atol=0.2)
    assert [centroid.GetComponentName(n) for n in range(3)] == ["r", "a", "s"]
    assert node.GetTable().GetColumnByName("Voxel count").GetValue(0) == label.array.sum()
    assert node.GetColumnUnitLabel("Volume mm3") == "mm3"
    assert add_statistics(label, scene, table_node=node) is node and node.GetNumberOfRows() == 1
    with pytest.raises(InputError, match="output"):
        add_statistics(label, scene, table_node=scene.AddNewNodeByClass("vtkMRMLTextNode", "a text"))
