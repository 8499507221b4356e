"""Findings from masks, segmentations and old point lists; zones; Ktrans maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_cases import GRIDS
from voxel_grids import grids
from XTLLib.data.case import Finding
from XTLLib.data.finding_sources import MOST_REGIONS, regions_as_findings
from XTLLib.data.findings import read_findings
from XTLLib.data.geometry import Grid
from XTLLib.data.images import write_volume
from XTLLib.data.ktrans import read_ktrans
from XTLLib.data.volume import Volume
from XTLLib.data.zones import guess_zones, parse_zone_mapping
from XTLLib.errors import InputError

GRID = GRIDS["oblique"]


def mask_of(*voxels: tuple[int, int, int], grid: Grid = GRID, values=None) -> Volume:
    """A label volume with these voxels (k, j, i) set."""
    array = np.zeros(grid.shape, np.uint8)
    for number, voxel in enumerate(voxels):
        array[voxel] = 1 if values is None else values[number]
    return Volume(array, grid, "mask.nii.gz")


def places(found) -> list[tuple[float, ...]]:
    return [region.finding.position_ras for region in found]


# --- masks ------------------------------------------------------------------------------------


def test_voxels_that_touch_at_a_corner_are_one_lesion_and_the_larger_comes_first():
    mask = mask_of((2, 2, 2), (9, 9, 9), (10, 10, 10), (11, 11, 11), values=(5, 2, 3, 2))
    found = regions_as_findings(mask, significant=True, prefix="L")
    assert np.allclose(places(found), GRID.index_to_ras([[10, 10, 10], [2, 2, 2]]))
    assert [region.finding.identifier for region in found] == ["L1", "L2"]
    assert [region.value for region in found] == [3, 5]
    assert found[0].volume_mm3 == pytest.approx(3 * GRID.voxel_volume_mm3)
    assert found[0].finding.significant is True
    assert len(regions_as_findings(mask, at_least=4)) == 1


def test_the_point_of_a_ring_lies_on_the_ring_not_in_its_empty_middle():
    k, j, i = np.indices(GRID.shape)
    radius = np.hypot(j - 20, i - 22)
    ring = Volume(((np.abs(radius - 9) < 1.2) & (k == 12)).astype(np.uint8), GRID, "ring")
    ((position),) = places(regions_as_findings(ring))
    index = np.round(GRID.ras_to_index(position)).astype(int)
    assert ring.array[tuple(index[::-1])] == 1


@settings(max_examples=30, deadline=None)
@given(grids(smallest=3), st.integers(0, 10**6))
def test_the_way_an_array_is_stored_changes_nothing(grid, seed):
    """The same mask with its axes exchanged and flipped gives the same findings in the same order."""
    array = (np.random.default_rng(seed).random(grid.shape) < 0.2).astype(np.uint8)
    turned = Volume(np.ascontiguousarray(grid.to_along_lps(array)), grid.along_lps(), "turned")
    found, again = (regions_as_findings(volume) for volume in (Volume(array, grid, "m"), turned))
    assert len(found) == len(again)
    for one, other in zip(found, again):
        assert np.allclose(one.finding.position_ras, other.finding.position_ras, atol=1e-6)


def test_the_point_is_the_voxel_nearest_to_the_centroid_by_brute_force():
    rng = np.random.default_rng(4)
    array = np.zeros(GRID.shape, np.uint8)
    array[4:9, 10:20, 12:22] = rng.random((5, 10, 10)) < 0.7
    for region in regions_as_findings(Volume(array, GRID, "m")):
        assert array[tuple(np.round(GRID.ras_to_index(region.finding.position_ras)).astype(int)[::-1])]
    largest = regions_as_findings(Volume(array, GRID, "m"))[0]
    from skimage.measure import label

    numbered = label(array, connectivity=3)
    voxels = np.argwhere(numbered == np.argmax(np.bincount(numbered[numbered > 0])))
    ras = GRID.index_to_ras(voxels[:, ::-1])
    distances = np.linalg.norm(ras - ras.mean(axis=0), axis=1)
    at = np.linalg.norm(largest.finding.position_ras - ras.mean(axis=0))
    assert at == pytest.approx(distances.min(), abs=1e-5)


def test_what_is_no_lesion_mask_is_told():
    array = np.zeros(GRID.shape, np.uint8)
    array[::2, ::2, ::2] = 1
    with pytest.raises(InputError, match="separate regions"):
        regions_as_findings(Volume(array, GRID, "speckle"))
    assert np.count_nonzero(array) > MOST_REGIONS
    with pytest.raises(InputError, match="between whole numbers"):
        regions_as_findings(Volume(array * np.float32(0.5), GRID, "probability"))
    with pytest.raises(InputError, match="NaN"):
        regions_as_findings(Volume(np.full(GRID.shape, np.nan), GRID, "nothing"))
    assert regions_as_findings(mask_of()) == ()


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.mha", "mask.seg.nrrd"])
def test_a_mask_file_is_a_source_of_findings_like_a_table(tmp_path, name):
    write_volume(mask_of((10, 10, 10), (3, 3, 3), (3, 3, 4)), tmp_path / name)
    first, second = read_findings(tmp_path / name)
    assert np.allclose(second.position_ras, GRID.index_to_ras([10, 10, 10]), atol=1e-3)
    assert (first.identifier, second.identifier, first.significant) == ("1", "2", None)
    write_volume(mask_of(), tmp_path / name)
    with pytest.raises(InputError, match="is empty"):
        read_findings(tmp_path / name)


# --- nodes ------------------------------------------------------------------------------------


def segmentation_node(scene, segments: dict[str, np.ndarray], grid: Grid):
    import slicer
    from XTLLib.scene.arrays import oriented_image

    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn")
    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    node.GetSegmentation().SetSourceRepresentationName(binary)
    for name, array in segments.items():
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.AddRepresentation(binary, oriented_image(array, grid))
        node.GetSegmentation().AddSegment(segment, name)
    return node


def test_segments_of_a_segmentation_are_findings_named_after_them(scene):
    import slicer
    from XTLLib.scene.arrays import vtk_matrix
    from XTLLib.scene.findings import findings_from_node

    one, two = mask_of((4, 5, 6)).array, mask_of((8, 9, 10), (15, 20, 25), (15, 20, 26)).array
    node = segmentation_node(scene, {"A": one, "B": two, "empty": np.zeros_like(one)}, GRID)
    found = findings_from_node(node)
    assert [finding.identifier for finding in found] == ["A", "B-1", "B-2"]
    expected = GRID.index_to_ras([[6, 5, 4], [25, 20, 15], [10, 9, 8]])
    assert np.allclose([f.position_ras for f in found][::2], expected[::2], atol=1e-4)
    # Of two voxels as near to their middle, the one that comes first from right to left counts.
    pair = GRID.index_to_ras([[25, 20, 15], [26, 20, 15]])
    assert np.allclose(found[1].position_ras, pair[np.argmax(pair[:, 0])], atol=1e-4)
    move = np.eye(4)
    move[:3, 3] = (5, -6, 7)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(vtk_matrix(move))
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert np.allclose(findings_from_node(node)[0].position_ras, expected[0] + (5, -6, 7), atol=1e-4)
    assert isinstance(node, slicer.vtkMRMLSegmentationNode)
    with pytest.raises(InputError, match="is empty"):
        findings_from_node(segmentation_node(scene, {"empty": np.zeros_like(one)}, GRID))


def test_a_label_map_gives_the_findings_of_its_file(scene, tmp_path):
    from XTLLib.scene.findings import findings_from_node
    from XTLLib.scene.nodes import label_to_node, volume_to_node

    mask = mask_of((10, 10, 10), (3, 3, 3), (3, 3, 4))
    write_volume(mask, tmp_path / "mask.nii.gz")
    from_scene = findings_from_node(label_to_node(mask, "drawn", scene))
    for one, other in zip(from_scene, read_findings(tmp_path / "mask.nii.gz")):
        assert np.allclose(one.position_ras, other.position_ras, atol=1e-3)
    with pytest.raises(InputError, match="is empty"):
        findings_from_node(label_to_node(mask_of(), "none", scene))
    with pytest.raises(InputError, match="which is no point list"):
        findings_from_node(volume_to_node(mask, "an image", scene))


# --- point lists ------------------------------------------------------------------------------


@pytest.mark.parametrize(("system", "sign"), [("LPS", -1), ("RAS", 1), ("0", 1)])
def test_the_point_list_of_older_slicers(tmp_path, system, sign):
    lines = [
        "# Markups fiducial file version = 4.11",
        f"# CoordinateSystem = {system}",
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID",
        "1,10.5,20,-30,0,0,0,1,1,1,0,F-1,in the PZ as seen,",
        "2,1,2,3,0,0,0,1,1,1,0,F-2,same as before,",
    ]
    (tmp_path / "F.fcsv").write_text("\r\n".join(lines))
    first, second = read_findings(tmp_path / "F.fcsv")
    assert first == Finding("F-1", (sign * 10.5, sign * 20.0, -30.0), "PZ")
    assert second.zone == ""


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "# CoordinateSystem = LPS\n1,a,2,3,,,,,,,,F,,", "# CoordinateSystem = X\n"]
)
def test_a_damaged_point_list_is_told(tmp_path, text):
    (tmp_path / "F.fcsv").write_text(text)
    with pytest.raises(InputError, match=r"F\.fcsv"):
        read_findings(tmp_path / "F.fcsv")


# --- zones ------------------------------------------------------------------------------------


def zonal(grid: Grid = GRID) -> Volume:
    """Label 1 in the columns below 20, 2 from 24 on, a gap between."""
    array = np.zeros(grid.shape, np.uint8)
    array[..., :20], array[..., 24:] = 1, 2
    return Volume(array, grid, "zones.nii.gz")


def at(i: float, grid: Grid = GRID) -> tuple[float, float, float]:
    return tuple(float(mm) for mm in grid.index_to_ras([i, 15, 10]))


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_the_zone_is_that_of_the_voxel_or_of_the_nearest_one(name):
    grid = GRIDS[name]
    points = [Finding(str(i), at(i, grid)) for i in (3, 30, 20.8, 22.9, -3.9, -9)]
    told = guess_zones(points, zonal(grid))
    assert [finding.zone for finding in told.findings] == ["PZ", "TZ", "PZ", "TZ", "PZ", ""]
    assert any("no zone within 5 mm" in note for note in told.notes)
    # Column 20.8 lies 1.8 columns of 1 mm beside the last one of label 1.
    assert any("PZ, 1.8 mm away" in note for note in told.notes)


def test_a_given_zone_is_kept_and_a_mapping_is_followed():
    given_zone, unknown = Finding("1", at(3), "AS", True), Finding("2", at(30), "", False)
    told = guess_zones([given_zone, unknown], zonal(), parse_zone_mapping("1=TZ, 2=sv"))
    assert told.findings == (given_zone, Finding("2", at(30), "SV", False))
    assert len(told.notes) == 1


@pytest.mark.parametrize("text", ["", "1", "1=XX", "0=PZ", "a=PZ", "1=PZ,1=TZ", "1=PZ,,2=TZ"])
def test_a_wrong_mapping_is_refused(text):
    with pytest.raises(InputError, match="mapping of zones"):
        parse_zone_mapping(text)


def test_labels_that_nobody_named_are_refused():
    with pytest.raises(InputError, match="holds the label 2"):
        guess_zones([Finding("1", at(3))], zonal(), {1: "PZ"})
    with pytest.raises(InputError, match="holds no label"):
        guess_zones([Finding("1", at(3))], mask_of())
    with pytest.raises(InputError, match="names the zone CZ"):
        guess_zones([Finding("1", at(3))], zonal(), {1: "PZ", 2: "CZ"})


# --- Ktrans -----------------------------------------------------------------------------------


@pytest.fixture
def ktrans(tmp_path):
    """As ProstateX has them: a header and compressed voxels, float, on an own oblique grid of 1.5 mm."""
    grid = Grid((16, 30, 32), GRID.ijk_to_ras @ np.diag([1.5, 1.25, 1.2, 1]))
    values = np.random.default_rng(0).gamma(0.3, 0.4, grid.shape).astype(np.float32)
    path = tmp_path / "ProstateX-0000" / "ProstateX-0000-Ktrans.mhd"
    path.parent.mkdir()
    write_volume(Volume(values, grid, "k"), path)
    assert path.with_suffix(".zraw").is_file()
    return path, Volume(values, grid, "k")


def test_a_ktrans_map_is_read_from_its_header_its_voxels_or_its_folder(ktrans):
    path, expected = ktrans
    for source in (path, path.with_suffix(".zraw"), path.parent, path.parent.parent):
        volume = read_ktrans(source)
        assert np.array_equal(volume.array, expected.array)
        assert volume.grid.matches(expected.grid, 1e-3)


def test_what_is_wrong_with_a_ktrans_map_is_told(ktrans, tmp_path):
    path, expected = ktrans
    write_volume(Volume(expected.array * 0, expected.grid, "k"), path)
    with pytest.raises(InputError, match="no positive value"):
        read_ktrans(path)
    path.with_suffix(".zraw").write_bytes(b"")
    with pytest.raises(InputError, match="zraw is truncated"):
        read_ktrans(path)
    path.with_suffix(".zraw").unlink()
    with pytest.raises(InputError, match="zraw, which does not exist"):
        read_ktrans(path)
    (path.parent / "other-Ktrans.mhd").write_text("")
    with pytest.raises(InputError, match="holds 2 Ktrans maps"):
        read_ktrans(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no Ktrans map"):
        read_ktrans(tmp_path / "empty")
