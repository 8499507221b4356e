"""Scenes and segmentations as files that other software opens."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from scene_cases import GRIDS, LESION, ball, centroid_of_segment, half_voxel_mm, segmentation_result
from XTLLib.data.case import Case
from XTLLib.data.images import read_volume
from XTLLib.data.volume import Volume, resample
from XTLLib.errors import InputError
from XTLLib.scene.export import save_scene, save_segmentation
from XTLLib.scene.hierarchy import hierarchy_of
from XTLLib.scene.inputs import add_case
from XTLLib.scene.nodes import volume_from_node
from XTLLib.scene.segmentation import SEGMENT_ID, add_segmentation
from XTLLib.scene.session import new_scene
from XTLLib.scene.terminology import MS_LESION
from XTLLib.scene.views import add_slice_views

slicer = pytest.importorskip("slicer")


def world_points(volume: Volume) -> np.ndarray:
    """World positions of the foreground voxels (n, 3), in an order that does not depend on the grid."""
    points = volume.grid.index_to_ras(np.argwhere(volume.array > 0)[:, ::-1])
    return points[np.lexsort(np.round(points, 2).T)]


def open_scene(path, folder, scene):
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    (file,) = folder.rglob("*.mrml")
    scene.SetURL(str(file))
    assert scene.Import()


@pytest.mark.parametrize("name", GRIDS)
def test_a_seg_nrrd_holds_the_same_mask_in_world_space(tmp_path, name):
    result = segmentation_result(GRIDS[name])
    path = tmp_path / "a b.seg.nrrd"
    with new_scene() as scene:
        save_segmentation(add_segmentation(result, scene).segmentation, path)
    assert [file.name for file in tmp_path.iterdir()] == ["a b.seg.nrrd"]
    read = read_volume(path)  # by SimpleITK
    np.testing.assert_allclose(world_points(read), world_points(result.label), atol=1e-3)
    np.testing.assert_array_equal(resample(read, GRIDS[name], "nearest").array, result.label.array > 0)


def test_a_seg_nrrd_keeps_names_colours_and_terminology(tmp_path):
    import SimpleITK

    path = tmp_path / "s.seg.nrrd"
    with new_scene() as scene:
        node = add_segmentation(segmentation_result(GRIDS["LPS"]), scene).segmentation
        save_segmentation(node, path)
        color = node.GetSegmentation().GetSegment(SEGMENT_ID).GetColor()
    image = SimpleITK.ReadImage(str(path))
    assert image.GetMetaData("Segment0_Name") == "MS lesion"
    assert image.GetMetaData("Segment0_ID") == SEGMENT_ID
    assert f"TerminologyEntry:{MS_LESION}|" in image.GetMetaData("Segment0_Tags")
    np.testing.assert_allclose([float(c) for c in image.GetMetaData("Segment0_Color").split()], color, atol=1e-5)


def test_a_segmentation_without_lesions_can_be_saved_and_read(tmp_path):
    result = segmentation_result(GRIDS["LAS"], np.zeros(GRIDS["LAS"].shape, np.float32))
    with new_scene() as scene:
        save_segmentation(add_segmentation(result, scene).segmentation, tmp_path / "none.seg.nrrd")
        save_scene(scene, tmp_path / "none.mrb")
    read = read_volume(tmp_path / "none.seg.nrrd")
    assert not read.array.any() and read.grid.matches(GRIDS["LAS"])
    with new_scene() as scene:
        open_scene(tmp_path / "none.mrb", tmp_path / "open", scene)
        assert scene.GetFirstNodeByClass("vtkMRMLTableNode").GetNumberOfColumns() == 8


@pytest.mark.parametrize("name", ["LPS", "left-handed oblique"])
def test_a_scene_is_the_same_after_saving_and_opening(tmp_path, name):
    on = GRIDS[name]
    t1 = Volume(ball(GRIDS["sagittal"]), GRIDS["sagittal"], "t1")
    case = Case("Müller, 7", {"FLAIR": Volume(ball(on) * 90, on, "flair"), "T1": t1}, "FLAIR")
    result = segmentation_result(on, ball(on), case)
    path = tmp_path / "scene.mrb"
    with new_scene() as scene:
        inputs = add_case(case, scene)
        add_slice_views(scene, inputs.reference, LESION)
        add_segmentation(result, scene, inputs.reference)
        save_scene(scene, path)
        classes = sorted(node.GetClassName() for node in scene.GetNodes())
        assert inputs.reference.GetStorageNode().GetFileName() in (None, "")
    assert [file.name for file in tmp_path.iterdir()] == ["scene.mrb"]

    with new_scene() as scene:
        open_scene(path, tmp_path / "open", scene)
        assert sorted(node.GetClassName() for node in scene.GetNodes()) == classes

        def named(name):
            return scene.GetFirstNodeByName(name)

        for node, volume in [
            (named("FLAIR"), case.channels["FLAIR"]),
            (named("T1"), t1),
            (named("FLAIR MS lesion label map"), result.label),
            (named("FLAIR MS lesion probability"), result.probability),
        ]:
            read = volume_from_node(node)
            moved = resample(read, volume.grid, "nearest")  # left-handed grids come back with k flipped
            np.testing.assert_array_equal(moved.array, volume.array)
            assert read.grid.overlap_with(volume.grid) == 1
        segmentation = named("FLAIR MS lesions")
        segment = segmentation.GetSegmentation().GetSegment(SEGMENT_ID)
        assert segment.GetName() == "MS lesion"
        assert np.linalg.norm(centroid_of_segment(segmentation, SEGMENT_ID) - LESION) < half_voxel_mm(on)
        table = named("FLAIR MS lesion table")
        assert table.GetColumnUnitLabel("volume") == "mm³"
        assert slicer.util.arrayFromTableColumn(table, "id").tolist() == [1]
        volume = slicer.util.arrayFromTableColumn(table, "volume")
        np.testing.assert_allclose(volume, result.lesions[0].volume_mm3, rtol=1e-5)
        colors = named("FLAIR MS lesion label map").GetDisplayNode().GetColorNode()
        assert colors.GetColorName(1) == "lesion 1"
        hierarchy = hierarchy_of(scene)
        study = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(table))
        assert hierarchy.GetItemName(hierarchy.GetItemParent(study)) == "Müller, 7"
        layers = scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
        assert layers.GetBackgroundVolumeID() == named("FLAIR").GetID()


def test_names_with_marks_of_xml_survive_saving_and_opening(tmp_path):
    names = ["T1 & T2", "&amp; <b> \"q\" 'a'", "Größe %20; a:b"]
    with new_scene() as scene:
        for name in names:
            slicer.util.updateTableFromArray(scene.AddNewNodeByClass("vtkMRMLTableNode", name), np.arange(3.0), ["a"])
        save_scene(scene, tmp_path / "scene.mrb")
    with new_scene() as scene:
        open_scene(tmp_path / "scene.mrb", tmp_path / "opened", scene)
        tables = [scene.GetNthNodeByClass(number, "vtkMRMLTableNode") for number in range(len(names))]
        assert [table.GetName() for table in tables] == names
        assert [table.GetNumberOfRows() for table in tables] == [3, 3, 3], "their files are found by those names"


def test_the_same_scene_gives_the_same_bytes(tmp_path):
    result = segmentation_result(GRIDS["oblique"])
    with new_scene() as scene:
        nodes = add_segmentation(result, scene, add_case(result.case, scene).reference)
        for folder in (tmp_path / "0", tmp_path / "1"):
            save_scene(scene, folder / "scene.mrb")
            save_segmentation(nodes.segmentation, folder / "s.seg.nrrd")
    for name in ("scene.mrb", "s.seg.nrrd"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()


def test_a_failed_save_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "scene.mrb"
    path.write_text("the old one")
    with new_scene() as scene:
        with pytest.raises(InputError, match=r"\.mrb"):
            save_scene(scene, tmp_path / "scene.zip")
        with pytest.raises(InputError, match=r"\.seg\.nrrd"):
            save_segmentation(scene.AddNewNodeByClass("vtkMRMLSegmentationNode"), tmp_path / "s.nrrd")
        # a volume whose geometry is there but whose voxels are not cannot be written
        broken = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "broken")
        broken.AddDefaultStorageNode("x.unknown")
        broken.GetStorageNode().SetDefaultWriteFileExtension("unknown")
        broken.SetAndObserveImageData(__import__("vtk").vtkImageData())
        with pytest.raises(InputError, match="broken"):
            save_scene(scene, path)
    assert path.read_text() == "the old one"
    assert [file.name for file in tmp_path.iterdir()] == ["scene.mrb"]
