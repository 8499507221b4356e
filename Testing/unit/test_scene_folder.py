"""The output folder of ``xtl segment`` and ``xtl classify``."""

from __future__ import annotations

import csv
import json
import zipfile

import numpy as np
import pytest
from dicom_series import series_array, write_series
from scene_cases import GRIDS, LESION, ball, half_voxel_mm, segmentation_result
from XTLLib.data.case import Case, Finding
from XTLLib.data.dicom import read_series_folder
from XTLLib.data.images import read_volume
from XTLLib.data.volume import Volume, resample
from XTLLib.errors import InputError
from XTLLib.inference.classify import rated_case
from XTLLib.scene import folder as folder_module
from XTLLib.scene.folder import write_result_folder
from XTLLib.scene.session import new_scene
from XTLLib.scene.surfaces import is_shown_in_3d

slicer = pytest.importorskip("slicer")
pytest.importorskip("matplotlib")

FILES = [
    ".xtl-output",
    "labelmap.nii.gz",
    "lesions.json",
    "lesions.tsv",
    "probability.nii.gz",
    "report.html",
    "report.png",
    "scene.mrb",
    "segmentation.seg.nrrd",
]
FURTHER = {"MS lesions": ["statistics.json", "statistics.tsv"], "findings": ["findings.csv"]}


def segmentation(name="oblique"):
    on, other = GRIDS[name], GRIDS["LAS"]
    channels = {"FLAIR": Volume(90 * ball(on), on, "flair.nii"), "T1": Volume(ball(other), other, "t1.nii")}
    return segmentation_result(on, ball(on), Case("P 7", channels, "FLAIR"))


def classification(name="oblique"):
    on = GRIDS[name]
    findings = (Finding("1", LESION, "PZ"), Finding("2", (4.0, -2.0, 14.0), "TZ"))
    case = Case("P 7", {"T2W": Volume(ball(on), on, "t2.nii")}, "T2W", findings=findings)
    return rated_case(case, np.array([0.8, 0.2]), "a bundle")


@pytest.mark.parametrize("make", [segmentation, classification])
@pytest.mark.parametrize("name", ["oblique", "left-handed oblique"])
def test_every_file_is_there_and_agrees(tmp_path, make, name):
    result = make(name)
    out = write_result_folder(result, tmp_path / "out")
    further = FURTHER["MS lesions" if make is segmentation else "findings"]
    assert {file.name for file in out.iterdir()} == {*FILES, *further}
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    label, probability = (read_volume(out / f"{kind}.nii.gz") for kind in ("labelmap", "probability"))
    assert label.grid.matches(result.case.grid, 0.01) and probability.grid.matches(result.case.grid, 0.01)
    np.testing.assert_array_equal(label.array, result.label.array)
    np.testing.assert_allclose(probability.array, result.probability.array, atol=1e-6)
    segments = read_volume(out / "segmentation.seg.nrrd")
    np.testing.assert_array_equal(resample(segments, result.case.grid, "nearest").array > 0, result.label.array > 0)
    with open(out / "lesions.tsv", encoding="utf-8") as stream:
        (row, *_) = csv.DictReader(stream, delimiter="\t")
    position = [float(row[f"{axis}_mm"]) for axis in "RAS"]
    assert np.linalg.norm(np.array(position) - LESION) < half_voxel_mm(result.case.grid)
    assert json.loads((out / "lesions.json").read_text())["bundle"] == "a bundle"
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")


def node_names(mrb, folder):
    with zipfile.ZipFile(mrb) as archive:
        archive.extractall(folder)
    (file,) = folder.rglob("*.mrml")
    with new_scene() as scene:
        scene.SetURL(str(file))
        assert scene.Import()
        kinds = ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLTableNode", "vtkMRMLMarkupsNode")
        return sorted(node.GetName() for node in scene.GetNodes() if any(node.IsA(kind) for kind in kinds))


def test_the_scene_holds_the_input_and_the_results(tmp_path):
    write_result_folder(segmentation(), tmp_path / "ms")
    assert node_names(tmp_path / "ms" / "scene.mrb", tmp_path / "a") == [
        "FLAIR",
        "FLAIR MS lesion label map",
        "FLAIR MS lesion probability",
        "FLAIR MS lesion table",
        "FLAIR MS lesions",
        "T1",
    ]
    write_result_folder(classification(), tmp_path / "prostate")
    assert node_names(tmp_path / "prostate" / "scene.mrb", tmp_path / "b") == [
        "T2W",
        "T2W finding label map",
        "T2W findings",
        "T2W lesion table",
    ]


def test_results_can_gather_in_one_scene(tmp_path):
    with new_scene() as scene:
        write_result_folder(segmentation(), tmp_path / "ms", scene)
        write_result_folder(classification(), tmp_path / "prostate", scene)
    names = node_names(tmp_path / "prostate" / "scene.mrb", tmp_path / "open")
    assert {"FLAIR MS lesions", "T2W finding label map"} <= set(names)


def test_no_lesion_is_a_result_too(tmp_path):
    empty = segmentation_result(GRIDS["LAS"], np.zeros(GRIDS["LAS"].shape, np.float32), segmentation("LAS").case)
    out = write_result_folder(empty, tmp_path / "out")
    assert sorted(file.name for file in out.iterdir()) == FILES + FURTHER["MS lesions"]
    assert len((out / "lesions.tsv").read_text().splitlines()) == 1


def dicom_result(folder, **tags):
    write_series(folder, series_array(), **tags)
    volume = read_series_folder(folder)
    probability = np.zeros(volume.grid.shape, np.float32)
    probability[1:3, 2:5, 3:7] = 0.9
    return segmentation_result(volume.grid, probability, Case("P 7", {"FLAIR": volume}, "FLAIR"))


def test_a_dicom_series_gets_a_dicom_segmentation(tmp_path):
    pydicom, _ = pytest.importorskip("pydicom"), pytest.importorskip("highdicom")
    out = write_result_folder(dicom_result(tmp_path / "dcm", FrameOfReferenceUID="1.2.3.4"), tmp_path / "out")
    dataset = pydicom.dcmread(out / "segmentation.dcm")
    assert dataset.Modality == "SEG" and dataset.pixel_array.sum() == 2 * 3 * 4
    for file in out.iterdir():
        if file.suffix in (".html", ".json", ".tsv"):
            assert "SECRET" not in file.read_text()


def test_where_none_can_be_made_the_report_says_why(tmp_path):
    pytest.importorskip("highdicom")
    out = write_result_folder(dicom_result(tmp_path / "dcm"), tmp_path / "out")
    assert not (out / "segmentation.dcm").exists()
    page = (out / "report.html").read_text()
    assert "No DICOM segmentation was written" in page and "FrameOfReferenceUID" in page


def test_the_statistics_and_the_page_say_the_same_as_the_table(tmp_path):
    result = segmentation()
    out = write_result_folder(result, tmp_path / "out", chain="ImageNet -> MIAS", patient="No. 7")
    with open(out / "statistics.tsv", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream, delimiter="\t")
    assert row["segment"] == "lesion 1"
    assert float(row["volume_mm3"]) == pytest.approx(result.lesions[0].volume_mm3)
    found = [float(row[f"centroid_ras_{axis}"]) for axis in "ras"]
    np.testing.assert_allclose(found, result.lesions[0].position_ras, atol=1e-4)
    page = (out / "report.html").read_text()
    assert "ImageNet -&gt; MIAS" in page and "No. 7" in page and "P 7" not in page


def test_the_saved_scene_shows_the_lesions_in_3d(tmp_path):
    out = write_result_folder(segmentation(), tmp_path / "out")
    with zipfile.ZipFile(out / "scene.mrb") as archive:
        archive.extractall(tmp_path / "open")
    (file,) = (tmp_path / "open").rglob("*.mrml")
    with new_scene() as scene:
        scene.SetURL(str(file))
        assert scene.Import()
        assert is_shown_in_3d(scene.GetFirstNodeByClass("vtkMRMLSegmentationNode"))


def test_somebody_elses_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="files that XTL did not write"):
        write_result_folder(segmentation(), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_failure_leaves_the_earlier_result(tmp_path, monkeypatch):
    out = write_result_folder(segmentation(), tmp_path / "out")
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def fail(scene, path):
        raise InputError("the disk is full", "Free some space")

    monkeypatch.setattr(folder_module, "save_scene", fail)
    with pytest.raises(InputError, match="disk is full"):
        write_result_folder(segmentation("LAS"), out)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
