"""DICOM SR (TID 1500): read back by highdicom and by pydicom alone, in patient space."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from dicom_series import series_array, write_series
from XTLLib.data.case import Case, Finding
from XTLLib.data.dicom import read_series_folder
from XTLLib.errors import InputError, MissingPackageError
from XTLLib.inference.classify import rated_case
from XTLLib.inference.dicom_seg import write_dicom_seg
from XTLLib.inference.dicom_sr import CALLED_SIGNIFICANT, PROBABILITY, write_dicom_sr

hd = pytest.importorskip("highdicom")

TAGS = {
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.1",
    "PatientID": "SECRET-ID",
    "PatientBirthDate": "19700101",
    "StudyDate": "20200202",
    "AcquisitionDate": "20200202",
    "AccessionNumber": "SECRET-A",
    "InstitutionName": "SECRET-I",
    "PatientComments": "SECRET-C",
}
ZONES = {"PZ": "279706003", "TZ": "399384005", "AS": "717025007", "SV": "64739004", "": "41216001"}


@pytest.fixture
def result(tmp_path):
    """Five findings, one a zone and one without, on an oblique series; the second with all that a rating can have."""
    write_series(tmp_path / "series", series_array(), **TAGS)
    volume = read_series_folder(tmp_path / "series")
    voxels = np.array([(4.2, 3, 2), (8, 6, 4), (1, 1, 0), (2, 5.5, 1), (6, 2, 3)])
    places = volume.grid.index_to_ras(voxels)
    findings = tuple(Finding(str(n), tuple(map(float, ras)), zone) for n, (ras, zone) in enumerate(zip(places, ZONES)))
    case = Case("SECRET patient", {"T2W": volume}, "T2W", findings=findings)
    rated = rated_case(case, np.array([0.25, 1 / 3, 0.0, 1.0, 0.5]), "rater")
    full = replace(
        rated.findings[1],
        raw_probability=0.4, interval=(0.3, 0.45), threshold=0.31, is_significant=True, ppv=0.5, npv=0.875,
        warnings=("finding 1: 12 % of its patch lie outside the ADC image",),
    )  # fmt: skip
    plain = replace(rated.findings[0], threshold=0.31, is_significant=False)
    return replace(
        rated,
        findings=(plain, full, *rated.findings[2:]),
        operating_point="Youden",
        notes=("Calibrated by temperature",),
    )


def test_highdicom_finds_each_point_its_probability_and_its_site(result, tmp_path):
    report = hd.sr.srread(write_dicom_sr(result, tmp_path / "r.dcm"))
    groups = report.content.get_planar_roi_measurement_groups()
    assert len(groups) == 5
    for group, rated in zip(groups, result.findings):
        assert group.tracking_identifier == f"finding {rated.finding.identifier}"
        r, a, s = rated.finding.position_ras
        assert group.roi.graphic_type.value == "POINT"
        np.testing.assert_allclose(group.roi.value, [(-r, -a, s)], atol=1e-4)
        assert group.roi.frame_of_reference_uid == TAGS["FrameOfReferenceUID"]
        first = group.get_measurements(name=hd.sr.CodedConcept(PROBABILITY.value, "DCM", PROBABILITY.meaning))[0]
        assert (first.unit.value, first.value) == ("%", pytest.approx(100 * rated.probability, abs=1e-6))
        (site,) = group.finding_sites
        assert (site.value.value, site.value.scheme_designator) == (ZONES[rated.finding.zone], "SCT")
        assert group.finding_type.value == "52988006"


def items(dataset, keyword: str = "ContentSequence"):
    """Every content item at any depth: (name's code, item)."""
    for item in dataset.get(keyword, ()):
        name = item.ConceptNameCodeSequence[0].CodeValue if "ConceptNameCodeSequence" in item else ""
        yield name, item
        yield from items(item)


def test_pydicom_alone_finds_class_interval_operating_point_and_warnings(result, tmp_path):
    import pydicom

    dataset = pydicom.dcmread(write_dicom_sr(result, tmp_path / "r.dcm"))
    assert dataset.SOPClassUID == pydicom.uid.Comprehensive3DSRStorage and dataset.Modality == "SR"
    assert dataset.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (dataset.VerificationFlag, dataset.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    values = [
        float(item.MeasuredValueSequence[0].NumericValue) for name, item in items(dataset) if name == PROBABILITY.value
    ]
    assert values == pytest.approx([25, 100 / 3, 30, 45, 0, 100, 50], abs=1e-5)
    derived = [item.ConceptCodeSequence[0].CodeMeaning for name, item in items(dataset) if name == "121401"]
    assert derived == ["Minimum", "Maximum"]
    called = [
        item.ConceptCodeSequence[0].CodeMeaning for name, item in items(dataset) if name == CALLED_SIGNIFICANT.value
    ]
    assert called == ["No", "Yes"]
    texts = [item.TextValue for _, item in items(dataset) if "TextValue" in item]
    assert "finding 1: 12 % of its patch lie outside the ADC image" in texts
    assert "Operating point: Youden, threshold 0.31" in texts
    assert "Before calibration: 0.4" in texts
    assert texts.count("Calibrated by temperature") == texts.count("Research software, not a medical device") == 5


def test_the_report_names_the_images_and_its_findings_are_those_of_the_segmentation(result, tmp_path):
    import pydicom

    report = pydicom.dcmread(write_dicom_sr(result, tmp_path / "r.dcm"))
    sources = [pydicom.dcmread(file) for file in (tmp_path / "series").iterdir()]
    named = {
        one.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    }
    assert named == {source.SOPInstanceUID for source in sources}
    segmentation = pydicom.dcmread(write_dicom_seg(result, tmp_path / "s.dcm"))
    tracked = [item.UID for name, item in items(report) if name == "112040"]
    assert tracked == [segment.TrackingUID for segment in segmentation.SegmentSequence] and len(set(tracked)) == 5


def test_the_patient_is_named_only_when_asked_for(result, tmp_path):
    import pydicom

    plain = write_dicom_sr(result, tmp_path / "plain.dcm")
    content = plain.read_bytes()
    for secret in (b"SECRET", b"19700101", b"20200202"):
        assert secret not in content
    named = pydicom.dcmread(write_dicom_sr(result, tmp_path / "named.dcm", keep_identity=True))
    assert (named.PatientName, named.PatientID, named.StudyDate) == ("SECRET^NAME", "SECRET-ID", "20200202")
    assert named.StudyInstanceUID == pydicom.dcmread(plain).StudyInstanceUID


def test_what_cannot_be_written_is_told(result, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="without findings"):
        write_dicom_sr(replace(result, findings=()), tmp_path / "r.dcm")
    write_series(tmp_path / "shifted", series_array(), positions_mm=np.arange(5) * 3.0 + 1.0, **TAGS)
    with pytest.raises(InputError, match="voxel grid"):
        write_dicom_sr(result, tmp_path / "r.dcm", tmp_path / "shifted")
    write_series(tmp_path / "no frame", series_array(), **{**TAGS, "FrameOfReferenceUID": ""})
    with pytest.raises(InputError, match="lacks FrameOfReferenceUID") as told:
        write_dicom_sr(result, tmp_path / "r.dcm", tmp_path / "no frame")
    assert "SECRET" not in str(told.value)
    volume = result.case.channels["T2W"]
    elsewhere = replace(result.case, channels={"T2W": replace(volume, name="t2.nii")})
    with pytest.raises(InputError, match="not read from DICOM"):
        write_dicom_sr(replace(result, case=elsewhere), tmp_path / "r.dcm")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingPackageError, match="highdicom"):
        write_dicom_sr(result, tmp_path / "r.dcm")
    assert not (tmp_path / "r.dcm").exists()
