"""Registrations as transforms over the channels' nodes, and brain masks of other extensions by stand-ins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dicom_series import series_array, write_series
from scene_cases import GRIDS, ball, rotation, segmentation_result
from XTLLib.data.case import Case
from XTLLib.data.dicom import read_series_folder
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError, MissingPackageError, XTLError
from XTLLib.inference.dicom_seg import write_dicom_seg
from XTLLib.inference.lesions import find_lesions
from XTLLib.inference.results import SegmentationResult
from XTLLib.scene.arrays import vtk_matrix
from XTLLib.scene.brain_extraction import brain_modules, extract_brain
from XTLLib.scene.inputs import add_case
from XTLLib.scene.nodes import case_from_nodes, grid_of_node, label_to_node, volume_from_node
from XTLLib.scene.transforms import add_transforms

slicer = pytest.importorskip("slicer")


def rigid(turn: np.ndarray, shift: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, shift
    return matrix


MOVE = rigid(rotation(5, -3, 8), (4.0, -2.0, 7.0))
AGAIN = rigid(rotation(-2, 1, 0), (0.5, 0.0, -1.0))
ABOVE = rigid(rotation(10, 20, 30), (-15.0, 3.0, 1.0))


def case() -> Case:
    flair, t1 = GRIDS["oblique"], GRIDS["LAS"]
    return Case("P", {"FLAIR": Volume(ball(flair), flair, "f"), "T1": Volume(ball(t1), t1, "t")}, "FLAIR")


def result_with(matrix: np.ndarray):
    return replace(segmentation_result(GRIDS["oblique"], case=case()), transforms={"T1": matrix})


def test_a_registered_channel_stands_under_its_transform_and_is_not_hardened(scene):
    nodes = add_case(case(), scene).channels
    before = volume_from_node(nodes["T1"])
    transforms = add_transforms(result_with(MOVE), nodes, scene)
    assert list(transforms) == ["T1"] and transforms["T1"].GetName() == "T1 to FLAIR"
    after = volume_from_node(nodes["T1"])
    assert np.array_equal(after.array, before.array)
    assert np.allclose(after.grid.ijk_to_ras, MOVE @ before.grid.ijk_to_ras)
    own = GRIDS["LAS"].ijk_to_ras  # of the node itself, without what stands above it
    matrix = vtk_matrix(np.eye(4))
    nodes["T1"].GetIJKToRASMatrix(matrix)
    assert np.allclose([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)], own)
    assert nodes["FLAIR"].GetParentTransformNode() is None


def test_a_second_registration_changes_the_transform_of_the_first(scene):
    nodes = add_case(case(), scene).channels
    start = grid_of_node(nodes["T1"]).ijk_to_ras
    first = add_transforms(result_with(MOVE), nodes, scene)["T1"]
    second = add_transforms(result_with(AGAIN), nodes, scene)["T1"]
    assert first.GetID() == second.GetID()
    assert np.allclose(grid_of_node(nodes["T1"]).ijk_to_ras, AGAIN @ MOVE @ start)


def test_a_users_transform_stays_and_moves_what_else_stands_under_it(scene):
    nodes = add_case(case(), scene).channels
    above = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "user's")
    above.SetMatrixTransformToParent(vtk_matrix(ABOVE))
    for node in nodes.values():
        node.SetAndObserveTransformNodeID(above.GetID())
    start = {name: grid_of_node(node).ijk_to_ras for name, node in nodes.items()}
    for matrix, total in ((MOVE, MOVE), (AGAIN, AGAIN @ MOVE)):
        ours = add_transforms(result_with(matrix), nodes, scene)["T1"]
        assert ours.GetParentTransformNode().GetID() == above.GetID()
        assert np.allclose(grid_of_node(nodes["T1"]).ijk_to_ras, total @ start["T1"])
        assert np.allclose(grid_of_node(nodes["FLAIR"]).ijk_to_ras, start["FLAIR"])


def test_a_case_takes_a_brain_node_leaves_optional_channels_out_and_shows_the_mask(scene):
    brain = Volume(ball(GRIDS["LPS"]) > 0.5, GRIDS["LPS"], "brain")
    nodes = add_case(replace(case(), brain=brain), scene)
    assert nodes.brain.GetName() == "brain mask"
    channels = {"FLAIR": nodes.channels["FLAIR"], "T1": None}
    taken = case_from_nodes(channels, "FLAIR", brain_node=nodes.brain, optional=("T1",))
    assert list(taken.channels) == ["FLAIR"]
    assert np.array_equal(taken.brain.array, brain.array) and taken.brain.grid.matches(brain.grid)


def test_the_frame_of_reference_comes_from_the_dicom_database(scene, monkeypatch):
    node = add_case(case(), scene).channels["T1"]
    node.SetAttribute("DICOM.instanceUIDs", "1.1 1.2")
    assert volume_from_node(node).frame_of_reference == ""
    files = {"1.1": "a.dcm"}
    database = SimpleNamespace(
        fileForInstance=files.get, fileValue=lambda file, tag: "9.8.7 " if (file, tag) == ("a.dcm", "0020,0052") else ""
    )
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    assert volume_from_node(node).frame_of_reference == "9.8.7"


def test_a_dicom_segmentation_of_nodes_finds_its_series_in_the_dicom_database(scene, monkeypatch, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    # Two series in one folder, as of files that were imported without being copied.
    shared = {"FrameOfReferenceUID": "1.2.9"}
    for number in (4, 7):
        more = {"SeriesNumber": number, "SeriesInstanceUID": f"1.2.3.{number}", **shared}
        write_series(tmp_path / "series", series_array(), start=20 * number, **more)
    volume = read_series_folder(tmp_path / "series", series_number="7")
    files = {str(pydicom.dcmread(file).SOPInstanceUID): str(file) for file in (tmp_path / "series").iterdir()}
    mine = [uid for uid, file in files.items() if pydicom.dcmread(file).SeriesNumber == 7]
    node = add_case(Case("p", {"FLAIR": replace(volume, name="a node")}, "FLAIR"), scene).reference
    node.SetAttribute("DICOM.instanceUIDs", " ".join(mine))

    def value(file: str, tag: str) -> str:
        return str(pydicom.dcmread(file)[tuple(int(part, 16) for part in tag.split(","))].value)

    def written() -> Path:
        taken = case_from_nodes({"FLAIR": node}, "FLAIR")
        grid = taken.grid
        map_ = Volume((np.indices(grid.shape)[0] == 2).astype(np.float32), grid, "probability")
        result = SegmentationResult(map_, *find_lesions(map_, 0.5), 0.5, taken, "a bundle")
        return write_dicom_seg(result, tmp_path / "s.dcm")

    with pytest.raises(InputError, match="Load it through Slicer's DICOM module, or name the folder"):
        written()  # no database
    database = SimpleNamespace(fileForInstance=files.get, fileValue=value)
    monkeypatch.setattr(slicer, "dicomDatabase", database, raising=False)
    references = pydicom.dcmread(written()).ReferencedSeriesSequence
    assert [one.SeriesInstanceUID for one in references] == ["1.2.3.7"]
    Path(files[mine[1]]).unlink()
    with pytest.raises(InputError, match="does not lie on the voxel grid of the series"):
        written()
    database.fileForInstance = lambda uid: ""  # removed from the database since
    with pytest.raises(InputError, match="database does not know its files"):
        written()


def test_without_a_module_for_brain_extraction_the_remedy_is_told(scene):
    node = add_case(case(), scene).channels["T1"]
    assert brain_modules() == ()
    with pytest.raises(MissingPackageError, match="Install the extension HDBrainExtraction"):
        extract_brain(node)


class HdBet:
    """The calls of HDBrainExtractionToolLogic that are made."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.is_ready = fails, False

    def setupPythonRequirements(self) -> None:
        self.is_ready = True

    def process(self, volume, stripped, segmentation) -> None:
        assert self.is_ready and stripped is None
        if self.fails:
            raise RuntimeError("no memory")
        from XTLLib.scene.arrays import oriented_image

        mask = (slicer.util.arrayFromVolume(volume) > 0.5).astype(np.uint8)
        matrix = vtk_matrix(np.eye(4))
        volume.GetIJKToRASMatrix(matrix)
        own = np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
        grid = replace(grid_of_node(volume), ijk_to_ras=own)
        segment = slicer.vtkSegment()
        name = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
        segment.AddRepresentation(name, oriented_image(mask, grid))
        segmentation.GetSegmentation().SetSourceRepresentationName(name)
        segmentation.GetSegmentation().AddSegment(segment, "brain")


def install(monkeypatch, logic: HdBet) -> None:
    monkeypatch.setattr(slicer, "modules", SimpleNamespace(hdbrainextractiontool=object()), raising=False)
    monkeypatch.setattr(slicer.util, "getModuleLogic", lambda name: logic, raising=False)


@pytest.mark.parametrize("is_moved", [False, True])
def test_the_mask_of_hd_bet_lies_on_the_volume_also_under_a_transform(scene, monkeypatch, is_moved):
    install(monkeypatch, HdBet())
    node = add_case(case(), scene).channels["T1"]
    if is_moved:
        above = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "user's")
        above.SetMatrixTransformToParent(vtk_matrix(ABOVE))
        node.SetAndObserveTransformNodeID(above.GetID())
    count = scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
    brain = extract_brain(node)
    assert np.array_equal(brain.array, ball(GRIDS["LAS"]) > 0.5)
    assert brain.grid.matches(grid_of_node(node)) and "HDBrainExtractionTool" in brain.name
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == count


def test_a_module_that_fails_is_named_with_its_words(scene, monkeypatch):
    install(monkeypatch, HdBet(fails=True))
    node = add_case(case(), scene).channels["T1"]
    with pytest.raises(XTLError, match=r"HDBrainExtractionTool made no brain mask .*RuntimeError: no memory"):
        extract_brain(node)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


@pytest.mark.parametrize("fails", [False, True])
def test_the_mask_of_swiss_skull_stripper_is_read_and_its_nodes_go(scene, monkeypatch, fails):
    node = add_case(case(), scene).channels["T1"]

    def run_sync(module, parameter_node, parameters):
        assert module == "cli" and parameters["patientVolume"] == node.GetID()
        if not fails:
            mask = Volume((ball(GRIDS["LAS"]) > 0.5).astype(np.uint8), GRIDS["LAS"])
            label_to_node(mask, "", scene, scene.GetNodeByID(parameters["patientMaskLabel"]))
        run = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "run")  # slicer-core has none of a CLI module
        run.ErrorsMask, run.GetStatus, run.GetErrorText = 32, lambda: 32 if fails else 8, lambda: "no atlas"
        return run

    monkeypatch.setattr(slicer, "modules", SimpleNamespace(swissskullstripper="cli"), raising=False)
    monkeypatch.setattr(slicer, "cli", SimpleNamespace(runSync=run_sync), raising=False)
    classes = ("vtkMRMLScalarVolumeNode", "vtkMRMLScriptedModuleNode")
    before = [scene.GetNumberOfNodesByClass(name) for name in classes]
    if fails:
        with pytest.raises(XTLError, match=r"SwissSkullStripper made no brain mask .*no atlas"):
            extract_brain(node)
    else:
        assert np.array_equal(extract_brain(node).array, ball(GRIDS["LAS"]) > 0.5)
    assert [scene.GetNumberOfNodesByClass(name) for name in classes] == before
