"""Closed surfaces of lesions."""

from __future__ import annotations

import numpy as np
import pytest
from scene_cases import GRIDS, LESION, RADIUS_MM, ball, grid, rotation, segmentation_result
from XTLLib.scene.segmentation import SEGMENT_ID, add_segmentation
from XTLLib.scene.surfaces import hide_in_3d, is_shown_in_3d, show_in_3d, show_in_3d_by_pieces

pytest.importorskip("slicer")


def surface_of(node):
    return node.GetSegmentation().GetSegment(SEGMENT_ID).GetRepresentation("Closed surface")


def pieces(poly) -> list[np.ndarray]:
    """The points (n, 3) of each connected piece."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    parts = vtk.vtkPolyDataConnectivityFilter()
    parts.SetInputData(poly)
    parts.SetExtractionModeToAllRegions()
    parts.ColorRegionsOn()
    parts.Update()
    points = vtk_to_numpy(parts.GetOutput().GetPoints().GetData())
    regions = vtk_to_numpy(parts.GetOutput().GetPointData().GetArray("RegionId"))
    return [points[regions == n] for n in range(parts.GetNumberOfExtractedRegions())]


@pytest.mark.parametrize("name", GRIDS)
def test_the_surface_lies_on_the_ball_in_patient_space(scene, name):
    node = add_segmentation(segmentation_result(GRIDS[name]), scene).segmentation
    assert not is_shown_in_3d(node)
    assert show_in_3d(node) and is_shown_in_3d(node)
    (points,) = pieces(surface_of(node))
    distance = np.linalg.norm(points - LESION, axis=1)
    assert abs(distance.mean() - RADIUS_MM) < 0.6 and distance.max() < RADIUS_MM + 2.5 / 2 + 0.5
    np.testing.assert_allclose(points.mean(axis=0), LESION, atol=0.6)
    display = node.GetDisplayNode()
    assert display.GetVisibility3D() and display.GetPreferredDisplayRepresentationName3D() == "Closed surface"
    assert node.GetSegmentation().GetSourceRepresentationName() == "Binary labelmap"


def volume_mm3(poly) -> float:
    import vtk

    triangles, mass = vtk.vtkTriangleFilter(), vtk.vtkMassProperties()
    triangles.SetInputData(poly)
    mass.SetInputConnection(triangles.GetOutputPort())
    return mass.GetVolume()


@pytest.mark.parametrize(
    ("sides", "least", "most"),
    [((1, 1, 1), 0.7, 1.0), ((1, 1, 2), 0.9, 1.1), ((2, 2, 2), 0.9, 1.1), ((3, 3, 3), 0.95, 1.05)],
)
def test_small_lesions_keep_their_size(scene, sides, least, most):
    on = grid(rotation(5, 9, -20), (0.8, 1.1, 1.5), (30, 40, 50))
    probability = np.zeros(on.shape, np.float32)
    probability[tuple(slice(9, 9 + n) for n in sides)] = 0.9
    result = segmentation_result(on, probability)
    node = add_segmentation(result, scene).segmentation
    assert show_in_3d(node)
    assert least < volume_mm3(surface_of(node)) / result.lesions[0].volume_mm3 < most


def test_each_of_many_lesions_has_its_surface(scene):
    on = grid(rotation(5, 9, -20), (1.0, 1.0, 1.0), (30, 40, 50))
    probability = np.zeros(on.shape, np.float32)
    places = [(4 + 6 * a, 4 + 6 * b, 4 + 6 * c) for a in range(4) for b in range(6) for c in range(7)]
    for n, (k, j, i) in enumerate(places):
        probability[k : k + 1 + n % 2, j : j + 1 + n % 3 // 2, i] = 0.9  # of 1, 2 and 4 voxels
    result = segmentation_result(on, probability)
    node = add_segmentation(result, scene).segmentation
    assert show_in_3d(node)
    parts = pieces(surface_of(node))
    assert len(parts) == len(result.lesions) == len(places)
    assert min(np.ptp(points, axis=0).max() for points in parts) > 0.8  # a voxel of 1 mm


def test_it_follows_a_changed_segment_when_asked_again(scene):
    on = GRIDS["LPS"]
    nodes = add_segmentation(segmentation_result(on), scene)
    show_in_3d(nodes.segmentation)
    moved = np.add(LESION, (-9.0, 3.0, -4.0))
    add_segmentation(segmentation_result(on, ball(on, moved)), scene, segmentation_node=nodes.segmentation)
    assert show_in_3d(nodes.segmentation)
    np.testing.assert_allclose(pieces(surface_of(nodes.segmentation))[0].mean(axis=0), moved, atol=0.6)
    hide_in_3d(nodes.segmentation)
    assert not is_shown_in_3d(nodes.segmentation) and surface_of(nodes.segmentation) is None


def test_without_lesions_there_is_nothing_to_see(scene):
    on = GRIDS["LPS"]
    node = add_segmentation(segmentation_result(on, np.zeros(on.shape, np.float32)), scene).segmentation
    assert not show_in_3d(node)


def farthest_mm(poly, other) -> float:
    """The largest distance of a point of one surface from the nearest point of the other, either way."""
    from scipy.spatial import cKDTree
    from vtk.util.numpy_support import vtk_to_numpy

    points, others = (vtk_to_numpy(each.GetPoints().GetData()) for each in (poly, other))
    return max(cKDTree(points).query(others)[0].max(), cKDTree(others).query(points)[0].max())


def scattered(count: int):
    """The result of balls all over a grid, some of which touch."""
    on, rng = grid(rotation(20, 5, -35), (1.0, 0.9, 1.2), (60, 50, 70)), np.random.default_rng(count)
    probability = np.zeros(on.shape, np.float32)
    for kji in rng.uniform(4, np.array(on.shape) - 4, (count, 3)):
        probability = np.maximum(probability, ball(on, on.index_to_ras(kji[::-1]), rng.uniform(1, 4)))
    return segmentation_result(on, probability)


def test_piece_by_piece_it_is_the_same_surface(scene, monkeypatch):
    monkeypatch.setattr("XTLLib.scene.surfaces._PIECE_VOXELS", 500)
    node = add_segmentation(scattered(40), scene).segmentation
    assert show_in_3d(node)
    whole = surface_of(node)
    hide_in_3d(node)
    steps = 0
    for _ in show_in_3d_by_pieces(node):
        steps += 1
        assert not is_shown_in_3d(node), "nothing is shown by halves"
    assert steps > 4 and is_shown_in_3d(node)
    assert surface_of(node).GetNumberOfCells() == whole.GetNumberOfCells()
    assert farthest_mm(surface_of(node), whole) < 2e-3
    assert volume_mm3(surface_of(node)) == pytest.approx(volume_mm3(whole), rel=1e-4)


def test_what_changes_between_two_pieces_is_followed(scene):
    on = GRIDS["LPS"]
    nodes = add_segmentation(segmentation_result(on), scene)
    steps = show_in_3d_by_pieces(nodes.segmentation)
    next(steps), next(steps)
    moved = np.add(LESION, (-9.0, 3.0, -4.0))
    add_segmentation(segmentation_result(on, ball(on, moved)), scene, segmentation_node=nodes.segmentation)
    for _ in steps:
        pass
    np.testing.assert_allclose(pieces(surface_of(nodes.segmentation))[0].mean(axis=0), moved, atol=0.6)
    steps = show_in_3d_by_pieces(nodes.segmentation)
    next(steps)
    scene.RemoveNode(nodes.segmentation)
    assert len(list(steps)) <= 2


def test_piece_by_piece_without_lesions_there_is_nothing_to_see(scene):
    on = GRIDS["LPS"]
    node = add_segmentation(segmentation_result(on, np.zeros(on.shape, np.float32)), scene).segmentation
    assert len(list(show_in_3d_by_pieces(node))) == 1
    assert surface_of(node) is None or surface_of(node).GetNumberOfPoints() == 0
