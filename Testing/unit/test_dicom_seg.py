"""DICOM SEG: read back by pydicom and highdicom, in patient space."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from dicom_series import SHAPE, series_array, write_series
from XTLLib.data.case import Case, Finding
from XTLLib.data.dicom import read_series_folder
from XTLLib.data.geometry import LPS_TO_RAS, Grid
from XTLLib.data.volume import Volume
from XTLLib.errors import InputError, MissingPackageError
from XTLLib.inference.classify import rated_case
from XTLLib.inference.dicom_seg import write_dicom_seg
from XTLLib.inference.dicom_source import dicom_series_of
from XTLLib.inference.lesions import find_lesions
from XTLLib.inference.results import SegmentationResult

hd = pytest.importorskip("highdicom")

TAGS = {
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.1",
    "PatientID": "SECRET-ID",
    "PatientBirthDate": "19700101",
    "StudyDate": "20200202",
    "AccessionNumber": "SECRET-A",
}


def result_of(folder, volume: Volume | None = None) -> SegmentationResult:
    """Two lesions, in slices 1-2 and 3, on the grid on which the series was read, or on another of its voxels."""
    volume = volume or read_series_folder(folder)
    upright = np.zeros(SHAPE, np.float32)
    upright[1:3, 2:5, 3:7] = 0.9
    upright[3, 6:8, 1] = 0.8
    points = read_series_folder(folder).grid.index_to_ras(np.argwhere(upright > 0)[:, ::-1])
    probability = np.zeros(volume.grid.shape, np.float32)
    i, j, k = np.rint(volume.grid.ras_to_index(points)).astype(int).T
    probability[k, j, i] = upright[upright > 0]
    map_ = Volume(probability, volume.grid, "probability")
    label, lesions = find_lesions(map_, 0.5)
    case = Case("p", {"FLAIR": Volume(volume.array, volume.grid, str(folder))}, "FLAIR")
    return SegmentationResult(map_, label, lesions, 0.5, case, "a bundle")


def world_points(dataset) -> dict[int, np.ndarray]:
    """Segment number -> world positions (RAS mm, sorted) of its voxels, from what pydicom reads alone."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    rows, columns = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    down, along = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = dataset.pixel_array.reshape(int(dataset.NumberOfFrames), dataset.Rows, dataset.Columns)
    found: dict[int, list[np.ndarray]] = {}
    for frame, about in zip(frames, dataset.PerFrameFunctionalGroupsSequence):
        identified = about if "SegmentIdentificationSequence" in about else shared  # there, when it is one segment
        number = identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        origin = np.array(about.PlanePositionSequence[0].ImagePositionPatient, float)
        row, column = np.nonzero(frame)
        lps = origin + np.outer(column, rows) * along + np.outer(row, columns) * down
        found.setdefault(number, []).append(lps @ LPS_TO_RAS[:3, :3])
    return {number: ordered(np.concatenate(parts)) for number, parts in found.items()}


def ordered(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(np.round(points, 2).T)]


def lesion_points(result, value: int) -> np.ndarray:
    return ordered(result.label.grid.index_to_ras(np.argwhere(result.label.array == value)[:, ::-1]))


@pytest.fixture(params=["as stored", "reversed", "other axes", "left-handed"])
def result(request, tmp_path):
    """A result on an oblique series, on grids as different readers give them."""
    positions = np.arange(SHAPE[0]) * 3.0
    write_series(
        tmp_path / "series", series_array(), positions_mm=positions[:: -1 if "rev" in request.param else 1], **TAGS
    )
    volume = read_series_folder(tmp_path / "series")
    if request.param == "other axes":
        affine = volume.grid.ijk_to_ras[:, [2, 0, 1, 3]]
        array = np.moveaxis(volume.array, 0, 2)  # i runs along the normal
        volume = Volume(array, Grid(array.shape, affine))
    elif request.param == "left-handed":
        affine = volume.grid.ijk_to_ras.copy()
        affine[:3, 3] += affine[:3, 2] * (SHAPE[0] - 1)
        affine[:3, 2] *= -1
        volume = Volume(volume.array[::-1], Grid(SHAPE, affine))
    return result_of(tmp_path / "series", volume)


def test_the_voxels_are_those_of_the_lesions_in_patient_space(result, tmp_path):
    import pydicom

    dataset = pydicom.dcmread(write_dicom_seg(result, tmp_path / "s.dcm"))
    assert dataset.SOPClassUID == pydicom.uid.SegmentationStorage and dataset.Modality == "SEG"
    found = world_points(dataset)
    assert set(found) == {1, 2}
    for lesion in result.lesions:
        np.testing.assert_allclose(found[lesion.identifier], lesion_points(result, lesion.identifier), atol=1e-3)


def test_highdicom_reads_the_same_slice_by_slice(result, tmp_path):
    import pydicom

    series = tmp_path / "series"
    read = hd.seg.segread(write_dicom_seg(result, tmp_path / "s.dcm"))
    plain = read_series_folder(series)
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in sorted(series.iterdir())]
    masks = read.get_pixels_by_source_instance(
        [h.SOPInstanceUID for h in headers], combine_segments=True, assert_missing_frames_are_empty=True
    )
    for header, mask in zip(headers, masks):
        ras = LPS_TO_RAS[:3, :3] @ np.array(header.ImagePositionPatient, float)
        k = round(float(plain.grid.ras_to_index(ras)[2]))
        expected = np.zeros(SHAPE[1:], int)
        if k in (1, 2):
            expected[2:5, 3:7] = 1
        elif k == 3:
            expected[6:8, 1] = 2
        np.testing.assert_array_equal(mask, expected)


def test_without_its_identity_a_file_is_of_the_same_study_and_names_nobody(tmp_path):
    import pydicom

    write_series(tmp_path / "series", series_array(), InstitutionName="SECRET-I", **TAGS)
    path = write_dicom_seg(result_of(tmp_path / "series"), tmp_path / "s.dcm")
    dataset, source = pydicom.dcmread(path), pydicom.dcmread(next((tmp_path / "series").iterdir()))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate"):
        assert dataset[keyword].value == ""
    assert dataset.PatientIdentityRemoved == "YES"
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert dataset[keyword].value == source[keyword].value
    content = path.read_bytes()
    assert b"SECRET" not in content and b"19700101" not in content and b"20200202" not in content


def test_segments_are_coded_and_the_patient_is_that_of_the_series_when_it_is_to_be_kept(tmp_path):
    import pydicom

    write_series(tmp_path / "series", series_array(), **TAGS)
    result = result_of(tmp_path / "series")
    colors = [(0.9, 0.29, 0.23), (0.1, 0.6, 0.9)]
    dataset = pydicom.dcmread(write_dicom_seg(result, tmp_path / "s.dcm", colors=colors, keep_identity=True))
    source = pydicom.dcmread(next((tmp_path / "series").iterdir()))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber", "StudyDate"):
        assert dataset[keyword].value == source[keyword].value
    assert dataset.FrameOfReferenceUID == TAGS["FrameOfReferenceUID"]
    assert dataset.SeriesInstanceUID != source.SeriesInstanceUID and dataset.SegmentationType == "BINARY"
    referenced = {
        one.ReferencedSOPInstanceUID
        for series in dataset.ReferencedSeriesSequence
        for one in series.ReferencedInstanceSequence
    }
    assert referenced == {pydicom.dcmread(file).SOPInstanceUID for file in (tmp_path / "series").iterdir()}
    for number, (segment, color) in enumerate(zip(dataset.SegmentSequence, colors), start=1):
        assert (segment.SegmentNumber, segment.SegmentLabel) == (number, f"MS lesion {number}")
        for sequence, value in (
            (segment.SegmentedPropertyCategoryCodeSequence, "49755003"),
            (segment.SegmentedPropertyTypeCodeSequence, "52988006"),
            (segment.AnatomicRegionSequence, "12738006"),
        ):
            assert (sequence[0].CodeValue, sequence[0].CodingSchemeDesignator) == (value, "SCT")
        assert segment.SegmentAlgorithmType == "AUTOMATIC" and "a bundle" in segment.SegmentAlgorithmName
        shown = hd.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue).to_rgb(clip=True)
        np.testing.assert_allclose(shown, np.multiply(color, 255), atol=2)


def test_all_lesions_can_be_one_segment(tmp_path):
    import pydicom

    write_series(tmp_path / "series", series_array(), **TAGS)
    result = result_of(tmp_path / "series")
    dataset = pydicom.dcmread(write_dicom_seg(result, tmp_path / "s.dcm", segment_per_lesion=False))
    (points,) = world_points(dataset).values()
    np.testing.assert_allclose(points, ordered(np.concatenate([lesion_points(result, n) for n in (1, 2)])), atol=1e-3)


def test_findings_are_segments_of_the_prostate(tmp_path):
    import pydicom

    write_series(tmp_path / "series", series_array(), **TAGS)
    volume = read_series_folder(tmp_path / "series")
    places = [tuple(volume.grid.index_to_ras(ijk).tolist()) for ijk in ((4, 3, 2), (8, 6, 4))]
    findings = tuple(Finding(name, place, "PZ") for name, place in zip("12", places))
    rated = rated_case(Case("p", {"T2W": volume}, "T2W", findings=findings), np.array([0.25, 0.75]), "rater")
    dataset = pydicom.dcmread(write_dicom_seg(rated, tmp_path / "s.dcm"))
    assert [segment.SegmentLabel for segment in dataset.SegmentSequence] == ["finding 1: 0.25", "finding 2: 0.75"]
    assert dataset.SegmentSequence[0].AnatomicRegionSequence[0].CodeMeaning == "Prostate"
    found = world_points(dataset)
    for rated_finding in rated.findings:
        np.testing.assert_allclose(found[rated_finding.row], lesion_points(rated, rated_finding.row), atol=1e-3)


def test_where_the_reference_came_from(tmp_path):
    write_series(tmp_path / "series", series_array(), **TAGS)
    result = result_of(tmp_path / "series")
    assert dicom_series_of(result) == str(tmp_path / "series")
    case = Case("p", {"FLAIR": Volume(result.label.array, result.label.grid, "flair.nii.gz")}, "FLAIR")
    elsewhere = replace(result, case=case)
    assert dicom_series_of(elsewhere) is None
    with pytest.raises(InputError, match="not read from DICOM"):
        write_dicom_seg(elsewhere, tmp_path / "s.dcm")
    assert write_dicom_seg(elsewhere, tmp_path / "s.dcm", tmp_path / "series").is_file()


def test_one_series_of_several_in_a_folder(tmp_path):
    import pydicom
    from XTLLib.data.images import read_image

    series = tmp_path / "both"
    for number in (4, 7):
        uid = f"1.2.3.{number}"
        write_series(series, series_array(), start=20 * number, SeriesNumber=number, SeriesInstanceUID=uid, **TAGS)
    volume = read_image(f"{series}#7")
    probability = np.zeros(SHAPE, np.float32)
    probability[1:3, 2:5, 3:7] = 0.9
    map_ = Volume(probability, volume.grid, "probability")
    result = SegmentationResult(map_, *find_lesions(map_, 0.5), 0.5, Case("p", {"FLAIR": volume}, "FLAIR"), "a bundle")
    dataset = pydicom.dcmread(write_dicom_seg(result, tmp_path / "s.dcm"))
    assert [one.SeriesInstanceUID for one in dataset.ReferencedSeriesSequence] == ["1.2.3.7"]
    with pytest.raises(InputError, match="not one DICOM series"):
        write_dicom_seg(result, tmp_path / "t.dcm", series)


def test_the_highest_b_value_is_meant_as_in_reading(tmp_path):
    import pydicom

    uid = "1.2.3.9"
    for n, b in enumerate((b"50 ", b"800 ")):
        write_series(tmp_path / "dwi", series_array(n), start=20 * n, private_b=b, SeriesInstanceUID=uid, **TAGS)
    dataset = pydicom.dcmread(write_dicom_seg(result_of(tmp_path / "dwi"), tmp_path / "s.dcm"))
    (series,) = dataset.ReferencedSeriesSequence
    named = {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence}
    highest = [pydicom.dcmread(file) for file in sorted((tmp_path / "dwi").iterdir()) if "1-02" in file.name]
    assert named <= {one.SOPInstanceUID for one in highest} and len(highest) == SHAPE[0]


def test_what_cannot_be_written_is_told_without_the_patient(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    write_series(tmp_path / "series", series_array(), **TAGS)
    result = result_of(tmp_path / "series")
    write_series(tmp_path / "shifted", series_array(), positions_mm=np.arange(SHAPE[0]) * 3.0 + 1.0, **TAGS)
    write_series(tmp_path / "short", series_array()[:4], **TAGS)
    write_series(tmp_path / "no frame", series_array())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_series(tmp_path / "odd date", series_array(), **{**TAGS, "StudyDate": "SECRET-DATE"})
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, words in (
            ("shifted", "voxel grid"),
            ("short", "voxel grid"),
            ("no frame", "lacks FrameOfReferenceUID"),
        ):
            with pytest.raises(InputError, match=words) as told:
                write_dicom_seg(result, tmp_path / "s.dcm", tmp_path / name)
            assert "SECRET" not in str(told.value)
        try:
            write_dicom_seg(result, tmp_path / "t.dcm", tmp_path / "odd date")
        except InputError as error:
            assert "SECRET" not in str(error)
        write_dicom_seg(result, tmp_path / "u.dcm")
    assert not (tmp_path / "s.dcm").exists()
    shown = capfd.readouterr()
    assert "SECRET" not in caplog.text + shown.out + shown.err


def test_no_lesion_is_no_segment(tmp_path):
    write_series(tmp_path / "series", series_array(), **TAGS)
    result = result_of(tmp_path / "series")
    empty = replace(result, lesions=(), label=Volume(np.zeros(SHAPE, np.int32), result.label.grid))
    for one_each in (True, False):
        with pytest.raises(InputError, match="without lesions"):
            write_dicom_seg(empty, tmp_path / "s.dcm", segment_per_lesion=one_each)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    write_series(tmp_path / "series", series_array(), **TAGS)
    result = result_of(tmp_path / "series")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingPackageError, match="highdicom"):
        write_dicom_seg(result, tmp_path / "s.dcm")


@pytest.mark.real
@pytest.mark.parametrize("words", ["t2tsetra", "DYNDIST-", "ADC"])
def test_a_real_oblique_series(real_data, tmp_path, words):
    """The human lesion mask of a PI-CAI case as a segmentation of the original DICOM series, read back by highdicom."""
    import pydicom
    from XTLLib.data.images import read_image, read_mask
    from XTLLib.data.volume import resample

    series = next(
        f for f in sorted((real_data / "prostate/dicom/ProstateX/ProstateX-0000").rglob(f"*{words}*")) if f.is_dir()
    )
    volume = read_image(series)
    drawn = read_mask(next((real_data / "prostate/picai").rglob("human_expert/original/11373_1001396*")))
    mask = resample(Volume(drawn.array.astype(np.uint8), drawn.grid), volume.grid, "nearest")
    map_ = Volume(mask.array.astype(np.float32), volume.grid, "probability")
    result = SegmentationResult(map_, *find_lesions(map_, 0.5), 0.5, Case("p", {"T2W": volume}, "T2W"), "by hand")
    dataset = pydicom.dcmread(write_dicom_seg(result, tmp_path / "s.dcm"))
    found = world_points(dataset)
    assert len(found) == len(result.lesions) > 0
    for lesion in result.lesions:
        np.testing.assert_allclose(found[lesion.identifier], lesion_points(result, lesion.identifier), atol=0.02)
