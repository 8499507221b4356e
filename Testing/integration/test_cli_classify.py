"""``xtl classify`` as a user meets it: every kind of input, what it writes, and how it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from prostate_studies import IDENTITY, place_ras, write_study
from XTLLib.bundle.calibration import fit_calibration
from XTLLib.bundle.load import load_bundle
from XTLLib.bundle.write import write_bundle
from XTLLib.cli import main
from XTLLib.data.case import Finding
from XTLLib.data.findings import read_findings
from XTLLib.data.geometry import Grid
from XTLLib.data.images import read_volume, write_volume
from XTLLib.data.prostate_study import read_prostate_study
from XTLLib.data.volume import Volume
from XTLLib.inference.classify import classify_case
from XTLLib.scene.self_test import write_classification_bundle

pytest.importorskip("slicer")

PLACES = {"1": (27.0, 20.0, 2.0), "2": (35.5, 25.0, 4.0)}
FILES = {
    "segmentation.seg.nrrd", "labelmap.nii.gz", "probability.nii.gz", "lesions.tsv", "lesions.json", "scene.mrb",
    "report.png", "report.html", "findings.csv",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a bundle, a DICOM study, the same as a PI-CAI triple, and a table of two findings."""
    folder = tmp_path_factory.mktemp("made")
    write_classification_bundle(folder / "bundle")
    write_study(folder / "study")
    (folder / "picai").mkdir()
    for name, volume in read_prostate_study(folder / "study").case.channels.items():
        write_volume(volume, folder / "picai" / f"10000_1000000_{name.lower()}.mha")
    lines = ["ProxID,fid,pos,zone,ClinSig"]
    for name, voxel in PLACES.items():
        r, a, s = place_ras(*voxel)
        lines.append(f"P-1,{name},{-r} {-a} {s},,{'TRUE' if name == '1' else 'FALSE'}")
    lines.append("P-2,1,0 0 0,PZ,TRUE")
    (folder / "findings.csv").write_text("\n".join(lines) + "\n")
    return folder


def classify(made: Path, out: Path, *more: str, findings: str | None = "findings.csv") -> int:
    arguments = ["--bundle", str(made / "bundle"), "--out", str(out), "--device", "cpu", "--progress", "none"]
    if findings is not None:
        arguments += ["--findings", str(made / findings)]
    if findings == "findings.csv":
        arguments += ["--patient", "P-1"]
    return main(["classify", *arguments, *more])


def rows_of(out: Path) -> list[dict]:
    return json.loads((out / "lesions.json").read_text())["rows"]


def expected(made: Path) -> list[float]:
    """What the library gives for the same points."""
    findings = tuple(Finding(name, place_ras(*voxel)) for name, voxel in PLACES.items())
    case = read_prostate_study(made / "study", findings=findings).case
    rated = classify_case(case, load_bundle(made / "bundle"), device="cpu").findings
    return [one.probability for one in rated]


def test_a_dicom_study_gives_every_file_and_says_what_it_chose(made, tmp_path, capsys):
    pytest.importorskip("highdicom")
    assert classify(made, tmp_path / "out", "--study", str(made / "study"), "--evidence") == 0
    left = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    dicom, evidence = {"segmentation.dcm", "report.dcm"}, {f"evidence/{name}-grad-cam.nii.gz" for name in PLACES}
    assert left == FILES | dicom | evidence | {"submission.csv", ".xtl-output"}
    said = capsys.readouterr().err
    assert "note: T2W: series 1 (t2_tse_tra), the only one of the transverse T2 series" in said
    assert "note: HBV: series 3 (diff_bval)" in said
    assert [row["probability"] for row in rows_of(tmp_path / "out")] == pytest.approx(expected(made), abs=1e-6)
    lines = (tmp_path / "out" / "submission.csv").read_text().splitlines()
    assert lines == ["proxid,clinsig", *(f"P-1,{value:.6f}" for value in expected(made))]
    evidence_map = read_volume(tmp_path / "out" / "evidence" / "1-grad-cam.nii.gz")
    assert evidence_map.grid.matches(read_volume(tmp_path / "out" / "labelmap.nii.gz").grid, 1e-3)


def test_a_triple_of_picai_gives_the_same_and_no_dicom(made, tmp_path, capsys):
    assert classify(made, tmp_path / "out", "--study", str(made / "picai")) == 0
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == FILES | {"submission.csv", ".xtl-output"}
    assert [row["probability"] for row in rows_of(tmp_path / "out")] == pytest.approx(expected(made), abs=1e-6)
    assert "by PI-CAI's file names" in capsys.readouterr().err


def test_findings_csv_can_be_read_again_and_gives_the_same(made, tmp_path):
    study = ("--study", str(made / "picai"))
    assert classify(made, tmp_path / "out", *study) == 0
    again = read_findings(tmp_path / "out" / "findings.csv")
    assert again == tuple(
        Finding(name, tuple(round(mm, 6) for mm in place_ras(*voxel)), "", name == "1")
        for name, voxel in PLACES.items()
    )
    shutil.copy(tmp_path / "out" / "findings.csv", made / "again.csv")
    assert classify(made, tmp_path / "second", *study, findings="again.csv") == 0
    assert not (tmp_path / "second" / "submission.csv").exists()  # nobody was named
    for first, second in zip(rows_of(tmp_path / "out"), rows_of(tmp_path / "second")):
        near = ("R", "A", "S", "probability")
        assert second == {**first, **{name: pytest.approx(first[name], abs=1e-5) for name in near}}


def write_points(path: Path, system: str) -> None:
    """The two points as Slicer writes them: a Markups file, or the format before it."""
    sign = -1.0 if system == "LPS" else 1.0
    points = {name: (sign * r, sign * a, s) for name, (r, a, s) in ((n, place_ras(*v)) for n, v in PLACES.items())}
    if path.suffix == ".json":
        controls = [
            {"id": name, "label": name, "description": "", "position": list(xyz), "positionStatus": "defined"}
            for name, xyz in points.items()
        ]
        path.write_text(json.dumps({"markups": [{"coordinateSystem": system, "controlPoints": controls}]}))
        return
    lines = ["# Markups fiducial file version = 5.0", f"# CoordinateSystem = {system}", "# columns = id,x,y,z,..."]
    lines += [f"vtk_{n},{x},{y},{z},0,0,0,1,1,1,0,{n},,," for n, (x, y, z) in points.items()]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", ["points.mrk.json", "points.fcsv"])
@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_points_of_slicer_in_either_coordinate_system_are_the_same_findings(made, tmp_path, name, system):
    write_points(tmp_path / name, system)
    assert classify(made, tmp_path / "out", "--study", str(made / "picai"), findings=str(tmp_path / name)) == 0
    assert [row["finding"] for row in rows_of(tmp_path / "out")] == list(PLACES)
    assert [row["probability"] for row in rows_of(tmp_path / "out")] == pytest.approx(expected(made), abs=1e-5)


def grid_of(made: Path) -> Grid:
    return read_prostate_study(made / "study").case.grid


def test_regions_of_a_mask_are_findings_and_a_zonal_mask_tells_their_zone(made, tmp_path, capsys):
    grid = grid_of(made)
    mask, zones = (np.zeros(grid.shape, np.uint8) for _ in range(2))
    mask[2, 19:22, 26:29] = 3
    mask[4, 25, 35] = 2
    zones[:, :, 30:], zones[:, :, :30] = 5, 7
    write_volume(Volume(mask, grid), tmp_path / "mask.nii.gz")
    write_volume(Volume(zones, grid), tmp_path / "zones.nii.gz")
    arguments = ("--study", str(made / "picai"), "--zones", str(tmp_path / "zones.nii.gz"))
    labels = ("--zone-labels", "5=PZ,7=AS")
    assert classify(made, tmp_path / "out", *arguments, *labels, findings=str(tmp_path / "mask.nii.gz")) == 0
    rows = rows_of(tmp_path / "out")
    assert [row["zone"] for row in rows] == ["AS", "PZ"]
    for row, voxel in zip(rows, ((27, 20, 2), (35, 25, 4))):
        assert [row[axis] for axis in "RAS"] == pytest.approx(place_ras(*voxel), abs=1e-3)
    assert "note: finding 1: AS, from " in capsys.readouterr().err
    assert classify(made, tmp_path / "no", *arguments, findings=str(tmp_path / "mask.nii.gz")) == 2
    assert "holds the label 5" in capsys.readouterr().err


def test_several_bundles_are_an_ensemble_with_an_interval(made, tmp_path):
    other = ("--bundle", str(made / "bundle"))
    arguments = ("--study", str(made / "picai"), "--views", "3")
    assert classify(made, tmp_path / "out", *other, *arguments) == 0
    for row in rows_of(tmp_path / "out"):
        assert row["probability_low"] < row["probability"] < row["probability_high"]
    document = json.loads((tmp_path / "out" / "lesions.json").read_text())
    assert "untrained-prostate, untrained-prostate" in document["bundle"]


def test_an_operating_point_gives_class_and_predictive_values(made, tmp_path):
    bundle = load_bundle(made / "bundle")
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.45, 0.53, 60)
    fitted = fit_calibration("isotonic", scores, rng.uniform(0.45, 0.53, 60) < scores, [str(n) for n in range(60)], "x")
    write_bundle(
        tmp_path / "calibrated", bundle.network("cpu"), bundle.spec, "classification", patches=bundle.patch_spec,
        name="calibrated", calibration=fitted,
    )  # fmt: skip
    point = fitted.point("sensitivity 0.90")
    command = ["classify", "--bundle", str(tmp_path / "calibrated"), "--study", str(made / "study"), "--patient", "P-1"]
    command += ["--findings", str(made / "findings.csv"), "--operating-point", point.rule, "--progress", "none"]
    assert main([*command, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert json.loads((tmp_path / "out" / "lesions.json").read_text())["operating_point"] == point.rule
    rows = rows_of(tmp_path / "out")
    for row, raw in zip(rows, expected(made)):
        assert row["probability"] == pytest.approx(float(fitted(np.array(raw))), abs=1e-6)
        assert row["threshold"] == pytest.approx(point.threshold)
        assert row["class"] == ("significant" if row["probability"] >= point.threshold else "not significant")
        assert (row["ppv"], row["npv"]) == (pytest.approx(point.ppv), pytest.approx(point.npv))
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"Significant from {point.threshold:.3f} on (sensitivity 0.90)" in page
    with open(tmp_path / "out" / "findings.csv", newline="") as stream:
        assert [line["class"] for line in csv.DictReader(stream)] == [row["class"] for row in rows]


def test_a_datalist_is_rated_study_by_study_and_continued(made, tmp_path, capsys):
    images = {name: f"picai/10000_1000000_{name.lower()}.mha" for name in ("T2W", "ADC", "HBV")}
    lines = ["patient,T2W,ADC,HBV,label,finding,r,a,s"]
    for patient, (name, voxel) in zip(("x", "y"), PLACES.items()):
        r, a, s = place_ras(*voxel)
        lines.append(f"{patient},{images['T2W']},{images['ADC']},{images['HBV']},{int(name == '1')},{name},{r},{a},{s}")
    (made / "cases.csv").write_text("\n".join(lines) + "\n")
    assert main(["data", "csv", str(made / "cases.csv"), "--out", str(made / "cases.json")]) == 0
    capsys.readouterr()
    cohort = ("--datalist", str(made / "cases.json"))
    assert classify(made, tmp_path / "out", *cohort, findings=None) == 0
    told = capsys.readouterr()
    assert "2 findings of 2 of 2 studies rated" in told.out
    with open(tmp_path / "out" / "findings.tsv", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected(made), abs=1e-4)
    assert {path.name for path in (tmp_path / "out" / "x").iterdir()} >= FILES
    assert (tmp_path / "out" / "submission.csv").read_text().splitlines()[1].startswith("x,")
    (made / "picai" / "10000_1000000_hbv.mha").rename(made / "gone.mha")
    try:
        assert classify(made, tmp_path / "out", *cohort, "--resume", findings=None) == 2
        failures = capsys.readouterr().err
        assert failures.count("xtl: error: case ") == 2
        assert "hbv.mha does not exist" in failures
    finally:
        (made / "gone.mha").rename(made / "picai" / "10000_1000000_hbv.mha")
    assert classify(made, tmp_path / "out", *cohort, "--resume", findings=None) == 0


@pytest.mark.parametrize(
    ("more", "findings", "words"),
    [
        (("--study", "picai"), None, "--findings is missing"),
        (("--datalist", "x.json"), "findings.csv", "--findings speaks of one case"),
        (("--study", "picai", "--resume"), "findings.csv", "--resume goes on with the studies of a datalist"),
        (("--volume", "T2W=t2.mha", "--ktrans", "k.mhd"), "findings.csv", "--ktrans goes with --study"),
        (("--study", "picai", "--zone-labels", "1=PZ"), "findings.csv", "--zone-labels without --zones"),
        (("--study", "picai", "--views", "0"), "findings.csv", "views"),
        (("--study", "picai", "--operating-point", "best"), "findings.csv", "has no operating points"),
        (("--study", "nowhere"), "findings.csv", "nowhere does not exist"),
    ],
)
def test_what_does_not_fit_is_one_line_that_says_so(made, tmp_path, capsys, monkeypatch, more, findings, words):
    monkeypatch.chdir(made)
    assert classify(made, tmp_path / "out", *more, findings=findings) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert len(told) == 1
    assert words in told[0]
    assert not (tmp_path / "out").exists()


def test_findings_of_another_patient_of_the_table_are_refused_without_a_name(made, tmp_path, capsys):
    table = (made / "findings.csv").read_text().splitlines()
    mixed = tmp_path / "mixed.csv"
    mixed.write_text("\n".join([*table, table[1].replace("P-1", IDENTITY["PatientID"])]) + "\n")
    named = ("--study", str(made / "study"), "--patient", "P-1")
    assert classify(made, tmp_path / "out", *named, findings=str(mixed)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "are of another patient of the table" in error and "UNMISTAKABLE" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.real
@pytest.mark.parametrize("patient", ["ProstateX-0000", "ProstateX-0001"])
def test_a_real_study_through_the_command_and_through_scene_nodes_gives_the_same(real_data, tmp_path, patient):
    from XTLLib.data.patches import PatchSource
    from XTLLib.scene.findings import findings_to_node
    from XTLLib.scene.nodes import case_from_nodes, volume_to_node
    from XTLLib.scene.session import new_scene

    bundle = load_bundle(write_classification_bundle(tmp_path / "bundle"))
    folder = real_data / "prostate" / "dicom" / "ProstateX" / patient
    table = real_data / "prostate" / "prostatex_csv" / "ProstateX-Findings-Train.csv"
    named = ("--study", str(folder), "--patient", patient)
    assert classify(tmp_path, tmp_path / "out", *named, findings=str(table)) == 0
    case = read_prostate_study(folder, findings=read_findings(table, patient)).case
    with new_scene() as scene:
        nodes = {name: volume_to_node(volume, name, scene) for name, volume in case.channels.items()}
        points = findings_to_node(case.findings, "findings", scene)
        in_scene = case_from_nodes(nodes, "T2W", findings_node=points)
        ours, theirs = PatchSource(case, bundle.patch_spec), PatchSource(in_scene, bundle.patch_spec)
        for one, other in zip(case.findings, in_scene.findings):
            np.testing.assert_allclose(ours.patch(one), theirs.patch(other), atol=1e-5)
        rated = classify_case(in_scene, bundle, device="cpu").findings
    rows = rows_of(tmp_path / "out")
    assert [row["probability"] for row in rows] == pytest.approx([one.probability for one in rated], abs=1e-5)
    for row, one in zip(rows, rated):
        assert [row[axis] for axis in "RAS"] == pytest.approx(one.finding.position_ras, abs=1e-5)


@pytest.mark.real
def test_the_report_of_a_real_study_has_its_finding_at_the_place_of_the_table(real_data, tmp_path):
    hd = pytest.importorskip("highdicom")
    write_classification_bundle(tmp_path / "bundle")
    folder = real_data / "prostate" / "dicom" / "ProstateX" / "ProstateX-0001"
    table = real_data / "prostate" / "prostatex_csv" / "ProstateX-Findings-Train.csv"
    named = ("--study", str(folder), "--patient", "ProstateX-0001")
    assert classify(tmp_path, tmp_path / "out", *named, findings=str(table)) == 0
    with open(table, newline="") as stream:
        (told,) = [row for row in csv.DictReader(stream) if row["ProxID"] == "ProstateX-0001"]
    report = hd.sr.srread(tmp_path / "out" / "report.dcm")
    (group,) = report.content.get_planar_roi_measurement_groups()
    np.testing.assert_allclose(group.roi.value[0], [float(text) for text in told["pos"].split()], atol=1e-4)
    (row,) = rows_of(tmp_path / "out")
    assert group.get_measurements()[0].value == pytest.approx(100 * row["probability"], abs=1e-4)
